"""Bringing in logs: upload, look, map, import, follow."""

from __future__ import annotations

from flask import Blueprint, request, url_for
from flask.typing import ResponseReturnValue
from pydantic import BaseModel, Field

from curator import web
from curator.errors import Invalid
from curator.importers import IMPORTERS, fields
from curator.security import current_user, policy, project
from curator.services import journal, sources, uploads

bp = Blueprint("sources", __name__, url_prefix="/p/<slug>/sources")


class ImportForm(BaseModel):
    file: str
    name: str = Field("", max_length=200)
    importer: str | None = None


@bp.get("/")
@policy("viewer")
def index() -> ResponseReturnValue:
    """List what was brought in, and offer to bring in more."""
    return web.page("sources/index.html", sources=sources.recent(web.session(), project()))


@bp.post("/")
@policy("lead")
def upload() -> ResponseReturnValue:
    """Take a file in and show what it holds."""
    file = request.files.get("file")
    if file is None or not file.filename:
        raise Invalid("Please choose a file first.")
    token = uploads.keep(web.settings(), project(), file.stream)
    return web.go(url_for("sources.look", file=token, name=file.filename[:200]))


@bp.get("/new")
@policy("lead")
def look() -> ResponseReturnValue:
    """Show what an uploaded file would bring, with the mapping to change."""
    token, importer = request.args.get("file", ""), request.args.get("importer") or None
    path = uploads.path_of(web.settings(), project(), token)
    mapping = _mapping(request.args)
    return web.page(
        "sources/new.html",
        file=token,
        name=request.args.get("name", ""),
        importer=importer,
        importers=list(IMPORTERS),
        mapping=mapping,
        fields=fields.FIELDS,
        look=uploads.look(path, importer, mapping),
    )


@bp.post("/new")
@policy("lead")
def create() -> ResponseReturnValue:
    """Start the import."""
    form = web.parse_form(ImportForm)
    path = uploads.path_of(web.settings(), project(), form.file)
    mapping = _mapping(request.form)
    source = uploads.begin(
        web.session(), project(), path, form.name or "upload", form.importer, mapping, current_user()
    )
    journal.note(web.session(), "imported", source.name, project=project(), user=current_user())
    return web.go(url_for("sources.show", source_id=source.id))


@bp.get("/<int:source_id>")
@policy("viewer")
def show(source_id: int) -> ResponseReturnValue:
    """Show how an import goes and what became of it."""
    return web.page("sources/show.html", source=sources.get(web.session(), project(), source_id))


@bp.get("/<int:source_id>/status")
@policy("viewer")
def status(source_id: int) -> ResponseReturnValue:
    """Answer the part of the page that changes while the import runs."""
    return web.page("sources/_status.html", source=sources.get(web.session(), project(), source_id))


def _mapping(values: dict[str, str]) -> dict[str, str]:
    """Read the fields named `map.<field>` that are not left to be found out."""
    return {name.removeprefix("map."): value for name, value in values.items() if name.startswith("map.") and value}
