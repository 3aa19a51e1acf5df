"""Reviews: people's judgements, appended for ever. What they make of a record is in folding.py."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from pydantic import BaseModel, Field, model_validator
from sqlmodel import Session, col, exists, select, update

from curator.errors import Conflict, Forbidden, Invalid, NotFound
from curator.services import accounts, folding, queue, records
from db.models import PassageVerdict, Project, Record, Retraction, Review, User, Verdict

LONGEST = 4_000_000  # characters of a correction


class ReviewForm(BaseModel):
    """A judgement as it comes from the page.

    `question` and `answer` have no default on purpose: parse_form reads an emptied text with a default as absent,
    and an emptied answer has to be refused, not forgotten.
    """

    version: int
    request_id: str = Field(min_length=8, max_length=64)
    verdict: Verdict
    rating: int | None = Field(None, ge=1, le=5)
    reasons: list[str] = []
    question: str | None
    answer: str | None
    turns: dict[str, str] = {}  # corrected turns of the assistant before the question, by their place
    passages: dict[str, PassageVerdict] = {}  # what each passage was worth, by its position
    comment: str = Field("", max_length=10_000)
    seconds: float | None = Field(None, ge=0)

    @model_validator(mode="before")
    @classmethod
    def _absent_is_unchanged(cls, values: Any) -> Any:  # raw input of any kind
        return {"question": None, "answer": None, **values} if isinstance(values, dict) else values


class Stale(Conflict):
    """The record was decided by somebody else since it was shown. Carries it as it is now, and what was typed."""

    def __init__(self, record: Record, form: ReviewForm) -> None:
        super().__init__("Somebody decided this record while you were at it. Compare and save again.")
        self.record = record
        self.form = form


def add(session: Session, record: Record, user: User, form: ReviewForm) -> Review:
    """Append a judgement and settle the record by it.

    The same request_id again (a double click, a retry) is the same review. Raises Stale when the record was decided
    since the form was made, Invalid for a rejection without a reason or an emptied text, Forbidden where a lead has
    had the last word. A skip changes nothing about the record, so it is never stale.
    """
    known = _by_request(session, record, user, form.request_id)
    if known is not None:
        return known
    project = folding.project_of(session, record)
    review = _checked(session, project, record, user, form)
    if not _take(session, record, form):
        known = _by_request(session, record, user, form.request_id)
        if known is not None:
            return known
        session.refresh(record)
        raise Stale(record, form)
    session.add(review)
    session.flush()
    folding.refold(session, record)
    return review


def _by_request(session: Session, record: Record, user: User, request_id: str) -> Review | None:
    known = session.exec(select(Review).where(Review.request_id == request_id)).first()
    if known is not None and (known.record_id, known.user_id) != (record.id, user.id):
        raise Invalid("This form was used for another record already. Please reload the page.")
    return known


def _checked(session: Session, project: Project, record: Record, user: User, form: ReviewForm) -> Review:
    """Make the review a form asks for, or refuse it."""
    reasons = [reason for reason in dict.fromkeys(form.reasons) if reason in {r["key"] for r in project.reasons}]
    if form.verdict == "reject" and not reasons and project.reasons:
        raise Invalid("Please choose at least one reason for the rejection.")
    leads = record.state != "new" and accounts.role_in(session, user, project) in ("lead", "admin")
    settled = records.settled_review(session, record)
    if settled and settled.adjudication and not leads and form.verdict != "skip":
        raise Forbidden("A lead has settled this record. Ask them if you see it differently.")
    return Review(
        record_id=record.id or 0,
        user_id=user.id or 0,
        request_id=form.request_id,
        verdict=form.verdict,
        rating=form.rating,
        reasons=reasons,
        question=_correction(record.question, form.question, form.verdict),
        answer=_correction(record.answer, form.answer, form.verdict),
        turns=_corrected_turns(record, form),
        passages=dict(form.passages),
        comment=form.comment.strip(),
        adjudication=leads and form.verdict in ("accept", "reject"),
        record_version=form.version,
        seconds=form.seconds,
    )


def _correction(original: str, typed: str | None, verdict: Verdict) -> str | None:
    """Answer a correction, or None where nothing was changed; line ends that only the browser changed are no change."""
    if typed is None or typed == original.replace("\r\n", "\n").replace("\r", "\n"):
        return None
    if typed.strip() == "":
        if verdict == "accept":
            raise Invalid("An accepted text cannot be empty. Write it, or reject the record.")
        return None
    if len(typed) > LONGEST:
        raise Invalid("A correction can have %(count)s characters at most.", count=LONGEST)
    return typed


def _corrected_turns(record: Record, form: ReviewForm) -> dict[str, str]:
    """Answer the assistant's earlier turns that were changed; those of a person are the log and stay as they are."""
    found: dict[str, str] = {}
    for place, turn in enumerate(record.turns):
        if turn["role"] == "assistant":
            changed = _correction(str(turn["content"]), form.turns.get(str(place)), form.verdict)
            if changed is not None:
                found[str(place)] = changed
    return found


def _take(session: Session, record: Record, form: ReviewForm) -> bool:
    """Free the record and count its version up, if it is still the version that was judged."""
    query = update(Record).where(col(Record.id) == record.id).values(claimed_by=None, claimed_until=None)
    if form.verdict != "skip":
        query = query.where(col(Record.version) == form.version).values(version=col(Record.version) + 1)
    return session.exec(query).rowcount == 1


def undo(session: Session, project: Project, user: User, *, lease_seconds: int) -> tuple[Record, Review]:
    """Take back a person's newest review here; answer its record, reserved for them again, and the review."""
    review = session.exec(
        select(Review)
        .join(Record, col(Record.id) == col(Review.record_id))
        .where(Review.user_id == user.id, Record.project_id == project.id, ~_is_retracted())
        .order_by(col(Review.id).desc())
        .limit(1)
    ).first()
    if review is None:
        raise NotFound("There is nothing to take back.")
    record = records.get(session, project, review.record_id)
    session.refresh(record, with_for_update=True)  # a judgement landing just now waits, and is folded in after us
    _retract(session, user, [review])
    folding.refold(session, record)
    return queue.claim(session, record, user, lease_seconds=lease_seconds), review


def unskip(session: Session, project: Project, user: User) -> int:
    """Put what a person has skipped back into their queue; answer how many."""
    skips = queue.skipped(session, project, user)
    _retract(session, user, skips)
    return len(skips)


def _retract(session: Session, user: User, taken_back: Iterable[Review]) -> None:
    session.add_all([Retraction(review_id=review.id or 0, user_id=user.id or 0) for review in taken_back])
    session.flush()


def _is_retracted() -> Any:  # an SQL condition
    return exists().where(col(Retraction.review_id) == col(Review.id))
