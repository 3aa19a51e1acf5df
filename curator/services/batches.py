"""Many records judged at once, as they stand; one undo takes all of it back (see undo.py)."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Literal

from sqlalchemy import insert
from sqlmodel import Session, col, func, or_, select, update

from curator.errors import Invalid
from curator.services import assignment, folding, reasons
from curator.services.choice import HIGHEST
from curator.services.opinions import is_retracted, of_batch
from db.models import Json, Project, Record, Review, User, utc_now


def add_batch(
    session: Session,
    project: Project,
    user: User,
    record_ids: Iterable[int],
    verdict: Literal["accept", "reject"],
    chosen: Sequence[str],
    request_id: str,
) -> int:
    """Accept records as they stand, or reject them with these reasons; answer how many.

    Left out: what is not new any more, what somebody else is at just now, and what this person has judged already
    and a second person has yet to judge. A few statements per 500 records. The same request_id again is the same
    batch: it answers the same number and judges nothing.
    """
    if verdict not in ("accept", "reject"):
        raise Invalid("Many records at once can be accepted or rejected only.")
    if not 8 <= len(request_id) <= 64:
        raise Invalid("This form is incomplete. Please reload the page.")
    known = select(Review.user_id, func.count()).where(*of_batch(request_id)).group_by(col(Review.user_id))
    for person, number in session.exec(known).all():
        if person != user.id:
            raise Invalid("This form was used by somebody else already. Please reload the page.")
        return number
    given = reasons.chosen(project, verdict, chosen)
    wanted = sorted({key for key in record_ids if 0 < key <= HIGHEST})
    judged: list[int] = []
    for ids in folding.batches(wanted):
        free = _free(session, project, user, ids)
        if free:
            rows = [_review(user, key, version, verdict, given, request_id) for key, version in free.items()]
            session.connection().execute(insert(Review), rows)
            mine = update(Record).where(col(Record.id).in_(free), col(Record.claimed_by) == user.id)
            session.connection().execute(mine.values(claimed_by=None, claimed_until=None))
            judged += free
    folding.refold_all(session, project, judged)
    if project.reviews_needed > 1:
        assignment.pass_on(session, user, judged)
    return len(judged)


def _free(session: Session, project: Project, user: User, ids: Sequence[int]) -> dict[int, int]:
    """Lock those of some records that this person may judge now; answer their versions by id."""
    now = utc_now()
    nobody_elses = or_(
        col(Record.claimed_until).is_(None), col(Record.claimed_until) <= now, col(Record.claimed_by) == user.id
    )
    rows = session.exec(
        select(Record.id, Record.version)
        .where(col(Record.id).in_(ids), Record.project_id == project.id, Record.state == "new", nobody_elses)
        .order_by(col(Record.id))
        .with_for_update()
    )
    free = {key: version for key, version in rows if key is not None}
    if free and project.reviews_needed > 1:
        mine = select(Review.record_id).where(
            col(Review.record_id).in_(free), Review.user_id == user.id, Review.verdict != "skip", ~is_retracted()
        )
        for key in session.exec(mine):
            free.pop(key, None)
    return free


def _review(user: User, record_id: int, version: int, verdict: str, given: list[str], request_id: str) -> Json:
    review = Review(
        record_id=record_id,
        user_id=user.id or 0,
        request_id=f"{request_id}:{record_id}",
        verdict=verdict,
        reasons=given,
        batch=request_id,
        record_version=version,
    )
    return review.model_dump(exclude={"id"})
