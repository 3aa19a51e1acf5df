"""A person's session at the desk: what they have decided since their last break."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from statistics import median
from typing import Any, NamedTuple

from sqlalchemy import Text
from sqlalchemy import select as select_columns
from sqlalchemy.orm import aliased
from sqlmodel import Session, cast, col, func, or_, select

from curator.services import lineage
from curator.services.opinions import is_retracted
from db.models import Project, Record, Review, User

BREAK = timedelta(minutes=30)
LONGEST = 2_000  # reviews that a session can have; nobody decides more without a break
SHOWN = 50  # edited records that are listed
TEASER = 120


class _Done(NamedTuple):
    review_id: int
    record_id: int
    verdict: str
    edited: bool
    seconds: float | None
    created_at: datetime


@dataclass(frozen=True)
class Edited:
    """A record that was corrected in the session, its question cut short."""

    id: int
    question: str


@dataclass(frozen=True)
class Summary:
    """One session. `seconds` is the median of a decision, None when no page measured it.

    `run` is the number the next run will most likely have. `measured` are decisions on records that a lead has vouched
    for, `agreed` those that were the same as the lead's.
    """

    decided: int
    edited: int
    skipped: int
    seconds: float | None
    began: datetime | None
    ended: datetime | None
    run: int
    records: list[Edited]
    measured: int
    agreed: int


def summary(session: Session, project: Project, user: User) -> Summary:
    """Tell what a person has done here since their last break of half an hour; what they took back is left out."""
    done = _since_break(_newest(session, project, user))
    decided = [one for one in done if one.verdict != "skip"]
    edited = [one.record_id for one in decided if one.edited]
    measured = [one.seconds for one in decided if one.seconds is not None]
    gold, agreed = _against_gold(session, [one.review_id for one in decided])
    return Summary(
        decided=len(decided),
        edited=len(edited),
        skipped=len(done) - len(decided),
        seconds=median(measured) if measured else None,
        began=done[-1].created_at if done else None,
        ended=done[0].created_at if done else None,
        run=len(lineage.run_numbers(session, project)) + 1,
        records=_shown(session, edited[:SHOWN]),
        measured=gold,
        agreed=agreed,
    )


def _newest(session: Session, project: Project, user: User) -> list[_Done]:
    edited = or_(col(Review.question).is_not(None), col(Review.answer).is_not(None), _has_turns())
    columns: list[Any] = [  # columns of several types
        Review.id, Review.record_id, Review.verdict, edited, Review.seconds, Review.created_at,
    ]  # fmt: skip
    query = (
        select_columns(*columns)
        .join(Record, col(Record.id) == col(Review.record_id))
        .where(col(Review.user_id) == user.id, col(Record.project_id) == project.id, ~is_retracted())
        .order_by(col(Review.id).desc())
        .limit(LONGEST)
    )
    return [_Done(*row) for row in session.connection().execute(query)]


def _has_turns() -> Any:  # an SQL condition
    return func.length(cast(col(Review.turns), Text)) > len("{}")


def _since_break(newest_first: Iterable[_Done]) -> list[_Done]:
    done: list[_Done] = []
    for one in newest_first:
        if done and done[-1].created_at - one.created_at > BREAK:
            break
        done.append(one)
    return done


def _against_gold(session: Session, review_ids: Sequence[int]) -> tuple[int, int]:
    """Count those of some reviews that are on gold records somebody else settled, and those of them that agree."""
    final = aliased(Review)
    rows = session.exec(
        select(Review.verdict, final.verdict)
        .join(Record, col(Record.id) == col(Review.record_id))
        .join(final, col(final.id) == col(Record.settled_by))
        .where(
            col(Review.id).in_(review_ids), col(Record.gold), col(Review.user_id) != col(final.user_id),
            col(Review.verdict).in_(("accept", "reject")),
        )
    ).all()  # fmt: skip
    return len(rows), sum(mine == theirs for mine, theirs in rows)


def _shown(session: Session, record_ids: Sequence[int]) -> list[Edited]:
    rows = session.exec(
        select(Record.id, func.substr(Record.question, 1, TEASER)).where(col(Record.id).in_(record_ids))
    ).all()
    questions = {key: question for key, question in rows if key is not None}
    return [Edited(key, questions[key]) for key in dict.fromkeys(record_ids) if key in questions]
