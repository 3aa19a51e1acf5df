"""One project: today's page and its settings."""

from __future__ import annotations

from flask import Blueprint, url_for
from flask.typing import ResponseReturnValue
from flask_babel import gettext as _
from pydantic import BaseModel, Field

from curator import web
from curator.security import current_user, policy, project
from curator.services import accounts, bases, counts, journal, lineage, projects, reasons, runs

bp = Blueprint("projects", __name__, url_prefix="/p/<slug>")
RECENT = 3


class SettingsForm(BaseModel):
    name: str = Field(min_length=1, max_length=120)
    guidelines: str = ""
    system_prompt: str = ""
    prompt_style: str = Field("question", pattern="^(question|passages)$")
    base_id: int | None = None
    reviews_needed: int | None = Field(None, ge=1, le=3)
    reason_key: list[str] = []
    reason_place: list[str] = []
    reason_en: list[str] = []
    reason_zh: list[str] = []

    def reason_rows(self) -> list[reasons.Row] | None:
        """Answer the reasons as they were typed, None where the form had none; a place that is no number is last."""
        rows = zip(self.reason_key, self.reason_place, self.reason_en, self.reason_zh, strict=False)
        return [
            reasons.Row(key, int(place) if place.isdecimal() else reasons.MOST, en, zh) for key, place, en, zh in rows
        ] or None


class RoleForm(BaseModel):
    user_id: int
    role: str = Field("", pattern="^(|viewer|reviewer|lead)$")


@bp.get("/")
@policy("viewer")
def show() -> ResponseReturnValue:
    """Show where the project stands and what comes next."""
    session = web.session()
    return web.page(
        "projects/show.html",
        counts=counts.of(session, project()),
        readiness=runs.readiness(session, project(), web.settings()),
        runs=runs.recent(session, project())[:RECENT],
        numbers=lineage.numbers(session, project()),
        run_numbers=lineage.run_numbers(session, project()),
        version=projects.in_service(session, project()),
    )


@bp.get("/settings")
@policy("lead")
def settings() -> ResponseReturnValue:
    """Show what a lead can set."""
    session = web.session()
    return web.page(
        "projects/settings.html",
        bases=[(base.id, base.name) for base in bases.all_bases(session)],
        people=accounts.people(session),
        roles=accounts.roles_of(session, project()),
        places=range(1, reasons.MOST + 1),
    )


@bp.post("/settings")
@policy("lead")
def save() -> ResponseReturnValue:
    """Save the settings."""
    form = web.parse_form(SettingsForm)
    given = form.model_dump(
        include={"name", "guidelines", "system_prompt", "prompt_style", "base_id", "reviews_needed"}
    )
    projects.configure(web.session(), project(), **given, reason_rows=form.reason_rows(), user=current_user())
    journal.note(web.session(), "changed settings", project=project(), user=current_user())
    web.notify(_("Saved."))
    return web.go(url_for("projects.settings"))


@bp.post("/people")
@policy("lead")
def set_role() -> ResponseReturnValue:
    """Give a person a role here, or take it away."""
    form = web.parse_form(RoleForm)
    person = accounts.get(web.session(), form.user_id)
    accounts.set_role(web.session(), person, project(), form.role)
    journal.note(
        web.session(), "set role", person.login, project=project(), user=current_user(), detail={"role": form.role}
    )
    web.notify(_("Saved."))
    return web.go(url_for("projects.settings"))
