"""Records: the list, and one with its history."""

from __future__ import annotations

from babel import Locale, UnknownLocaleError
from flask import Blueprint, request
from flask.typing import ResponseReturnValue
from flask_babel import get_locale
from flask_babel import lazy_gettext as _

from curator import web
from curator.filters import reason_name
from curator.security import current_user, policy, project
from curator.services import counts, desk, records, text
from db.models import Review

bp = Blueprint("records", __name__, url_prefix="/p/<slug>")

STATES = {
    "new": _("To review"),
    "accepted": _("Accepted"),
    "rejected": _("Rejected"),
    "unsure": _("Waiting for a lead"),
}
VERDICTS = {"accept": _("Accepted"), "reject": _("Rejected"), "skip": _("Skipped"), "unsure": _("Unsure")}


@bp.get("/records")
@policy("viewer")
def index() -> ResponseReturnValue:
    """List the records, all or those of one state."""
    state = request.args.get("state", "")
    after = request.args.get("after", 0, type=int)
    state = state if state in STATES else ""
    return web.page(
        "records/index.html",
        page=records.page(web.session(), project(), state=state, after=after),
        counts=counts.of(web.session(), project()),
        state=state,
        states=STATES,
        first=not after,
    )


@bp.get("/records/<int:record_id>")
@policy("viewer")
def show(record_id: int) -> ResponseReturnValue:
    """Show one record, its history, and the form to decide it anew."""
    record = records.get(web.session(), project(), record_id)
    return web.page(
        "records/show.html",
        card=desk.shown(web.session(), project(), current_user(), record),
        history=records.history(web.session(), record),
        on_desk=False,
    )


def language_name(code: str) -> str:
    """Say a language in the page's language: zh → Chinese; a code nobody knows stays as it is."""
    try:
        return Locale.parse(code, sep="-").get_display_name(get_locale()) or code
    except (ValueError, UnknownLocaleError):
        return code


def reason_names(review: Review) -> list[str]:
    """Name a review's reasons the way the project does now; a reason it no longer has keeps its key."""
    known = {reason["key"]: reason_name(reason) for reason in project().reasons}
    return [known.get(key, key) for key in review.reasons]


def state_name(state: str) -> str:
    """Say where a record stands, in an expert's words."""
    return str(STATES[state])


def verdict_name(verdict: str) -> str:
    """Say what somebody decided."""
    return str(VERDICTS[verdict])


for filter_ in (language_name, reason_names, state_name, verdict_name, text.markdown, text.folded):
    bp.add_app_template_filter(filter_)
