"""The first page: the projects a person belongs to, and whether the app is well."""

from __future__ import annotations

from flask import Blueprint, redirect, url_for
from flask.typing import ResponseReturnValue
from pydantic import BaseModel, Field
from sqlalchemy import text

from curator import web
from curator.security import current_user, policy
from curator.services import counts, journal, projects

bp = Blueprint("home", __name__)


class ProjectForm(BaseModel):
    name: str = Field(min_length=1, max_length=120)


@bp.get("/")
@policy("member")
def index() -> ResponseReturnValue:
    """List the projects; with a single one, go straight there."""
    mine = projects.visible(web.session(), current_user())
    if len(mine) == 1 and not current_user().is_admin:
        return redirect(url_for("projects.show", slug=mine[0].slug), 303)
    return web.page("home/index.html", projects=mine, counts=counts.of_all(web.session(), mine))


@bp.post("/projects")
@policy("admin")
def create() -> ResponseReturnValue:
    """Add a project."""
    form = web.parse_form(ProjectForm)
    project = projects.create(web.session(), form.name, creator=current_user())
    journal.note(web.session(), "created project", project.slug, project=project, user=current_user())
    return web.go(url_for("projects.settings", slug=project.slug))


@bp.get("/healthz")
@policy("public")
def health() -> ResponseReturnValue:
    """Answer that the web process and its database work."""
    web.session().connection().execute(text("SELECT 1"))
    return {"ok": True}
