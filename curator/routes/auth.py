"""Signing in and out, the one-time links, and how a person likes their pages."""

from __future__ import annotations

from flask import Blueprint, redirect, request, url_for
from flask.typing import ResponseReturnValue
from flask_babel import gettext as _
from pydantic import BaseModel

from curator import security, web
from curator.security import policy
from curator.services import accounts, journal, keys

bp = Blueprint("auth", __name__)


class SignInForm(BaseModel):
    login: str
    password: str
    next: str = ""


class SetUpForm(BaseModel):
    login: str
    name: str
    password: str


class PreferenceForm(BaseModel):
    language: str | None = None
    theme: str | None = None


class KeysForm(BaseModel):
    keys: dict[str, str] = {}
    single_keys: bool = False


class PasswordForm(BaseModel):
    password: str


@bp.get("/sign-in")
@policy("public")
def sign_in() -> ResponseReturnValue:
    """Ask for name and password."""
    return web.page("auth/sign_in.html", next=request.args.get("next", ""), failed="failed" in request.args)


@bp.post("/sign-in")
@policy("public")
def open_session() -> ResponseReturnValue:
    """Check name and password; a failed try is counted, so it is answered with a page and not an error."""
    form = web.parse_form(SignInForm)
    user = accounts.authenticate(web.session(), form.login, form.password, request.remote_addr or "")
    if user is None:
        return redirect(url_for("auth.sign_in", failed="", next=form.next or None), 303)
    return security.sign_in(redirect(web.safe_path(form.next), 303), user)


@bp.post("/sign-out")
@policy("member")
def close_session() -> ResponseReturnValue:
    """End this browser's session."""
    return security.sign_out(redirect(url_for("auth.sign_in"), 303))


@bp.get("/link/<token>")
@policy("public")
def link(token: str) -> ResponseReturnValue:
    """Show the one-time link's page; opening it alone signs nobody in, so a preview cannot spend it."""
    good = accounts.link_is_good(web.session(), token, "sign-in")
    return web.page("auth/link.html", token=token, good=good)


@bp.post("/link/<token>")
@policy("public")
def spend_link(token: str) -> ResponseReturnValue:
    """Sign in whoever the link was made for."""
    spent = accounts.use_link(web.session(), token, "sign-in")
    user = accounts.get(web.session(), spent.user_id or 0)
    journal.note(web.session(), "signed in by link", user=user)
    return security.sign_in(redirect(url_for("home.index"), 303), user)


@bp.get("/setup/<token>")
@policy("public")
def set_up(token: str) -> ResponseReturnValue:
    """Ask for the first admin's name and password."""
    return web.page("auth/set_up.html", token=token, good=accounts.link_is_good(web.session(), token, "setup"))


@bp.post("/setup/<token>")
@policy("public")
def make_admin(token: str) -> ResponseReturnValue:
    """Make the first admin and sign them in."""
    form = web.parse_form(SetUpForm)
    user = accounts.set_up(web.session(), token, form.login, form.name, form.password)
    return security.sign_in(redirect(url_for("home.index"), 303), user)


@bp.get("/account")
@policy("member")
def account() -> ResponseReturnValue:
    """Show what a person can change about themselves."""
    return web.page("auth/account.html")


@bp.post("/account/password")
@policy("member")
def change_password() -> ResponseReturnValue:
    """Set a new password; every other session ends, this one starts afresh."""
    form = web.parse_form(PasswordForm)
    user = security.current_user()
    accounts.set_password(web.session(), user, form.password)
    return security.sign_in(redirect(url_for("home.index"), 303), user)


@bp.post("/account/keys")
@policy("member")
def set_keys() -> ResponseReturnValue:
    """Give the desk's actions this person's keys, or switch single keys off."""
    form = web.parse_form(KeysForm)
    keys.remap(security.current_user(), form.keys, single_keys=form.single_keys)
    web.notify(_("Saved."))
    return redirect(url_for("auth.account"), 303)


@bp.post("/preferences")
@policy("public")
def prefer() -> ResponseReturnValue:
    """Remember language and theme in this browser."""
    form = web.parse_form(PreferenceForm)
    answer = redirect(web.came_from(), 303)
    for name, value in form.model_dump(exclude_none=True).items():
        answer.set_cookie(name, value[:16], max_age=31_536_000, samesite="Lax", secure=web.settings().secure_cookies)
    return answer
