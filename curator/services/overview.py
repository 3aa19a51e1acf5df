"""The lead's overview: how much is decided by whom and how fast, and how long the rest will take."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import date, datetime, timedelta
from math import ceil
from statistics import median
from typing import Any

from sqlalchemy import case
from sqlalchemy import select as select_columns
from sqlmodel import Session, col, func, select

from curator.services import counts
from curator.services.opinions import is_retracted
from db.models import Project, Record, Review, User, utc_now

DAYS = 14
TIMED = 5_000  # newest decisions whose seconds are looked at


@dataclass(frozen=True)
class Person:
    """What one person decided on each day, oldest first. `seconds` is their median, None where nothing measured it."""

    name: str
    by_day: list[int]
    seconds: float | None

    @property
    def total(self) -> int:
        return sum(self.by_day)


@dataclass(frozen=True)
class Throughput:
    """Decisions of the last DAYS days in the time zone of the machine. `seconds` is the median of all."""

    days: list[date]
    people: list[Person]
    seconds: float | None

    @property
    def by_day(self) -> list[int]:
        return [sum(person.by_day[place] for person in self.people) for place in range(len(self.days))]

    @property
    def total(self) -> int:
        return sum(self.by_day)


@dataclass(frozen=True)
class Backlog:
    """What is left. `needed` is how many decisions that takes; `days` at the pace of late, None when nobody works."""

    by_state: dict[str, int]
    needed: int
    days: int | None


def throughput(session: Session, project: Project) -> Throughput:
    """Count decisions per day and person; skips and what was taken back are left out."""
    days = _days()
    edges = [*(start for _, start in days), days[-1][1] + timedelta(days=1)]
    moment = col(Review.created_at)
    sums: list[Any] = [  # SQL expressions
        func.sum(case(((moment >= edges[place]) & (moment < edges[place + 1]), 1), else_=0)) for place in range(DAYS)
    ]
    query = (
        select_columns(col(Review.user_id), col(User.name), *sums)
        .join(Record, col(Record.id) == col(Review.record_id))
        .join(User, col(User.id) == col(Review.user_id))
        .where(*_decided(project, edges[0]))
        .group_by(col(Review.user_id), col(User.name))
    )
    seconds = _seconds(session, project, edges[0])
    people = [
        Person(row[1], [int(number) for number in row[2:]], _median(seconds.get(row[0], [])))
        for row in session.connection().execute(query)
    ]
    people.sort(key=lambda person: (-person.total, person.name))
    everybody = [one for theirs in seconds.values() for one in theirs]
    return Throughput([day for day, _ in days], people, _median(everybody))


def backlog(session: Session, project: Project, done: Throughput) -> Backlog:
    """Tell what is left and for how many days, at the average since the first day of `done` that anybody worked."""
    by_state = counts.of(session, project)
    needed = by_state.get("new", 0) * project.reviews_needed
    worked = next((place for place, number in enumerate(done.by_day) if number), None)
    if worked is None:
        return Backlog(by_state, needed, None)
    return Backlog(by_state, needed, ceil(needed * (len(done.days) - worked) / done.total))


def _days() -> list[tuple[date, datetime]]:
    """Answer the last days with the moments they began."""
    midnight = utc_now().astimezone().replace(hour=0, minute=0, second=0, microsecond=0)
    begun = [midnight - timedelta(days=back) for back in range(DAYS - 1, -1, -1)]
    return [(start.date(), start) for start in begun]


def _decided(project: Project, since: datetime) -> tuple[Any, ...]:  # SQL conditions
    return (
        col(Review.created_at) >= since, col(Review.verdict) != "skip", col(Record.project_id) == project.id,
        ~is_retracted(),
    )  # fmt: skip


def _seconds(session: Session, project: Project, since: datetime) -> dict[int, list[float]]:
    rows = session.exec(
        select(Review.user_id, Review.seconds)
        .join(Record, col(Record.id) == col(Review.record_id))
        .where(*_decided(project, since), col(Review.seconds).is_not(None))
        .order_by(col(Review.created_at).desc())
        .limit(TIMED)
    )
    found: dict[int, list[float]] = {}
    for user_id, seconds in rows:
        found.setdefault(user_id, []).append(seconds or 0.0)
    return found


def _median(seconds: Sequence[float]) -> float | None:
    return median(seconds) if seconds else None
