"""The review desk's card: one record with all that is shown beside it."""

from __future__ import annotations

import secrets
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

from sqlmodel import Session

from curator.services import queue, records
from curator.services.queue import Progress
from db.models import Passage, Project, Record, Review, User


class Typed(Protocol):
    """What a person has chosen and typed already: a ReviewForm that was refused, or a Review that was taken back."""

    @property
    def rating(self) -> int | None: ...
    @property
    def reasons(self) -> list[str]: ...
    @property
    def question(self) -> str | None: ...
    @property
    def answer(self) -> str | None: ...
    @property
    def turns(self) -> dict[str, str]: ...
    @property
    def comment(self) -> str: ...


@dataclass(frozen=True)
class Card:
    """What one card shows. `record` is None when nothing is left; `request_id` names the judgement to come.

    `lease_seconds` is how long the record stays reserved, 0 when it is only looked at.
    """

    record: Record | None
    passages: Sequence[Passage]
    progress: Progress
    typed: Typed | None
    request_id: str
    lease_seconds: int


def next_card(
    session: Session, project: Project, user: User, *, lease_seconds: int, after: Record | None = None
) -> Card:
    """Reserve the next record for a person and answer its card; see queue.claim_next."""
    record = queue.claim_next(session, project, user, lease_seconds=lease_seconds, after=after)
    return card_of(session, project, user, record, lease_seconds=lease_seconds)


def card_of(
    session: Session,
    project: Project,
    user: User,
    record: Record | None,
    typed: Typed | None = None,
    *,
    lease_seconds: int = 0,
) -> Card:
    """Answer the card of this record."""
    return Card(
        record=record,
        passages=records.passages(session, record) if record else (),
        progress=queue.progress(session, project, user),
        typed=typed,
        request_id=secrets.token_urlsafe(16),
        lease_seconds=lease_seconds,
    )


def shown(session: Session, project: Project, user: User, record: Record) -> Card:
    """Answer a record's card as it stands: with the correction that settled it, if there is one."""
    settled: Review | None = records.settled_review(session, record)
    return card_of(session, project, user, record, settled)
