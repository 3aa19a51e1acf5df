"""Many records at once: decided with one click and taken back as one, or asked of somebody."""

from __future__ import annotations

import secrets
from typing import Annotated, Literal

from flask import Blueprint, url_for
from flask.typing import ResponseReturnValue
from flask_babel import gettext as _
from flask_babel import ngettext
from pydantic import BaseModel, Field

from curator import chosen, web
from curator.filters import count
from curator.security import current_user, policy, project
from curator.services import assignment, picking, reviews
from curator.services.choice import Choice

bp = Blueprint("batches", __name__, url_prefix="/p/<slug>")


class BatchForm(BaseModel):
    records: Annotated[str, Field(pattern=r"^[0-9]{1,10}(,[0-9]{1,10}){0,999}$")]  # exactly those that were shown
    verdict: Literal["accept", "reject"]
    reasons: list[str] = []
    request_id: str = Field(min_length=8, max_length=64)


class AssignForm(BaseModel):
    person: int | None = None


@bp.get("/batches/new")
@policy("reviewer")
def new() -> ResponseReturnValue:
    """Show what would be decided together, and let a person decide."""
    choice = chosen.asked().choice
    return web.page(
        "batches/new.html",
        picked=picking.together(web.session(), project(), choice, current_user()),
        words=chosen.words(choice, chosen.names()),
        choice=choice,
        request_id=secrets.token_urlsafe(16),
        most=picking.TOGETHER,
    )


@bp.get("/twins/<int:record_id>")
@policy("viewer")
def group(record_id: int) -> ResponseReturnValue:
    """Show a group of near-duplicates beside the record that stands for it."""
    return web.page(
        "batches/group.html",
        group=picking.group(web.session(), project(), record_id),
        picked=picking.together(web.session(), project(), Choice(twins=record_id), current_user()),
        request_id=secrets.token_urlsafe(16),
        most=picking.TOGETHER,
    )


@bp.post("/batches")
@policy("reviewer")
def create() -> ResponseReturnValue:
    """Decide the records that were shown, and say how many it became."""
    form = web.parse_form(BatchForm)
    ids = [int(number) for number in form.records.split(",")]
    number = reviews.add_batch(
        web.session(), project(), current_user(), ids, form.verdict, form.reasons, form.request_id
    )
    if number:
        return web.go(url_for("batches.show", batch=form.request_id))
    web.notify(_("Nothing was decided: others have decided these records in the meantime, or are at them."))
    return web.go(url_for("records.index"))


@bp.get("/batches/<batch>")
@policy("reviewer")
def show(batch: str) -> ResponseReturnValue:
    """Say what was decided together, and offer to take it back."""
    given = picking.given(web.session(), project(), current_user(), batch)
    return web.page("batches/show.html", given=given, batch=batch)


@bp.post("/batches/<batch>/undo")
@policy("reviewer")
def undo(batch: str) -> ResponseReturnValue:
    """Take back all that was decided together."""
    number = picking.take_back(web.session(), project(), current_user(), batch)
    web.notify(ngettext("%(num)d decision was taken back.", "%(num)d decisions were taken back.", number))
    return web.go(url_for("records.index"))


@bp.post("/records/assign")
@policy("lead")
def assign() -> ResponseReturnValue:
    """Ask one person for the records of the address, or free them for everybody."""
    form = web.parse_form(AssignForm)
    done = assignment.assign(web.session(), project(), current_user(), chosen.asked().choice, form.person)
    web.notify(_assigned(done, form.person))
    return web.go(web.came_from())


def _assigned(done: assignment.Assigned, person_id: int | None) -> str:
    if person_id is None:
        said = ngettext("%(num)d record is free for everybody.", "%(num)d records are free for everybody.", done.number)
    else:
        said = ngettext(
            "%(name)s is asked for %(num)d record.", "%(name)s is asked for %(num)d records.", done.number,
            name=chosen.names().people[person_id],
        )  # fmt: skip
    rest = _("More of them wait; at most %(count)s go at once.", count=count(assignment.AT_ONCE))
    return f"{said} {rest}" if done.more else said
