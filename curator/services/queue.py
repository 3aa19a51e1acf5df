"""The review queue: the next record for a person, reserved for a while.

A reservation is a lease on the record's own row. It keeps two people from judging the same record at the same time;
it never decides whether a judgement counts: that is the record's version (see reviews.add).
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from sqlalchemy import ColumnElement, bindparam
from sqlmodel import Session, col, exists, func, or_, select, update

from db.models import Project, Record, Retraction, Review, User, utc_now

COUNTED = 1_000  # counting stops here: "over 1,000 left" is said at the same price for a million records


# Statements are built once: building them anew costs more than SQLite needs to run them.
_ME, _PROJECT, _NOW = bindparam("me"), bindparam("project"), bindparam("now")
_RETRACTED = exists().where(col(Retraction.review_id) == col(Review.id))
_MINE = exists().where(col(Review.record_id) == col(Record.id), col(Review.user_id) == _ME, ~_RETRACTED)
_QUEUED = (col(Record.project_id) == _PROJECT, col(Record.state) == "new", ~_MINE)
_FREE = or_(col(Record.claimed_until).is_(None), col(Record.claimed_until) <= _NOW, col(Record.claimed_by) == _ME)
_BEHIND = (
    col(Record.rank) >= bindparam("last_rank"),
    or_(col(Record.rank) > bindparam("last_rank"), col(Record.id) > bindparam("last_id")),
)


def _claiming(*where: ColumnElement[bool]) -> Any:  # an UPDATE that answers rows; SQLAlchemy's name for it is generic
    candidate = (
        select(Record.id)
        .where(*_QUEUED, _FREE, *where)
        .order_by(col(Record.rank), col(Record.id))
        .limit(1)
        .with_for_update(skip_locked=True)  # for PostgreSQL; SQLite has one writer at a time
        .scalar_subquery()
    )
    return (
        update(Record)
        .where(col(Record.id) == candidate)
        .values(claimed_by=_ME, claimed_until=bindparam("until"))
        .returning(Record)
    )


CLAIM, CLAIM_BEHIND = _claiming(), _claiming(*_BEHIND)
_LEFT = select(func.count()).select_from(select(Record.id).where(*_QUEUED).limit(COUNTED + 1).subquery())
_newest = (
    select(Review.created_at)
    .where(col(Review.user_id) == _ME, col(Review.verdict) != "skip", ~_RETRACTED)
    .order_by(col(Review.id).desc())
    .limit(COUNTED)
    .subquery()
)
_TODAY = select(func.count()).select_from(_newest).where(_newest.c.created_at >= bindparam("midnight"))


@dataclass(frozen=True)
class Progress:
    """Where a person stands: records left for them and those they judged today, both counted up to COUNTED."""

    left: int
    today: int
    skipped: int  # known only when nothing is left, since only then it is shown


def claim_next(
    session: Session, project: Project, user: User, *, lease_seconds: int, after: Record | None = None
) -> Record | None:
    """Reserve and answer the next record for a person, or None when nothing is left for them.

    One conditional UPDATE along the index record_queue, by rank and then age. What this person holds already counts
    as free, so a reload brings the same card back. Not offered: what others hold, and what this person has judged or
    skipped (see reviews.unskip). Where a record needs several reviews, the ones a person has done stay in the
    queue for others; `after` starts behind the last one instead of stepping over all of them again.
    """
    now = utc_now()
    values: dict[str, Any] = {  # values of several types
        "me": user.id, "project": project.id, "now": now, "until": now + timedelta(seconds=lease_seconds),
    }  # fmt: skip
    if after is not None and project.reviews_needed > 1:
        found = _claim(session, CLAIM_BEHIND, {**values, "last_rank": after.rank, "last_id": after.id})
        if found is not None:
            return found
    return _claim(session, CLAIM, values)


def _claim(session: Session, statement: Any, values: dict[str, Any]) -> Record | None:  # as _claiming and above
    options = {"synchronize_session": False, "populate_existing": True}
    return session.exec(statement, params=values, execution_options=options).scalar_one_or_none()


def claim(session: Session, record: Record, user: User, *, lease_seconds: int) -> Record:
    """Reserve this very record for a person, whoever held it."""
    record.claimed_by, record.claimed_until = user.id, utc_now() + timedelta(seconds=lease_seconds)
    session.add(record)
    session.flush()
    return record


def renew(session: Session, record: Record, user: User, *, lease_seconds: int) -> bool:
    """Prolong a person's reservation; False when somebody else holds the record by now."""
    held = or_(
        Record.claimed_by == user.id, col(Record.claimed_until).is_(None), col(Record.claimed_until) <= utc_now()
    )
    until = utc_now() + timedelta(seconds=lease_seconds)
    renewed = session.exec(
        update(Record)
        .where(col(Record.id) == record.id, col(Record.state) == "new", held)
        .values(claimed_by=user.id, claimed_until=until)
    )
    return renewed.rowcount == 1


def release(session: Session, record: Record, user: User, *, until: datetime | None = None) -> None:
    """Give a record back to the queue, if this person holds it.

    `until` is the end of the reservation that is given up: a page that says good-bye late, after a reload has
    reserved the record anew, then takes nothing away.
    """
    query = update(Record).where(col(Record.id) == record.id, col(Record.claimed_by) == user.id)
    if until is not None:
        query = query.where(col(Record.claimed_until) == until)
    session.exec(query.values(claimed_by=None, claimed_until=None))


def remaining(session: Session, project: Project, user: User) -> int:
    """Count what is left in the queue for a person, up to COUNTED + 1, which means: more than COUNTED."""
    return session.exec(_LEFT, params={"me": user.id, "project": project.id}).one()


def done_today(session: Session, user: User) -> int:
    """Count a person's judgements since midnight, skips left out, among their newest COUNTED."""
    midnight = utc_now().astimezone().replace(hour=0, minute=0, second=0, microsecond=0)
    return session.exec(_TODAY, params={"me": user.id, "midnight": midnight}).one()


def skipped(session: Session, project: Project, user: User) -> list[Review]:
    """List this person's skips of records that still wait, oldest first."""
    return list(
        session.exec(
            select(Review)
            .join(Record, col(Record.id) == col(Review.record_id))
            .where(
                Review.user_id == user.id, Review.verdict == "skip", ~_RETRACTED,
                Record.project_id == project.id, Record.state == "new",
            )
            .order_by(col(Review.id))
        )
    )  # fmt: skip


def progress(session: Session, project: Project, user: User) -> Progress:
    """Say where a person stands in this queue."""
    left = remaining(session, project, user)
    return Progress(left, done_today(session, user), 0 if left else len(skipped(session, project, user)))
