"""Assignment: a record is asked of one person only, until they have judged it or a lead frees it again."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from sqlmodel import Session, col, select, update

from curator.errors import Invalid
from curator.services import folding, picking
from curator.services.choice import Choice
from db.models import Membership, Project, Record, User

AT_ONCE = 5_000


class Assigned(NamedTuple):
    """How many records were assigned, and whether the choice holds more than one may assign at once."""

    number: int
    more: bool


def people(session: Session, project: Project) -> list[User]:
    """List who can be asked in a project: everybody who reviews there and may sign in, by name."""
    return list(
        session.exec(
            select(User)
            .join(Membership, col(Membership.user_id) == col(User.id))
            .where(
                Membership.project_id == project.id, col(Membership.role).in_(("reviewer", "lead")),
                col(User.disabled).is_(False),
            )
            .order_by(col(User.name), col(User.id))
        )
    )  # fmt: skip


def assign(session: Session, project: Project, lead: User, choice: Choice, person_id: int | None) -> Assigned:
    """Ask one person for the records of a choice that wait, or with None free them for everybody.

    At most AT_ONCE, in the order of the log. Who is at one of them just now keeps it until they have decided.
    Raises Invalid for somebody who does not review here.
    """
    if person_id is not None and person_id not in {person.id for person in people(session, project)}:
        raise Invalid("This person does not review in this project. Please choose somebody else.")
    other = col(Record.assigned_to).is_distinct_from(person_id)
    query = picking.waiting(session, project, choice, lead).where(other).order_by(col(Record.id)).limit(AT_ONCE + 1)
    ids = list(session.exec(query))
    for some in folding.batches(ids[:AT_ONCE]):
        session.exec(update(Record).where(col(Record.id).in_(some)).values(assigned_to=person_id))
    return Assigned(len(ids[:AT_ONCE]), len(ids) > AT_ONCE)


def pass_on(session: Session, user: User, record_ids: Sequence[int]) -> None:
    """Free what a person was asked for and has judged, where further people have yet to judge it.

    A record that is settled by it stays theirs, so that it comes back to them when the judgement is taken back.
    """
    for some in folding.batches(record_ids):
        session.exec(
            update(Record)
            .where(col(Record.id).in_(some), col(Record.assigned_to) == user.id, col(Record.state) == "new")
            .values(assigned_to=None)
        )
