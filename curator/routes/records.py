"""Records: the list, and one with its history."""

from __future__ import annotations

from flask import Blueprint, request
from flask.typing import ResponseReturnValue
from flask_babel import lazy_gettext as _

from curator import chosen, web
from curator.filters import reason_name
from curator.security import current_user, policy, project, role
from curator.services import assignment, counts, desk, prepare, queue, records, reviews, search, snippets, text, views
from db.models import Review

bp = Blueprint("records", __name__, url_prefix="/p/<slug>")

VERDICTS = {"accept": _("Accepted"), "reject": _("Rejected"), "skip": _("Skipped"), "unsure": _("Unsure")}


@bp.get("/records")
@policy("viewer")
def index() -> ResponseReturnValue:
    """List the records of a choice: of a state, by filters, by a search."""
    session, (choice, ignored) = web.session(), chosen.asked()
    after = request.args.get("after", 0, type=int)
    page = records.page(session, project(), choice, current_user(), after=after)
    called = chosen.names()
    return web.page(
        "records/index.html",
        page=page,
        found=records.count(session, project(), choice, current_user()),
        snippets=snippets.of(session, snippets.missing(page.lines, choice.q), choice.q) if choice.q else {},
        places=snippets.PLACES,
        counts=counts.of(session, project()),
        pending=prepare.pending(session, project()),
        languages=records.languages(session, project()),
        views=views.listed(session, project(), current_user()),
        names=called,
        choice=choice,
        chips=chosen.chips(choice, called),
        ignored=chosen.ignored(ignored),
        orders=chosen.ORDERS,
        why=queue.ORDERS[choice.queue_order][1],
        states=chosen.STATES,
        signals=chosen.SIGNALS,
        worse=[(number, _("%(number)s or worse", number=number)) for number in range(1, 6)],
        at_once=assignment.AT_ONCE,
        first=not after,
    )


@bp.get("/records/<int:record_id>")
@policy("viewer")
def show(record_id: int) -> ResponseReturnValue:
    """Show one record, its history, and the form to decide it anew."""
    record = records.get(web.session(), project(), record_id)
    history = reviews.visible_history(web.session(), record, current_user(), role())
    return web.page(
        "records/show.html",
        card=desk.shown(web.session(), project(), current_user(), record, history),
        history=history,
        mine=reviews.newest_of(web.session(), record, current_user()),
        holder=queue.holder(web.session(), record),
        on_desk=False,
        choice={},
    )


@bp.get("/records/<int:record_id>/turns")
@policy("viewer")
def turns(record_id: int) -> ResponseReturnValue:
    """Show some more of a long conversation, from before the turn `end`."""
    record = records.get(web.session(), project(), record_id)
    end = max(0, min(request.args.get("end", 0, type=int), len(record.turns)))
    return web.page("records/_turns.html", record=record, end=end)


def language_pair(code: str) -> tuple[str, str]:
    """Answer a language as an option of a field."""
    return code, chosen.language_name(code)


def reason_names(review: Review) -> list[str]:
    """Name a review's reasons the way the project does now; a reason it no longer has keeps its key."""
    known = {reason["key"]: reason_name(reason) for reason in project().reasons}
    return [known.get(key, key) for key in review.reasons]


def state_name(state: str) -> str:
    """Say where a record stands, in an expert's words."""
    return str(chosen.STATES[state])


def verdict_name(verdict: str) -> str:
    """Say what somebody decided."""
    return str(VERDICTS[verdict])


for filter_ in (
    chosen.language_name,
    language_pair,
    reason_names,
    state_name,
    verdict_name,
    text.markdown,
    text.looks_like_markdown,
    text.folded,
    text.folded_pieces,
    search.highlight,
):
    bp.add_app_template_filter(filter_)
