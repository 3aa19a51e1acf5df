"""Drafts: what a person has typed into a card and not saved yet, kept on the server so that nothing is ever lost."""

from __future__ import annotations

from pydantic import BaseModel, Field
from sqlmodel import Session, col, delete

from db.models import Draft, PassageVerdict, Record, User, utc_now


class DraftForm(BaseModel):
    """A half-finished judgement as it comes from the page; anything may be missing."""

    version: int
    rating: int | None = Field(None, ge=1, le=5)
    reasons: list[str] = []
    question: str | None = None
    answer: str | None = None
    turns: dict[str, str] = {}
    passages: dict[str, PassageVerdict] = {}
    comment: str = Field("", max_length=10_000)


def keep(session: Session, record: Record, user: User, form: DraftForm) -> Draft:
    """Keep what is typed, over what was kept before; of earlier turns only those that differ from what was said."""
    said = {str(place): str(turn["content"]).replace("\r\n", "\n") for place, turn in enumerate(record.turns)}
    draft = of(session, record, user) or Draft(user_id=user.id or 0, record_id=record.id or 0, record_version=0)
    values = form.model_dump(exclude={"version"})
    values["turns"] = {place: text for place, text in form.turns.items() if text != said.get(place)}
    for name, value in values.items():
        setattr(draft, name, value)
    draft.record_version, draft.saved_at = form.version, utc_now()
    session.add(draft)
    session.flush()
    return draft


def of(session: Session, record: Record, user: User) -> Draft | None:
    """Answer what a person has typed into a record's card, if anything."""
    return session.get(Draft, (user.id, record.id))


def drop(session: Session, record: Record, user: User) -> None:
    """Forget a draft, since its judgement is saved."""
    session.exec(delete(Draft).where(col(Draft.user_id) == user.id, col(Draft.record_id) == record.id))
