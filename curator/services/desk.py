"""The review desk's card: one record with all that is shown beside it."""

from __future__ import annotations

import secrets
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Protocol

from sqlmodel import Session

from curator.services import drafts, evidence, personal, queue, records, reviews, text, twins
from curator.services.choice import ALL, Choice
from curator.services.evidence import EMPTY, Evidence
from curator.services.queue import Progress
from curator.services.records import Past
from curator.services.reviews import ReviewForm
from db.models import Passage, Project, Record, Review, User

SHOWN_TURNS = 40


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
    def passages(self) -> Mapping[str, str]: ...
    @property
    def comment(self) -> str: ...


@dataclass(frozen=True)
class Card:
    """What one card shows. `record` is None when nothing is left; `request_id` names the judgement to come.

    `lease_seconds` is how long the record stays reserved, 0 when it is only looked at. `personal` are the kinds of
    personal data in it, `unusual` what a reader cannot see in its texts; `kept_at` is when the draft was kept that
    `typed` comes from, and `version` what it was typed into. `blind`: what settled the record is not shown.
    """

    record: Record | None
    passages: Sequence[Passage]
    progress: Progress
    typed: Typed | None
    version: int
    request_id: str
    lease_seconds: int
    evidence: Evidence
    personal: Sequence[str] = ()
    unusual: Sequence[str] = ()
    kept_at: datetime | None = None
    twins: int = 0
    blind: bool = False


def next_card(
    session: Session,
    project: Project,
    user: User,
    choice: Choice,
    *,
    lease_seconds: int,
    after: Record | None = None,
    held: Sequence[int] = (),
) -> Card:
    """Reserve the next record of a choice for a person and answer its card; see queue.claim_next."""
    record = queue.claim_next(session, project, user, choice, lease_seconds=lease_seconds, after=after, held=held)
    return card_of(session, project, user, record, choice=choice, lease_seconds=lease_seconds)


def card_of(
    session: Session,
    project: Project,
    user: User,
    record: Record | None,
    typed: Typed | None = None,
    *,
    choice: Choice = ALL,
    lease_seconds: int = 0,
    blind: bool = False,
) -> Card:
    """Answer the card of this record, with what this person has typed into it before and not saved."""
    progress, request_id = queue.progress(session, project, user, choice), secrets.token_urlsafe(16)
    if record is None:
        return Card(None, (), progress, None, 0, request_id, 0, EMPTY)
    passages = records.passages(session, record)
    texts = [passage.text for passage in passages]
    draft = drafts.of(session, record, user)
    return Card(
        record=record,
        passages=passages,
        progress=progress,
        typed=draft or typed,
        version=draft.record_version if draft else record.version,
        request_id=request_id,
        lease_seconds=lease_seconds,
        evidence=evidence.evidence(record.answer, texts),
        personal=_personal(record, texts),
        unusual=text.unusual(f"{record.question}\n{record.answer}"),
        kept_at=draft.saved_at if draft else None,
        twins=twins.size(session, record.cluster_id) if record.cluster_id else 0,
        blind=blind,
    )


def decide(session: Session, record: Record, user: User, form: ReviewForm) -> Review:
    """Save a judgement; what was kept of it while it was typed is not needed any more."""
    review = reviews.add(session, record, user, form)
    drafts.drop(session, record, user)
    return review


def _personal(record: Record, passages: Sequence[str]) -> Sequence[str]:
    """Answer the kinds of personal data in a record: as the light job found them, which may not have come to it yet."""
    if record.personal is not None:
        return [personal.NAMES[kind] for kind in record.personal.split()]
    said = [record.question, record.answer, *(str(turn["content"]) for turn in record.turns[-SHOWN_TURNS:])]
    return [personal.NAMES[kind] for kind in personal.kinds(said, lambda: passages)]


def shown(session: Session, project: Project, user: User, record: Record, history: Sequence[Past]) -> Card:
    """Answer a record's card as it stands: with the correction that settled it, if this person's history has it."""
    settled = next((past.review for past in history if past.review.id == record.settled_by), None)
    blind = record.settled_by is not None and settled is None
    return card_of(session, project, user, record, settled, blind=blind)
