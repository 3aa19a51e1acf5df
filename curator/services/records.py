"""Records: one by one with what belongs to them, and page by page."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import Any

from sqlalchemy import select as select_columns
from sqlmodel import Session, col, func, select

from curator.errors import NotFound
from curator.services import accounts, search
from curator.services.choice import ALL, HIGHEST, Choice
from curator.services.counts import COUNTED
from curator.services.opinions import measures
from db.models import Json, Passage, Project, Record, Retraction, Review, User

TEASER = 300
SEEN = 2_000  # records that are looked at for their languages


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
    assigned_to: int | None
    cluster_id: int | None


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
    record = session.get(Record, record_id) if record_id <= HIGHEST else None
    if record is None or record.project_id != project.id:
        raise NotFound("There is no such record in this project.")
    return record


def turn(record: Record, place: int) -> str:
    """Answer what was said in one of a record's earlier turns, or raise NotFound."""
    if place >= len(record.turns):
        raise NotFound("There is no such turn in this conversation.")
    return str(record.turns[place]["content"])


def passages(session: Session, record: Record) -> list[Passage]:
    """List what the assistant had read, best first as the log has it."""
    return list(session.exec(select(Passage).where(Passage.record_id == record.id).order_by(col(Passage.position))))


def page(
    session: Session,
    project: Project,
    choice: Choice = ALL,
    user: User | None = None,
    *,
    after: int = 0,
    limit: int = 50,
) -> Page:
    """List the records of a choice in the order of the log, from behind the record `after`.

    A search lists what it finds from the newest on. Pages are found by key: the thousandth costs what the first does.
    What a reviewer has yet to judge blind is left out, since its state and what finds it would tell the verdict.
    """
    after = max(0, min(after, HIGHEST))
    query = _lines(session, project, choice, user)
    if choice.q:
        query = search.newest(session, query, choice.q, before=after)
    else:
        query = query.where(col(Record.id) > after).order_by(col(Record.id))
    lines = [Line(*row) for row in session.connection().execute(query.limit(limit + 1))]
    return Page(lines[:limit], lines[limit - 1].id if len(lines) > limit else None)


def count(session: Session, project: Project, choice: Choice, user: User | None = None) -> int:
    """Count the records of a choice up to COUNTED + 1, which means: more than COUNTED."""
    query = _lines(session, project, choice, user).with_only_columns(Record.id)
    found = (search.among(session, query, choice.q) if choice.q else query).limit(COUNTED + 1).subquery()
    return session.exec(select(func.count()).select_from(found)).one()


def _lines(session: Session, project: Project, choice: Choice, user: User | None) -> Any:  # a SELECT of several columns
    shown: list[Any] = [  # columns of several types
        Record.id, Record.state, func.substr(Record.question, 1, TEASER), func.substr(Record.answer, 1, TEASER),
        Record.rating, Record.edited, Record.language, Record.signals, Record.happened_at,
        Record.assigned_to, Record.cluster_id,
    ]  # fmt: skip
    where = choice.conditions((user.id if user else None) or 0)
    if user and accounts.role_in(session, user, project) == "reviewer":
        where.append(~measures(user.id))
    return select_columns(*shown).where(col(Record.project_id) == project.id, *where)


def languages(session: Session, project: Project) -> list[str]:
    """Answer the languages that a filter offers: English, Chinese, and those of the newest records."""
    newest = select(Record.language).where(Record.project_id == project.id).order_by(col(Record.id).desc()).limit(SEEN)
    found = session.exec(select(newest.subquery().c.language).distinct())
    return list(dict.fromkeys(["en", "zh", *sorted(code for code in found if code)]))


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
