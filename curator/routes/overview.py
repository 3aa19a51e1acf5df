"""The lead's overview: how reviewing goes, how alike people judge, what is left."""

from __future__ import annotations

from flask import Blueprint
from flask.typing import ResponseReturnValue

from curator import web
from curator.security import policy, project
from curator.services import agreement, calibration, overview, runs

bp = Blueprint("overview", __name__, url_prefix="/p/<slug>")


@bp.get("/overview")
@policy("lead")
def show() -> ResponseReturnValue:
    """Show the last two weeks and what is left."""
    session = web.session()
    done = overview.throughput(session, project())
    return web.page(
        "projects/overview.html",
        done=done,
        backlog=overview.backlog(session, project(), done),
        agreement=agreement.of(session, project()),
        fits=calibration.of(session, project()),
        readiness=runs.readiness(session, project(), web.settings()),
    )
