"""Accounts, for admins: add somebody, hand out a sign-in link, shut somebody out."""

from __future__ import annotations

from flask import Blueprint, url_for
from flask.typing import ResponseReturnValue
from pydantic import BaseModel

from curator import web
from curator.errors import Forbidden
from curator.security import current_user, policy
from curator.services import accounts, journal

bp = Blueprint("people", __name__, url_prefix="/people")
LINK_MINUTES = 7 * 24 * 60


class PersonForm(BaseModel):
    login: str
    name: str = ""


class DisableForm(BaseModel):
    disabled: bool


@bp.get("/")
@policy("admin")
def index() -> ResponseReturnValue:
    """List everyone."""
    return web.page("people/index.html", people=accounts.people(web.session()), link="")


@bp.post("/")
@policy("admin")
def create() -> ResponseReturnValue:
    """Add a person and show the link they come in by; the page is the answer, since the link is shown once."""
    form = web.parse_form(PersonForm)
    user = accounts.create_user(web.session(), form.login, form.name)
    journal.note(web.session(), "added person", user.login, user=current_user())
    return _with_link(user.id or 0)


@bp.post("/<int:user_id>/link")
@policy("admin")
def link(user_id: int) -> ResponseReturnValue:
    """Show a fresh sign-in link for somebody."""
    return _with_link(user_id)


@bp.post("/<int:user_id>/disabled")
@policy("admin")
def disable(user_id: int) -> ResponseReturnValue:
    """Shut a person out at once, or let them in again."""
    form = web.parse_form(DisableForm)
    if user_id == current_user().id:
        raise Forbidden("You cannot shut yourself out; ask another admin.")
    person = accounts.get(web.session(), user_id)
    accounts.disable(web.session(), person, disabled=form.disabled)
    journal.note(web.session(), "disabled" if form.disabled else "enabled", person.login, user=current_user())
    return web.go(url_for("people.index"))


def _with_link(user_id: int) -> str:
    person = accounts.get(web.session(), user_id)
    token = accounts.make_link(web.session(), "sign-in", person, minutes=LINK_MINUTES)
    address = web.settings().address + url_for("auth.link", token=token)
    return web.page("people/index.html", people=accounts.people(web.session()), link=address, person=person)
