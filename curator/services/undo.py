"""Taking judgements back: a person's newest one, or all that they gave together; and their skips."""

from __future__ import annotations

from typing import Any, NamedTuple

from sqlalchemy import insert, literal
from sqlmodel import Session, col, select

from curator.errors import NotFound
from curator.services import folding, queue, records
from curator.services.opinions import is_in, is_retracted, of_batch
from db.models import Project, Record, Retraction, Review, User, UtcDateTime, utc_now


class Undone(NamedTuple):
    """What was taken back: the newest judgement with its record, and how many judgements in all."""

    record: Record
    review: Review
    number: int


def undo(session: Session, project: Project, user: User, *, lease_seconds: int) -> Undone:
    """Take back a person's newest review here, with all others of its batch.

    Its record is reserved for them again, unless others have settled it or the lease is 0. The records are locked
    first: a judgement landing just now waits, and is folded in after us. What was taken back while we waited is not
    taken back twice.
    """
    while (review := _newest(session, project, user)) is not None:
        together = [col(Review.id) == review.id]
        if review.batch:
            together = [*of_batch(review.batch), col(Review.user_id) == user.id, is_in(project)]
        record_ids = session.exec(select(Review.record_id).where(*together, ~is_retracted())).all()
        held = folding.lock(session, project, record_ids)
        number = _retract(session, user, *together)
        if number:
            folding.refold_all(session, project, held)
            record = records.get(session, project, review.record_id)
            if record.state == "new" and lease_seconds:
                queue.claim(session, record, user, lease_seconds=lease_seconds)
            return Undone(record, review, number)
    raise NotFound("There is nothing to take back.")


def unskip(session: Session, project: Project, user: User) -> int:
    """Put what a person has skipped back into their queue; answer how many."""
    skips = queue.skipped(session, project, user)
    session.add_all([Retraction(review_id=review.id or 0, user_id=user.id or 0) for review in skips])
    session.flush()
    return len(skips)


def _newest(session: Session, project: Project, user: User) -> Review | None:
    return session.exec(
        select(Review)
        .join(Record, col(Record.id) == col(Review.record_id))
        .where(Review.user_id == user.id, Record.project_id == project.id, ~is_retracted())
        .order_by(col(Review.id).desc())
        .limit(1)
    ).first()


def _retract(session: Session, user: User, *which: Any) -> int:  # SQL conditions
    """Take back the reviews that fulfil these conditions, in one statement; answer how many."""
    taken = select(col(Review.id), literal(user.id), literal(utc_now(), UtcDateTime())).where(*which, ~is_retracted())
    into = insert(Retraction).from_select(["review_id", "user_id", "created_at"], taken)
    return len(session.connection().execute(into.returning(col(Retraction.review_id))).all())
