"""The review queue: the next record for a person, reserved for a while.

A reservation is a lease on the record's own row. It keeps two people from judging the same record at the same time;
it never decides whether a judgement counts: that is the record's version (see reviews.add).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from functools import lru_cache
from typing import Any, NamedTuple

from sqlalchemy import ColumnElement, Integer, bindparam, false, tuple_
from sqlmodel import Session, and_, col, func, or_, select, update

from curator.services import search
from curator.services.choice import ALL, Choice, Order, waits
from curator.services.counts import COUNTED
from curator.services.opinions import is_retracted, judged_by
from curator.words import N_
from db.models import Project, Record, Review, User, utc_now

HELD = 50  # records a browser can name as held


ORDERS: dict[Order, tuple[tuple[Any, ...], str]] = {  # SQLAlchemy's orderings, and why it is asked in this order
    "doubt": ((col(Record.rank),), N_("Complaints first, then refusals, then what retrieval was unsure of.")),
    "thumbs": ((col(Record.thumbs), col(Record.rank)), N_("What users put their thumb down for comes first.")),
    "weak": ((col(Record.weak).desc(), col(Record.rank)), N_("Where the best passage matched worst comes first.")),
    "refusal": ((col(Record.refusal).desc(), col(Record.rank)), N_("Where the assistant refused comes first.")),
    "asked": ((col(Record.asked).desc(), col(Record.rank)), N_("What people ask most often comes first.")),
    "oldest": ((), N_("In the order of the log.")),
    "newest": ((), N_("The newest records of the log come first.")),
}

# Statements are built once per choice: building them anew costs more than SQLite needs to run them.
_ME, _PROJECT, _NOW = bindparam("me"), bindparam("project"), bindparam("now")
_QUEUED = (col(Record.project_id) == _PROJECT, waits(), ~judged_by(_ME, skips=True))
_HERE = (col(Record.project_id) + 0 == _PROJECT, *_QUEUED[1:])  # so said, SQLite walks what it is joined to instead
_FREE = or_(col(Record.claimed_until).is_(None), col(Record.claimed_until) <= _NOW, col(Record.claimed_by) == _ME)
_NOT_HELD = col(Record.id).not_in(bindparam("held", expanding=True))
_FOR_ME, _FOR_ALL = col(Record.assigned_to) == _ME, col(Record.assigned_to).is_(None)
LOOKED_AT = 10_000  # records of a queue that are looked through for a count, so that a rare filter costs no more


def _behind(order: Order) -> list[ColumnElement[bool]]:
    """Answer what stands behind a record in an order, as ranges of its index, the nearest first."""
    age, place = bindparam("last_id", type_=Integer), bindparam("last_rank", type_=Integer)
    tail = tuple_(col(Record.rank), col(Record.id)) > tuple_(place, age)
    if order in ("oldest", "newest"):
        return [col(Record.id) > age if order == "oldest" else col(Record.id) < age]
    if order == "doubt":
        return [tail]
    first: Any = getattr(Record, order)  # the column the order is named after
    last = bindparam("last_first", type_=first.type)
    return [and_(first == last, tail), first > last if order == "thumbs" else first < last]


@lru_cache(maxsize=512)
def _claiming(choice: Choice, *, for_me: bool, behind: int | None = None) -> Any:  # an UPDATE that answers rows
    """Build the claim of one choice: along the index of its order, what is assigned to me or what is for everybody.

    `behind` is which of the ranges behind a record is looked through; see _behind.
    """
    where = [
        *_QUEUED,
        _FREE,
        _NOT_HELD,
        _FOR_ME if for_me else _FOR_ALL,
        *choice.facets(),
        *([] if behind is None else [_behind(choice.queue_order)[behind]]),
    ]
    order, _ = ORDERS[choice.queue_order]
    by_age = col(Record.id).desc() if choice.queue_order == "newest" else col(Record.id)
    candidate = (
        select(Record.id)
        .where(*where)
        .order_by(*order, by_age)
        .limit(1)
        .with_for_update(skip_locked=True)  # for PostgreSQL; SQLite has one writer at a time
        .scalar_subquery()
    )
    return _reserving(candidate)


def _searching(session: Session, choice: Choice, asked_of: tuple[bool, ...], before: int = 0) -> Any:  # as _claiming
    """Build the claim of a search: along what the index finds, the newest first, as the list shows it."""
    query = select(Record.id).where(*_HERE, _FREE, _NOT_HELD, _whose(asked_of), *choice.facets())
    candidate = search.newest(session, query, choice.q, before=before).limit(1)
    return _reserving(candidate.with_for_update(skip_locked=True, of=Record).scalar_subquery())


def _reserving(candidate: Any) -> Any:  # a subquery of one id; an UPDATE that answers rows
    return (
        update(Record)
        .where(col(Record.id) == candidate)
        .values(claimed_by=_ME, claimed_until=bindparam("until"))
        .returning(Record)
    )


def _asked_of(choice: Choice, user: User) -> tuple[bool, ...]:
    """Answer whom a choice's records are asked of, in the order they are handed out: True this person, False nobody."""
    known = {"": (True, False), "me": (True,), "nobody": (False,), user.id: (True,)}
    return known.get(choice.assigned, ())  # what somebody else is asked for is not this person's to judge


def _whose(asked_of: tuple[bool, ...]) -> ColumnElement[bool]:
    return or_(false(), *(_FOR_ME if mine else _FOR_ALL for mine in asked_of))


