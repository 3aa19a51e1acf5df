"""What every route uses: the request's session and its commit rule, forms, pages, fragments, error answers."""

from __future__ import annotations

from typing import Any, TypeVar, cast

from flask import Flask, Response, current_app, flash, g, make_response, redirect, render_template, request, url_for
from flask_babel import gettext
from flask_wtf.csrf import CSRFError
from pydantic import BaseModel, ValidationError
from sqlalchemy import Engine
from sqlalchemy.exc import DBAPIError
from sqlmodel import Session
from werkzeug.exceptions import HTTPException
from werkzeug.wrappers import Response as AnyResponse

from curator import forms
from curator.errors import DISK_FULL, CuratorError, Invalid
from curator.settings import Settings
from curator.words import WORDS
from db.session import new_session

READS = ("GET", "HEAD", "OPTIONS")
F = TypeVar("F", bound=BaseModel)


def settings() -> Settings:
    """Answer how this installation runs."""
    return cast("Settings", current_app.extensions["curator.settings"])


def engine() -> Engine:
    """Answer the database; for streams, which outlive the request's session."""
    return cast("Engine", current_app.extensions["curator.engine"])


def session() -> Session:
    """Answer the request's database session, opened at first use; a reading request cannot write."""
    if "session" not in g:
        g.session = new_session(engine(), write=request.method not in READS)
    return g.session


def is_htmx() -> bool:
    """Tell whether htmx asks, which wants a fragment and not a page."""
    return request.headers.get("HX-Request") == "true"


def parse_form(kind: type[F]) -> F:
    """Read the request's form into a pydantic model, or raise Invalid naming the field.

    Lists are read from repeated fields, dicts from fields called `name.key`; an empty text for a field that may be
    absent means absent.
    """
    form = request.form
    values: dict[str, Any] = {}  # raw form values, validated below
    for name, field in kind.model_fields.items():
        if "dict" in str(field.annotation):
            values[name] = {
                key[len(name) + 1 :]: form[key].replace("\r\n", "\n") for key in form if key.startswith(f"{name}.")
            }
        elif "list" in str(field.annotation):
            values[name] = form.getlist(name)
        elif name in form and not (form[name] == "" and not field.is_required()):
            values[name] = form[name].replace("\r\n", "\n").replace("\0", "")
    try:
        return kind.model_validate(values)
    except ValidationError as error:
        field, problem = forms.first_problem(error)
        raise Invalid("Please check “%(field)s”: %(problem)s.", field=field, problem=problem) from error


def page(template: str, **context: Any) -> str:  # whatever the template needs
    """Render a whole page."""
    return render_template(template, **context)


def fragment(template: str, *, back: str | None = None, **context: Any) -> AnyResponse:  # as page()
    """Answer a POST: the fragment for htmx, a 303 to `back` (or where they came from) without JavaScript."""
    if not is_htmx():
        return redirect(back or came_from(), 303)
    html = render_template(template, **context)
    if "notice" in g:
        html += render_template("_notice.html", **g.notice)
    return make_response(html)


def go(target: str) -> AnyResponse:
    """Send the browser to another page of ours, with or without htmx."""
    if is_htmx():
        if "notice" in g:
            flash(g.notice["message"])
        return Response("", 200, {"HX-Redirect": target})
    return redirect(target, 303)


def notify(message: str, *, undo: str | None = None) -> None:
    """Tell the person what just happened, in the page's status line; `undo` is where to POST to take it back."""
    if is_htmx():
        g.notice = {"message": message, "undo": undo}
    else:
        flash(message)


def came_from() -> str:
    """Answer the page of ours the person came from, or home."""
    return request.referrer if (request.referrer or "").startswith(request.host_url) else url_for("home.index")


def safe_path(target: str | None) -> str:
    """Answer a path on this site, or home: what an address says is never trusted to leave it.

    Browsers leave tabs and line ends out of an address, so that `/<tab>/x` would be `//x` to them.
    """
    if target and target.startswith("/") and not target.startswith(("//", "/\\")) and target.isprintable():
        return target
    return url_for("home.index")


def fail(sentence: str, status: int) -> AnyResponse:
    """Answer an error: a notice above the untouched page for htmx, a whole page otherwise."""
    if is_htmx():
        headers = {"HX-Retarget": "#problem", "HX-Reswap": "outerHTML"}
        return make_response(render_template("_problem.html", sentence=sentence), status, headers)
    return make_response(render_template("error.html", sentence=sentence, status=status), status)


def _settle(answer: Response) -> AnyResponse:
    """Commit below 400, roll back otherwise; a commit that the database refuses is answered as what it is."""
    if "session" not in g:
        return answer
    try:
        if answer.status_code < 400 and request.method not in READS:
            g.session.commit()
        else:
            g.session.rollback()
    except DBAPIError as error:
        g.session.rollback()
        return _database_error(error)
    return answer


def _close(_error: BaseException | None) -> None:
    held = g.pop("session", None)
    if held is not None:
        held.close()


def _curator_error(error: CuratorError) -> AnyResponse:
    values = {
        name: gettext(value) if isinstance(value, str) and value in WORDS else value
        for name, value in error.values.items()
    }
    return fail(gettext(error.message, **values), error.status)


def _database_error(error: DBAPIError) -> AnyResponse:
    current_app.logger.error("the database refused", exc_info=error)
    g.setdefault("user", None)  # the page of the error asks the database nothing more
    text = str(error.orig).lower()
    if "full" in text or "disk i/o" in text:
        return _disk_full()
    if "locked" in text or "busy" in text:
        return fail(gettext("The database was busy for too long. Please try once more."), 503)
    return fail(gettext("Something went wrong here and was logged. Nothing saved before is lost."), 500)


def _disk_full() -> AnyResponse:
    return fail(gettext("The disk is full. Nothing saved before is lost; make room and save again."), 507)


def _system_error(error: OSError) -> AnyResponse:
    """Answer a file that could not be written, such as an upload."""
    if error.errno not in DISK_FULL:
        return _crash(error)
    current_app.logger.error("the disk is full", exc_info=error)
    return _disk_full()


def _too_large_a_number(_error: OverflowError) -> AnyResponse:
    """Answer an id beyond what a database counts to: whatever it names is not there."""
    return fail(gettext("There is no such page."), 404)


def _http_error(error: HTTPException) -> AnyResponse:
    sentences = {
        404: gettext("There is no such page."),
        405: gettext("This page cannot be asked that way."),
        413: gettext("That is too large to take in at once."),
        403: gettext("You may not do this."),
    }
    return fail(sentences.get(error.code or 500, error.description or ""), error.code or 500)


def _csrf_error(_error: CSRFError) -> AnyResponse:
    return fail(
        gettext("This page was open too long. Please reload it and try again; what you typed is still here."), 400
    )


def _crash(error: Exception) -> AnyResponse:
    current_app.logger.error("unexpected error", exc_info=error)
    return fail(gettext("Something went wrong here and was logged. Nothing saved before is lost."), 500)


def install(app: Flask) -> None:
    """Put sessions and error answers on an app."""
    app.after_request(_settle)
    app.teardown_request(_close)
    app.register_error_handler(CuratorError, _curator_error)
    app.register_error_handler(DBAPIError, _database_error)
    app.register_error_handler(OSError, _system_error)
    app.register_error_handler(OverflowError, _too_large_a_number)
    app.register_error_handler(CSRFError, _csrf_error)
    app.register_error_handler(HTTPException, _http_error)
    if not app.testing:
        app.register_error_handler(500, _crash)
