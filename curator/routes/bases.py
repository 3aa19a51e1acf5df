"""Base models: choose one, bring one in, have one checked."""

from __future__ import annotations

from flask import Blueprint, url_for
from flask.typing import ResponseReturnValue
from flask_babel import gettext as _
from pydantic import BaseModel, Field
from werkzeug.wrappers import Response as AnyResponse

from curator import web
from curator.security import current_user, policy, project
from curator.services import admission, arrivals, bases, journal, shelf

bp = Blueprint("bases", __name__, url_prefix="/p/<slug>/bases")


class ArrivalForm(BaseModel):
    """Where a base comes from: a name in Ollama's store, or a repository with or without the name of a file."""

    source: str = Field(pattern="^(embedded|ollama|hub)$")
    origin: str = Field("", max_length=300)
    file: str = Field("", max_length=300)


class FileForm(BaseModel):
    path: str = Field(min_length=1, max_length=4000)


class FolderForm(BaseModel):
    folder: str = Field("", max_length=4000)


@bp.get("")
@policy("lead")
def index() -> ResponseReturnValue:
    """List the bases, those on their way, and where more come from."""
    there = shelf.bases(web.session(), project())
    return web.page("bases/index.html", rows=there, arrivals=arrivals.shown(web.session()), offers=shelf.offers(there))


@bp.get("/list")
@policy("lead")
def listed() -> ResponseReturnValue:
    """Answer the list alone, for the page that waits for one to arrive or to be checked."""
    return web.page("bases/_list.html", **_seen())


@bp.post("/<int:base_id>/choose")
@policy("lead")
def choose(base_id: int) -> ResponseReturnValue:
    """Let the project teach this base."""
    base = bases.get(web.session(), base_id)
    bases.choose(web.session(), project(), base)
    journal.note(web.session(), "chose base", base.name, project=project(), user=current_user())
    web.notify(_("%(name)s is the model that is taught from now on.", name=base.name))
    return _list()


@bp.post("/<int:base_id>/check")
@policy("lead")
def check(base_id: int) -> ResponseReturnValue:
    """Have a base checked, or checked again."""
    admission.request(web.session(), bases.get(web.session(), base_id))
    return _list()


@bp.post("/<int:base_id>/folder")
@policy("admin")
def set_folder(base_id: int) -> ResponseReturnValue:
    """Put a full-precision folder beside a base, or take it away."""
    form = web.parse_form(FolderForm)
    bases.set_folder(web.session(), bases.get(web.session(), base_id), form.folder)
    return _list()


@bp.post("")
@policy("lead")
def create() -> ResponseReturnValue:
    """Bring a base in, from Ollama's store, from the hub, or the embedded one."""
    form = web.parse_form(ArrivalForm)
    arrivals.request(web.session(), form.source, form.origin, form.file, current_user())
    return web.go(url_for("bases.index"))


@bp.post("/file")
@policy("admin")
def create_from_file() -> ResponseReturnValue:
    """Bring a base in from a file on this machine; only for admins, who may know what lies there."""
    form = web.parse_form(FileForm)
    arrivals.request(web.session(), "file", form.path, user=current_user())
    return web.go(url_for("bases.index"))


@bp.post("/arrivals/<int:arrival_id>/cancel")
@policy("lead")
def cancel(arrival_id: int) -> ResponseReturnValue:
    """Stop one that is on its way, or put away one that did not arrive."""
    arrivals.cancel(web.session(), arrivals.get(web.session(), arrival_id))
    return _list()


@bp.post("/arrivals/<int:arrival_id>/again")
@policy("lead")
def again(arrival_id: int) -> ResponseReturnValue:
    """Try once more what did not arrive."""
    arrivals.again(web.session(), arrivals.get(web.session(), arrival_id))
    return _list()


def _list() -> AnyResponse:
    return web.fragment("bases/_list.html", back=url_for("bases.index"), **_seen())


def _seen() -> dict[str, object]:
    session = web.session()
    return {"rows": shelf.bases(session, project()), "arrivals": arrivals.shown(session)}
