"""Records of a choice that wait for a review: to decide several together, or to ask somebody for them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from sqlmodel import Session, col, func, or_, select

from curator.errors import Conflict, Invalid, NotFound
from curator.services import search, twins
from curator.services.choice import HIGHEST, Choice
from curator.services.opinions import is_in, is_retracted, judged_by, of_batch
from curator.services.undo import undo
from db.models import Project, Record, Review, User, utc_now

TOGETHER = 1_000  # decided at once at most
SHOWN = 20  # of these are shown before


@dataclass(frozen=True)
class Picked:
    """Records that would be decided together: their ids, the first of them, and whether the choice holds more."""

    ids: list[int]
    shown: list[Record]
    more: bool


@dataclass(frozen=True)
class Group:
    """Near-duplicates: the first of them, the one that stands for the others at the front, and how many there are."""

    members: list[Record]
    size: int


@dataclass(frozen=True)
class Given:
    """What became of a batch: its verdict, how many of its judgements stand, and whether it is this person's newest."""

    verdict: str
    standing: int
    newest: bool


def waiting(session: Session, project: Project, choice: Choice, user: User) -> Any:  # a SELECT of ids
    """Select the ids of what waits in a choice; raises Invalid for a choice of what is decided already."""
    if choice.state not in ("", "new"):
        raise Invalid("Only records that wait for a review can be taken together. Choose “To review” first.")
    conditions = choice.with_state("new").conditions(user.id or 0)
    query = select(Record.id).where(Record.project_id == project.id, *conditions)
    return search.among(session, query, choice.q) if choice.q else query


def together(session: Session, project: Project, choice: Choice, user: User) -> Picked:
    """Answer what a person would decide with one click, at most TOGETHER.

    Left out are records that somebody else is at, that are asked of somebody else, and that this person has judged.
    """
    until = col(Record.claimed_until)
    query = waiting(session, project, choice, user).where(
        ~judged_by(user.id),
        or_(until.is_(None), until <= utc_now(), col(Record.claimed_by) == user.id),
        or_(col(Record.assigned_to).is_(None), col(Record.assigned_to) == user.id),
    )
    ids = list(session.exec(query.order_by(col(Record.id)).limit(TOGETHER + 1)))
    shown = session.exec(select(Record).where(col(Record.id).in_(ids[:SHOWN])).order_by(col(Record.id)))
    return Picked(ids[:TOGETHER], list(shown), len(ids) > TOGETHER)


def group(session: Session, project: Project, record_id: int) -> Group:
    """Answer the near-duplicates that this record stands for, or raise NotFound."""
    members = twins.members(session, project, record_id) if record_id <= HIGHEST else []
    if not members:
        raise NotFound("There is no such group of near-duplicates in this project.")
    return Group(members, twins.size(session, record_id))


def take_back(session: Session, project: Project, user: User, batch: str) -> int:
    """Take back all that a person decided together; answer how many. Raises Conflict when it is not their newest."""
    if not given(session, project, user, batch).newest:
        raise Conflict("You have decided something else since, or took this back already. Undo goes step by step.")
    return undo(session, project, user, lease_seconds=0).number


def given(session: Session, project: Project, user: User, batch: str) -> Given:
    """Answer what a person decided together under this name, or raise NotFound."""
    query = select(Review).where(*of_batch(batch), Review.user_id == user.id, is_in(project)).limit(1)
    one = session.exec(query).first() if batch else None
    if one is None:
        raise NotFound("There is no such decision of yours in this project.")
    standing = (*of_batch(batch), col(Review.user_id) == user.id, ~is_retracted())
    number = session.exec(select(func.count()).select_from(Review).where(*standing)).one()
    last = select(Review.batch).where(Review.user_id == user.id, is_in(project), ~is_retracted())
    newest = session.exec(last.order_by(col(Review.id).desc()).limit(1)).first()
    return Given(one.verdict, number, newest == batch)
