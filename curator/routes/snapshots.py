"""Datasets: freeze what is approved, look at it, download it."""

from __future__ import annotations

from flask import Blueprint, request, send_file, url_for
from flask.typing import ResponseReturnValue
from pydantic import BaseModel, Field

from curator import web
from curator.exporters import EXPORTERS
from curator.security import current_user, policy, project
from curator.services import examples, exports, lessons, snapshot_diff, snapshots

bp = Blueprint("snapshots", __name__, url_prefix="/p/<slug>/datasets")
SHOWN = 20


class FreezeForm(BaseModel):
    name: str = Field(min_length=1, max_length=80)
    kind: str = Field("sft", pattern="^(sft|preference)$")
    include_personal: bool = False


@bp.get("/")
@policy("viewer")
def index() -> ResponseReturnValue:
    """List the frozen datasets and offer to freeze today's answers."""
    session = web.session()
    found = snapshots.recent(session, project())
    return web.page(
        "snapshots/index.html",
        snapshots=found,
        held=lessons.held,
        next_name=snapshots.next_name(session, project()),
        since=snapshots.approved_since(session, project(), found[0] if found else None),
        personal=examples.count_personal(session, project()),
    )


@bp.post("/")
@policy("lead")
def create() -> ResponseReturnValue:
    """Freeze today's approved answers."""
    form = web.parse_form(FreezeForm)
    kind = "preference" if form.kind == "preference" else "sft"
    snapshot = snapshots.freeze(
        web.session(), project(), form.name, current_user(), kind, include_personal=form.include_personal
    )
    return web.go(url_for("snapshots.show", snapshot_id=snapshot.id))


@bp.get("/<int:snapshot_id>")
@policy("viewer")
def show(snapshot_id: int) -> ResponseReturnValue:
    """Show a dataset: its figures, what changed since the one before, its first examples, its downloads."""
    session = web.session()
    snapshot = snapshots.get(session, project(), snapshot_id)
    before = snapshots.before(session, snapshot)
    split = request.args.get("split", "train")
    return web.page(
        "snapshots/show.html",
        snapshot=snapshot,
        held=lessons.held,
        before=before,
        diff=snapshot_diff.between(session, before, snapshot) if before else None,
        remarks=snapshots.remarks(snapshot, control=snapshots.holds_control(session, snapshot)),
        split=split,
        examples=lessons.first(session, snapshot, split, SHOWN),
        exporters=list(EXPORTERS),
    )


@bp.get("/<int:snapshot_id>/download/<name>")
@policy("viewer")
def download(snapshot_id: int, name: str) -> ResponseReturnValue:
    """Send the dataset as one zip file in a format that other tools read."""
    snapshot = snapshots.get(web.session(), project(), snapshot_id)
    target = web.settings().folder("exports") / f"{project().slug}-{snapshot.id}-{snapshot.sha256[:12]}-{name}.zip"
    file = exports.zipped_once(web.session(), snapshot, name, target)
    return send_file(
        file, "application/zip", as_attachment=True, download_name=f"{exports.file_name(snapshot)}-{name}.zip"
    )
