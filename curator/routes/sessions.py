"""What a person has done in this session at the desk."""

from __future__ import annotations

from flask import Blueprint
from flask.typing import ResponseReturnValue

from curator import web
from curator.security import current_user, policy, project
from curator.services import calibration, queue, sessions

bp = Blueprint("sessions", __name__, url_prefix="/p/<slug>/review")


@bp.get("/summary")
@policy("reviewer")
def summary() -> ResponseReturnValue:
    """Sum up what was decided since the last break."""
    session = web.session()
    return web.page(
        "reviews/summary.html",
        summary=sessions.summary(session, project(), current_user()),
        gold=calibration.next_gold(session, project(), current_user()),
        left=queue.remaining(session, project(), current_user()).number,
    )
