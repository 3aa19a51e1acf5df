"""Records: one by one with what belongs to them, and page by page."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import Any

from sqlalchemy import select as select_columns
from sqlmodel import Session, and_, col, func, or_, select

from curator.errors import NotFound
from db.models import Json, Passage, Project, Record, Retraction, Review, User

TEASER = 300
HIGHEST_ID = 2**63 - 1  # what the database can compare with; an address may say more


@dataclass(frozen=True)
class Line:
    """One record in a list, its texts cut short."""

    id: int
    state: str
    question: str
    answer: str
    rating: int | None
    edited: bool
    language: str
    signals: Json
    happened_at: datetime | None


@dataclass(frozen=True)
class Page:
    """Some records, and the record after which the next page starts (None at the end)."""

    lines: list[Line]
    after: int | None


@dataclass(frozen=True)
class Past:
    """One review in a record's history, who wrote it, and when it was taken back if it was."""

    review: Review
    name: str
    retracted_at: datetime | None


def get(session: Session, project: Project, record_id: int) -> Record:
    """Answer one record of a project, or raise NotFound."""
    record = session.get(Record, record_id) if record_id <= HIGHEST_ID else None
    if record is None or record.project_id != project.id:
        raise NotFound("There is no such record in this project.")
    return record


def passages(session: Session, record: Record) -> list[Passage]:
    """List what the assistant had read, best first as the log has it."""
    return list(session.exec(select(Passage).where(Passage.record_id == record.id).order_by(col(Passage.position))))


def page(session: Session, project: Project, *, state: str = "", after: int = 0, limit: int = 50) -> Page:
    """List records from behind the record `after`: all in the order of the log, those of one state by their rank.

    Pages are found by key, so the thousandth costs what the first does.
    """
    after = max(0, min(after, HIGHEST_ID))
    shown: list[Any] = [  # columns of several types
        Record.id, Record.state, func.substr(Record.question, 1, TEASER), func.substr(Record.answer, 1, TEASER),
        Record.rating, Record.edited, Record.language, Record.signals, Record.happened_at,
    ]  # fmt: skip
    query = select_columns(*shown).where(col(Record.project_id) == project.id).limit(limit + 1)
    if state:
        query = query.where(col(Record.state) == state).order_by(col(Record.rank), col(Record.id))
        rank = session.exec(select(Record.rank).where(Record.id == after)).first() if after else None
        if rank is not None:
            same = and_(col(Record.rank) == rank, col(Record.id) > after)
            query = query.where(col(Record.rank) >= rank, or_(col(Record.rank) > rank, same))
    else:
        query = query.where(col(Record.id) > after).order_by(col(Record.id))
    lines = [Line(*row) for row in session.connection().execute(query)]
    return Page(lines[:limit], lines[limit - 1].id if len(lines) > limit else None)


def history(session: Session, record: Record) -> list[Past]:
    """List a record's reviews, oldest first, those taken back included."""
    rows = session.exec(
        select(Review, User.name, Retraction.created_at)
        .join(User, col(User.id) == col(Review.user_id))
        .outerjoin(Retraction, col(Retraction.review_id) == col(Review.id))
        .where(Review.record_id == record.id)
        .order_by(col(Review.id))
    )
    return [Past(review, name, retracted_at) for review, name, retracted_at in rows]


def settled_review(session: Session, record: Record) -> Review | None:
    """Answer the review that settled a record, if one did."""
    return session.get(Review, record.settled_by) if record.settled_by else None
