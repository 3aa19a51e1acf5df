"""Who is asking and whether they may: a policy on every endpoint, sessions, CSRF, security headers."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Literal, TypeVar

from flask import Flask, Response, abort, current_app, g, redirect, request, url_for
from flask_wtf import CSRFProtect
from sqlalchemy.exc import DBAPIError
from werkzeug.wrappers import Response as AnyResponse

from curator import web
from curator.errors import Forbidden, NotFound
from curator.services import accounts, projects
from db.models import LoginSession, Project, User, utc_now
from db.session import open_session

COOKIE = "curator_session"
Policy = Literal["public", "member", "viewer", "reviewer", "lead", "admin"]
View = TypeVar("View", bound=Callable[..., Any])  # any view function

csrf = CSRFProtect()

HEADERS = {
    "Content-Security-Policy": (
        "default-src 'self'; img-src 'self' data:; object-src 'none'; base-uri 'none'; "
        "frame-ancestors 'none'; form-action 'self'"
    ),
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "same-origin",
    "Cross-Origin-Opener-Policy": "same-origin",
}


def policy(name: Policy) -> Callable[[View], View]:
    """Declare who may call an endpoint.

    `public`: anybody. `member`: anybody signed in. `viewer`, `reviewer`, `lead`: that role or a higher one in
    the project of the URL. `admin`: an admin. An endpoint without a policy is refused, and fails a test.
    """

    def mark(view: View) -> View:
        view.__dict__["policy"] = name
        return view

    return mark


def policy_of(app: Flask, endpoint: str) -> Policy | None:
    """Answer the policy an endpoint declares."""
    return "public" if endpoint == "static" else getattr(app.view_functions.get(endpoint), "policy", None)


def current_user() -> User:
    """Answer who is signed in; only for endpoints whose policy is not public."""
    user = visitor()
    if user is None:
        raise Forbidden("Please sign in.")
    return user


def visitor() -> User | None:
    """Answer who is signed in, or None."""
    if "user" not in g:
        token = request.cookies.get(COOKIE, "")
        held = accounts.session_of(web.session(), token) if token else None
        g.user = held[0] if held else None
        if held and held[1].seen_at < utc_now() - accounts.TOUCH_EVERY:
            _touch(held[1])
    return g.user


def _touch(held: LoginSession) -> None:
    """Note that a session is in use; a full or busy database is no reason not to show a page."""
    if request.method not in web.READS:
        accounts.touch(web.session(), held)
        return
    try:
        with open_session(web.engine(), write=True) as own:
            accounts.touch(own, held)
    except DBAPIError as error:
        current_app.logger.warning("a session could not be prolonged: %s", error.orig)


def project() -> Project:
    """Answer the project of the URL; the policy has checked that its visitor belongs there."""
    return g.project


def role() -> str | None:
    """Answer the visitor's role in the project of the URL."""
    return g.get("role")


def may(needed: Policy) -> bool:
    """Tell templates whether the visitor has at least this role here."""
    return accounts.RANKS.get(g.get("role") or "", 0) >= accounts.RANKS[needed]


def sign_in(answer: AnyResponse, user: User) -> AnyResponse:
    """Start a fresh session for a person and put its cookie on the answer."""
    answer.set_cookie(
        COOKIE,
        accounts.sign_in(web.session(), user),
        max_age=int(accounts.ABSOLUTE.total_seconds()),
        httponly=True,
        samesite="Lax",
        secure=web.settings().secure_cookies,
    )
    return answer


def sign_out(answer: AnyResponse) -> AnyResponse:
    """End the session of this browser."""
    accounts.sign_out(web.session(), request.cookies.get(COOKIE, ""))
    answer.delete_cookie(COOKIE)
    return answer


def _enforce() -> AnyResponse | None:
    if request.endpoint is None:
        return None  # no such page: Flask answers 404
    needed = policy_of(current_app, request.endpoint)
    if needed is None:
        abort(403)
    if needed == "public":
        return None
    user = visitor()
    if user is None:
        return _to_sign_in()
    slug = g.pop("slug", None)
    if slug is not None:
        g.project = projects.by_slug(web.session(), slug)
        g.role = accounts.role_in(web.session(), user, g.project)
        if g.role is None:
            raise NotFound("There is no such project, or it is not yours.")
    elif user.is_admin:
        g.role = "admin"
    if needed != "member" and not may(needed):
        raise Forbidden("Your role does not allow this. Ask the lead of the project.")
    return None


def _to_sign_in() -> AnyResponse:
    target = url_for("auth.sign_in", next=request.full_path.rstrip("?") if request.method == "GET" else None)
    if web.is_htmx():
        return Response("", 401, {"HX-Redirect": target})
    return redirect(target, 303)


def _headers(answer: Response) -> Response:
    for name, value in HEADERS.items():
        answer.headers.setdefault(name, value)
    if request.endpoint != "static":
        answer.headers.setdefault("Cache-Control", "no-store")
    return answer


def install(app: Flask) -> None:
    """Put the guards on an app."""
    csrf.init_app(app)
    app.before_request(_enforce)
    app.after_request(_headers)
    app.context_processor(lambda: {"visitor": visitor, "may": may, "project": g.get("project")})

    @app.url_value_preprocessor
    def _take_slug(_endpoint: str | None, values: dict[str, Any] | None) -> None:  # Flask's own type
        if values and "slug" in values:
            g.slug = g.here = values.pop("slug")

    @app.url_defaults
    def _give_slug(endpoint: str, values: dict[str, Any]) -> None:  # Flask's own type
        if "slug" not in values and "here" in g and app.url_map.is_endpoint_expecting(endpoint, "slug"):
            values["slug"] = g.here
