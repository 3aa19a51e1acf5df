"""The review desk: the next record, a decision, and taking it back."""

from __future__ import annotations

from datetime import datetime

from flask import Blueprint, make_response, redirect
from flask.typing import ResponseReturnValue
from flask_babel import gettext as _
from flask_babel import ngettext
from pydantic import BaseModel
from werkzeug.local import LocalProxy

from curator import chosen, web
from curator.security import current_user, policy, project, role, visitor
from curator.services import desk as desks
from curator.services import diff, drafts, keys, personal, queue, records, reviews, views
from curator.services.drafts import DraftForm
from curator.services.reviews import ReviewForm, Stale
from db.models import Record, Review
from db.session import open_session

bp = Blueprint("reviews", __name__, url_prefix="/p/<slug>")


class TypedForm(BaseModel):
    question: str = ""
    answer: str = ""
    turns: dict[str, str] = {}

    def fields(self) -> dict[str, str]:
        """Answer the texts by the names of their fields."""
        turns = {f"turns.{place}": text for place, text in self.turns.items()}
        return {"question": self.question, "answer": self.answer, **turns}


class ReleaseForm(BaseModel):
    until: datetime | None = None


class HeldForm(BaseModel):
    """What the browser shows or keeps ready already, and must not be handed again."""

    held: list[int] = []


@bp.get("/review")
@policy("reviewer")
def desk() -> ResponseReturnValue:
    """Show the next record, or the one this person holds already."""
    with open_session(web.engine(), write=True) as own:  # reserving it is a write, though this is a GET
        asked = views.resume(own, project(), current_user(), chosen.asked().choice)
        card = desks.next_card(own, project(), current_user(), asked, lease_seconds=web.settings().lease_seconds)
    words = chosen.words(asked, chosen.names()) if not asked.is_empty else ""
    return web.page("reviews/desk.html", card=card, on_desk=True, choice=asked.args(), words=words)


@bp.post("/review/ahead")
@policy("reviewer")
def ahead() -> ResponseReturnValue:
    """Reserve and render the record that comes after those the browser holds, so that it is there at once."""
    return _next()


@bp.post("/records/<int:record_id>/reviews")
@policy("reviewer")
def create(record_id: int) -> ResponseReturnValue:
    """Save a judgement and show the next record."""
    form = web.parse_form(ReviewForm)
    record = records.get(web.session(), project(), record_id)
    review = desks.decide(web.session(), record, current_user(), form)
    web.notify(_said(review, record), undo=chosen.address("reviews.undo", chosen.asked().choice))
    return _next(after=record)


@bp.post("/records/<int:record_id>/draft")
@policy("reviewer")
def keep(record_id: int) -> ResponseReturnValue:
    """Keep what is typed into a card, while it is typed."""
    form = web.parse_form(DraftForm)
    record = records.get(web.session(), project(), record_id)
    drafts.keep(web.session(), record, current_user(), form)
    return "", 204


@bp.post("/records/<int:record_id>/mask")
@policy("reviewer")
def mask(record_id: int) -> ResponseReturnValue:
    """Answer the typed texts with personal data masked; saving them is an edit like any other."""
    form = web.parse_form(TypedForm)
    records.get(web.session(), project(), record_id)
    return personal.masked_fields(form.fields())


@bp.post("/reviews/undo")
@policy("reviewer")
def undo() -> ResponseReturnValue:
    """Take back the newest judgement and show its record again, with what was typed."""
    session, lease, asked = web.session(), web.settings().lease_seconds, chosen.asked().choice
    record, review, number = reviews.undo(session, project(), current_user(), lease_seconds=lease)
    several = ngettext("%(num)d decision was taken back.", "%(num)d decisions were taken back.", number)
    web.notify(several if number > 1 else _("Taken back. Here it is again."))
    card = desks.card_of(session, project(), current_user(), record, review, choice=asked, lease_seconds=lease)
    return web.fragment("records/_card.html", card=card, on_desk=True, choice=asked.args())


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


@bp.post("/records/<int:record_id>/turns/<int:place>/diff")
@policy("reviewer")
def compare_turn(record_id: int, place: int) -> ResponseReturnValue:
    """Show what the typed text changes about an earlier turn."""
    form = web.parse_form(TypedForm)
    record = records.get(web.session(), project(), record_id)
    original, corrected = records.turn(record, place), form.turns.get(str(place), "")
    return web.page("records/_turn_diff.html", record=record, place=place, original=original, corrected=corrected)


@bp.app_errorhandler(Stale)
def conflict(error: Stale) -> ResponseReturnValue:
    """Answer a stale judgement: theirs, mine, and every character that was typed."""
    template = "reviews/_conflict.html" if web.is_htmx() else "reviews/conflict.html"
    seen = reviews.visible_history(web.session(), error.record, current_user(), role())
    past = [past for past in seen if past.retracted_at is None]
    theirs = past[-1] if past else None
    return make_response(web.page(template, record=error.record, form=error.form, theirs=theirs), error.status)


def _next(after: Record | None = None) -> ResponseReturnValue:
    """Answer the next card; without JavaScript the page that follows reserves its own."""
    if not web.is_htmx():
        return redirect(web.came_from(), 303)
    session, lease, asked = web.session(), web.settings().lease_seconds, chosen.asked().choice
    held = web.parse_form(HeldForm).held
    card = desks.next_card(session, project(), current_user(), asked, lease_seconds=lease, after=after, held=held)
    return web.fragment("records/_card.html", card=card, on_desk=True, choice=asked.args())


def _said(review: Review, record: Record) -> str:
    corrected = review.question is not None or review.answer is not None or bool(review.turns)
    return {
        "accept": _("Accepted with your edit") if corrected else _("Accepted"),
        "reject": _("Rejected"),
        "skip": _("Skipped"),
        "unsure": _("Left for the next person") if record.state == "new" else _("Left for a lead"),
    }[review.verdict]


def _keys() -> dict[str, str]:
    user = visitor()
    return keys.of(user) if user else {}


bp.add_app_template_global(diff.words, "diff")
bp.app_context_processor(
    lambda: {"key": LocalProxy(_keys), "all_keys": keys.ACTIONS, "turns_at_once": desks.SHOWN_TURNS}
)
