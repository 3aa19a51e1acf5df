"""The review desk: the next record, a decision, and taking it back."""

from __future__ import annotations

from datetime import datetime

from flask import Blueprint, make_response, redirect, url_for
from flask.typing import ResponseReturnValue
from flask_babel import gettext as _
from flask_babel import ngettext
from pydantic import BaseModel

from curator import web
from curator.security import current_user, policy, project
from curator.services import desk as desks
from curator.services import diff, queue, records, reviews
from curator.services.reviews import ReviewForm, Stale
from db.models import Record, Review
from db.session import open_session

bp = Blueprint("reviews", __name__, url_prefix="/p/<slug>")


class TypedForm(BaseModel):
    question: str = ""
    answer: str = ""


class ReleaseForm(BaseModel):
    until: datetime | None = None


@bp.get("/review")
@policy("reviewer")
def desk() -> ResponseReturnValue:
    """Show the next record, or the one this person holds already."""
    with open_session(web.engine(), write=True) as own:  # reserving it is a write, though this is a GET
        card = desks.next_card(own, project(), current_user(), lease_seconds=web.settings().lease_seconds)
    return web.page("reviews/desk.html", card=card, on_desk=True)


@bp.post("/records/<int:record_id>/reviews")
@policy("reviewer")
def create(record_id: int) -> ResponseReturnValue:
    """Save a judgement and show the next record."""
    form = web.parse_form(ReviewForm)
    record = records.get(web.session(), project(), record_id)
    review = reviews.add(web.session(), record, current_user(), form)
    web.notify(_said(review), undo=url_for("reviews.undo"))
    return _next(after=record)


@bp.post("/reviews/undo")
@policy("reviewer")
def undo() -> ResponseReturnValue:
    """Take back the newest judgement and show its record again, with what was typed."""
    session, lease = web.session(), web.settings().lease_seconds
    record, review = reviews.undo(session, project(), current_user(), lease_seconds=lease)
    web.notify(_("Taken back. Here it is again."))
    card = desks.card_of(session, project(), current_user(), record, review, lease_seconds=lease)
    return web.fragment("records/_card.html", card=card, on_desk=True)


@bp.post("/reviews/unskip")
@policy("reviewer")
def unskip() -> ResponseReturnValue:
    """Put this person's skipped records back into their queue and show the first."""
    count = reviews.unskip(web.session(), project(), current_user())
    web.notify(ngettext("%(num)d skipped record is back.", "%(num)d skipped records are back.", count))
    return _next()


@bp.post("/records/<int:record_id>/claim")
@policy("reviewer")
def renew(record_id: int) -> ResponseReturnValue:
    """Prolong the reservation of the record somebody is working at."""
    record = records.get(web.session(), project(), record_id)
    held = queue.renew(web.session(), record, current_user(), lease_seconds=web.settings().lease_seconds)
    return "", 204 if held else 409


@bp.post("/records/<int:record_id>/release")
@policy("reviewer")
def release(record_id: int) -> ResponseReturnValue:
    """Give a record back unjudged, when its page is left."""
    form = web.parse_form(ReleaseForm)
    queue.release(web.session(), records.get(web.session(), project(), record_id), current_user(), until=form.until)
    return "", 204


@bp.post("/records/<int:record_id>/diff")
@policy("reviewer")
def compare(record_id: int) -> ResponseReturnValue:
    """Show what the typed texts change."""
    form = web.parse_form(TypedForm)
    record = records.get(web.session(), project(), record_id)
    return web.page("records/_diff.html", record=record, question=form.question, answer=form.answer)


@bp.app_errorhandler(Stale)
def conflict(error: Stale) -> ResponseReturnValue:
    """Answer a stale judgement: theirs, mine, and every character that was typed."""
    template = "reviews/_conflict.html" if web.is_htmx() else "reviews/conflict.html"
    past = [past for past in records.history(web.session(), error.record) if past.retracted_at is None]
    theirs = past[-1] if past else None
    return make_response(web.page(template, record=error.record, form=error.form, theirs=theirs), error.status)


def _next(after: Record | None = None) -> ResponseReturnValue:
    """Answer the next card; without JavaScript the page that follows reserves its own."""
    if not web.is_htmx():
        return redirect(web.came_from(), 303)
    session, lease = web.session(), web.settings().lease_seconds
    card = desks.next_card(session, project(), current_user(), lease_seconds=lease, after=after)
    return web.fragment("records/_card.html", card=card, on_desk=True)


def _said(review: Review) -> str:
    corrected = review.question is not None or review.answer is not None
    return {
        "accept": _("Accepted with your edit") if corrected else _("Accepted"),
        "reject": _("Rejected"),
        "skip": _("Skipped"),
        "unsure": _("Left for a lead"),
    }[review.verdict]


bp.add_app_template_global(diff.words, "diff")
