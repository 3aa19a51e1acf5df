"""The guidelines with their versions, and what changed between two of them."""

from __future__ import annotations

from flask import Blueprint, request
from flask.typing import ResponseReturnValue

from curator import web
from curator.security import policy, project
from curator.services import guidelines

bp = Blueprint("guidelines", __name__, url_prefix="/p/<slug>")


@bp.get("/guidelines")
@policy("viewer")
def history() -> ResponseReturnValue:
    """List the versions, and show what changed from `old` to `new`."""
    versions = guidelines.history(web.session(), project())
    old, new = request.args.get("old", 0, type=int), request.args.get("new", 0, type=int)
    before, after = guidelines.compared(versions, old, new)
    return web.page("projects/guidelines.html", versions=versions, before=before, after=after)
