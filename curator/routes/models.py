"""Model versions: what there is, what is in service, put one there, go back, retire."""

from __future__ import annotations

from flask import Blueprint, send_file, url_for
from flask.typing import ResponseReturnValue
from flask_babel import gettext as _
from pydantic import BaseModel, Field
from werkzeug.wrappers import Response as AnyResponse

from curator import web
from curator.security import current_user, policy, project
from curator.services import bases, connect, handover, history, lineage, projects, versions
from db.models import Json

bp = Blueprint("models", __name__, url_prefix="/p/<slug>/models")


KEPT = 3  # newest versions that the page does not offer to retire


class PruneForm(BaseModel):
    numbers: list[int] = Field(min_length=1, max_length=1000)


class ReasonForm(BaseModel):
    reason: str = Field("", max_length=2000)


@bp.get("")
@policy("viewer")
def index() -> ResponseReturnValue:
    """List the versions, newest first, and the journal of what was in service."""
    return web.page("models/index.html", **_seen())


@bp.get("/list")
@policy("viewer")
def listed() -> ResponseReturnValue:
    """Answer the list alone, for the page that waits for a version to be loaded."""
    return web.page("models/_list.html", **_seen())


@bp.get("/connect")
@policy("viewer")
def outside() -> ResponseReturnValue:
    """Tell what other programs have to be told, so that what is in service answers them."""
    connection = connect.of_project(web.session(), project(), web.settings())
    return web.page("models/connect.html", connection=connection)


@bp.get("/<int:number>")
@policy("viewer")
def show(number: int) -> ResponseReturnValue:
    """Show a version: where it comes from, its files, and how it is loaded by hand."""
    version = versions.get(web.session(), project(), number)
    return web.page(
        "models/show.html",
        descent=lineage.of_version(web.session(), version),
        base=bases.get(web.session(), version.base_id),
        files=handover.files(version),
        commands=handover.commands(web.session(), version, web.settings()),
        adapter_commands=handover.adapter_commands(web.session(), version, web.settings()),
        only_by_hand=handover.only_by_hand(web.settings()),
    )


@bp.get("/<int:number>/files/<name>")
@policy("lead")
def download(number: int, name: str) -> ResponseReturnValue:
    """Send one of a version's files."""
    version = versions.get(web.session(), project(), number)
    path = handover.file(version, name)
    return send_file(path, "application/octet-stream", as_attachment=True, download_name=f"{path.parent.name}-{name}")


@bp.post("/prune")
@policy("lead")
def prune() -> ResponseReturnValue:
    """Retire the old versions that the page listed."""
    form = web.parse_form(PruneForm)
    versions.prune(web.session(), project(), form.numbers, current_user())
    web.notify(_("Old versions are retired. What they learnt from is kept."))
    return _list()


@bp.post("/<int:number>/promote")
@policy("lead")
def promote(number: int) -> ResponseReturnValue:
    """Put a version into service."""
    form = web.parse_form(ReasonForm)
    version = versions.get(web.session(), project(), number)
    versions.promote(web.session(), project(), version, current_user(), form.reason)
    web.notify(_("Version %(number)d is in service.", number=number))
    return _list()


@bp.post("/roll-back")
@policy("lead")
def roll_back() -> ResponseReturnValue:
    """Put back what was in service before."""
    form = web.parse_form(ReasonForm)
    versions.roll_back(web.session(), project(), current_user(), form.reason)
    web.notify(_("What was in service before is in service again."))
    return _list()


@bp.post("/<int:number>/retire")
@policy("lead")
def retire(number: int) -> ResponseReturnValue:
    """Take a version out of use."""
    versions.retire(web.session(), versions.get(web.session(), project(), number), current_user())
    web.notify(_("Version %(number)d is retired. What it learnt from is kept.", number=number))
    return _list()


@bp.post("/<int:number>/publish")
@policy("lead")
def publish(number: int) -> ResponseReturnValue:
    """Load a version into the runtime, or try that again."""
    versions.request_publish(web.session(), versions.get(web.session(), project(), number), current_user())
    web.notify(_("Version %(number)d is being loaded.", number=number))
    return _list()


def _list() -> AnyResponse:
    return web.fragment("models/_list.html", back=url_for("models.index"), **_seen())


def _seen() -> Json:
    session, where = web.session(), project()
    descents, serving = lineage.of_versions(session, where), projects.in_service(session, where)
    return {
        "descents": descents,
        "milestones": history.milestones(descents, serving.number if serving else None),
        "changes": lineage.changes(session, where),
        "serving": serving,
        "outdated": [version.number for version in versions.outdated(session, where, KEPT)],
        "last": lineage.way_back(session, where),
    }


bp.add_app_template_global(history.dots, "dots")