@lru_cache(maxsize=8)
def _waiting(asked_of: tuple[bool, ...]) -> Any:  # a SELECT of ids
    return select(Record.id).where(col(Record.project_id) == _PROJECT, waits(), _whose(asked_of))


@lru_cache(maxsize=256)
def _counting(choice: Choice, asked_of: tuple[bool, ...]) -> Any:  # as _count
    return _count(_waiting(asked_of), choice, asked_of)


def _count(first: Any, choice: Choice, asked_of: tuple[bool, ...]) -> Any:  # a SELECT of ids; a SELECT of a number
    """Count what is left of a choice among the first records of a queue or a search; they are read one by one."""
    looked = first.limit(LOOKED_AT).subquery()
    left = select(Record.id).select_from(looked).join(Record, col(Record.id) == looked.c.id)
    left = left.where(*choice.facets(), *_HERE, _whose(asked_of)).limit(COUNTED + 1)
    return select(func.count()).select_from(left.subquery())


_newest = (
    select(Review.created_at)
    .where(col(Review.user_id) == _ME, col(Review.verdict) != "skip", ~is_retracted())
    .order_by(col(Review.id).desc())
    .limit(COUNTED)
    .subquery()
)
_TODAY = select(func.count()).select_from(_newest).where(_newest.c.created_at >= bindparam("midnight"))


class Left(NamedTuple):
    """How many records are left: counted up to COUNTED + 1 among the first LOOKED_AT; `more`: there may be more."""

    number: int
    more: bool


@dataclass(frozen=True)
class Progress:
    """Where a person stands: records left for them, and those they judged today, counted up to COUNTED."""

    left: Left
    today: int
    skipped: int  # known only when nothing is left, since only then it is shown


class Holder(NamedTuple):
    """Who has a record reserved, and until when."""

    user_id: int
    name: str
    until: datetime


def claim_next(
    session: Session,
    project: Project,
    user: User,
    choice: Choice = ALL,
    *,
    lease_seconds: int,
    after: Record | None = None,
    held: Sequence[int] = (),
) -> Record | None:
    """Reserve and answer the next record of a choice for a person, or None when nothing is left for them.

    One conditional UPDATE along the index of the choice's order: first what is assigned to this person, then what is
    assigned to nobody. A search is handed out newest first instead, along what is found. What this person holds
    already counts as free, so a reload brings the same card back; `held` are records on their screen that must not
    come again. Not offered: what others hold, and what this person has judged or skipped (see reviews.unskip). Where
    a record needs several reviews, the ones a person has done stay in the queue for others, and a choice leaves many
    out: there `after` starts behind the last one, instead of stepping over all of them again, and only then from the
    start.
    """
    now = utc_now()
    values: dict[str, Any] = {  # values of several types
        "me": user.id, "project": project.id, "now": now, "until": now + timedelta(seconds=lease_seconds),
        "held": [*held[:HELD], 0],
    }  # fmt: skip
    asked_of = _asked_of(choice, user)
    if choice.q:
        found = _claim(session, _searching(session, choice, asked_of, after.id or 0), values) if after else None
        return found or _claim(session, _searching(session, choice, asked_of), values)
    mine = _claim(session, _claiming(choice, for_me=True), values) if True in asked_of else None
    if mine is not None or False not in asked_of:
        return mine
    if after is not None and (project.reviews_needed > 1 or not choice.is_empty):
        order = choice.queue_order
        last = {"last_rank": after.rank, "last_id": after.id, "last_first": getattr(after, order, None)}
        for number in range(len(_behind(order))):
            found = _claim(session, _claiming(choice, for_me=False, behind=number), {**values, **last})
            if found is not None:
                return found
    return _claim(session, _claiming(choice, for_me=False), values)


def _claim(session: Session, statement: Any, values: dict[str, Any]) -> Record | None:  # as _claiming and above
    options = {"synchronize_session": False, "populate_existing": True}
    return session.exec(statement, params=values, execution_options=options).scalar_one_or_none()


def holder(session: Session, record: Record) -> Holder | None:
    """Answer who has a record reserved just now, or None."""
    if record.claimed_by is None or record.claimed_until is None or record.claimed_until <= utc_now():
        return None
    return Holder(record.claimed_by, session.get_one(User, record.claimed_by).name, record.claimed_until)


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


def remaining(session: Session, project: Project, user: User, choice: Choice = ALL) -> Left:
    """Count what is left of a choice for a person, at a price that does not grow with the queue."""
    asked_of, values = _asked_of(choice, user), {"me": user.id, "project": project.id}
    first = search.newest_ids(session, choice.q) if choice.q else _waiting(asked_of)
    counting = _count(first, choice, asked_of) if choice.q else _counting(choice, asked_of)
    number = session.exec(counting, params=values).one()
    if number > COUNTED or choice.is_empty:
        return Left(number, number > COUNTED)
    beyond = first.offset(LOOKED_AT).limit(1)
    return Left(number, session.exec(beyond, params=values).first() is not None)


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
                Review.user_id == user.id, Review.verdict == "skip", ~is_retracted(),
                Record.project_id == project.id, Record.state == "new",
            )
            .order_by(col(Review.id))
        )
    )  # fmt: skip


def progress(session: Session, project: Project, user: User, choice: Choice = ALL) -> Progress:
    """Say where a person stands in this queue."""
    left = remaining(session, project, user, choice)
    return Progress(left, done_today(session, user), 0 if left.number else len(skipped(session, project, user)))
