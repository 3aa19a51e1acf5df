"""Gold records: a lead says which decisions reviewers are measured by."""

from __future__ import annotations

from flask import Blueprint, url_for
from flask.typing import ResponseReturnValue
from flask_babel import gettext as _
from pydantic import BaseModel

from curator import web
from curator.security import current_user, policy, project
from curator.services import calibration, desk, journal, records

bp = Blueprint("calibration", __name__, url_prefix="/p/<slug>")


class GoldForm(BaseModel):
    gold: bool


@bp.get("/review/measure")
@policy("reviewer")
def measure() -> ResponseReturnValue:
    """Show the next gold record to judge blind, as if nobody had settled it."""
    session = web.session()
    record = calibration.next_gold(session, project(), current_user())
    if record is None:
        web.notify(_("You have judged all of them."))
        return web.go(url_for("sessions.summary"))
    web.notify(
        _("A lead has settled this one. Judge it as any other; your session's summary says how often you agree.")
    )
    card = desk.shown(session, project(), current_user(), record, history=())
    return web.page("records/show.html", card=card, on_desk=False, choice={})


@bp.post("/records/<int:record_id>/gold")
@policy("lead")
def mark(record_id: int) -> ResponseReturnValue:
    """Make a settled record one that reviewers are measured by, or an ordinary one again."""
    form = web.parse_form(GoldForm)
    record = records.get(web.session(), project(), record_id)
    calibration.mark(web.session(), record, current_user(), gold=form.gold)
    journal.note(
        web.session(), "marked gold" if form.gold else "unmarked gold", f"record {record_id}",
        project=project(), user=current_user(),
    )  # fmt: skip
    web.notify(_("Reviewers are measured by this record now.") if form.gold else _("An ordinary record again."))
    return web.go(url_for("records.show", record_id=record_id))
