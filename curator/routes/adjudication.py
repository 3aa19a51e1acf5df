"""Records on which reviewers disagree: a lead reads both sides and settles them, one by one."""

from __future__ import annotations

from flask import Blueprint, request, url_for
from flask.typing import ResponseReturnValue
from flask_babel import gettext as _

from curator import web
from curator.security import current_user, policy, project
from curator.services import adjudication, counts, records, reviews
from curator.services.adjudication import SettlingForm

bp = Blueprint("adjudication", __name__, url_prefix="/p/<slug>/adjudication")


@bp.get("")
@policy("lead")
def show() -> ResponseReturnValue:
    """Show the oldest record that waits for a lead, or the one behind `after`."""
    session, after = web.session(), request.args.get("after", 0, type=int)
    return web.page(
        "adjudication/show.html",
        case=adjudication.next_case(session, project(), after=after),
        waiting=counts.of(session, project()).get("unsure", 0),
        own=request.args.get("own", 0, type=int),
    )


@bp.post("/<int:record_id>")
@policy("lead")
def settle(record_id: int) -> ResponseReturnValue:
    """Save the lead's word and show the next record that waits."""
    form = web.parse_form(SettlingForm)
    record = records.get(web.session(), project(), record_id)
    review = adjudication.settle(web.session(), record, current_user(), form)
    said = {"accept": _("Accepted"), "reject": _("Rejected"), "skip": _("Skipped"), "unsure": _("Left for a lead")}
    web.notify(said[review.verdict], undo=url_for("adjudication.undo"))
    return _next(after=record_id)


@bp.post("/undo")
@policy("lead")
def undo() -> ResponseReturnValue:
    """Take back the lead's newest judgement and show its record again."""
    lease = web.settings().lease_seconds
    undone = reviews.undo(web.session(), project(), current_user(), lease_seconds=lease)
    web.notify(_("Taken back."))
    return _next(after=undone.review.record_id - 1)


def _next(after: int) -> ResponseReturnValue:
    return web.fragment(
        "adjudication/_case.html",
        back=url_for("adjudication.show", after=after),
        case=adjudication.next_case(web.session(), project(), after=after),
        waiting=counts.of(web.session(), project()).get("unsure", 0),
        own=0,
    )
