"""Reviews: people's judgements, appended for ever. What they make of a record is in folding.py.

Where a record needs several reviews, or is one that people are measured by, everybody judges it blind: see
visible_history, and what add() does when somebody else's opinion came first.
"""

from __future__ import annotations

from typing import Any

from pydantic import BaseModel, Field, model_validator
from sqlalchemy import case
from sqlmodel import Session, col, select, update

from curator.errors import Conflict, Forbidden, Invalid
from curator.services import accounts, assignment, folding, reasons, records
from curator.services.batches import add_batch
from curator.services.opinions import is_retracted
from curator.services.records import Past
from curator.services.undo import Undone, undo, unskip
from db.models import PassageVerdict, Project, Record, Review, User, Verdict

__all__ = [
    "ReviewForm", "Stale", "Undone", "add", "add_batch", "newest_of", "undo", "unskip", "visible_history",
]  # fmt: skip

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
    had the last word. A skip changes nothing about the record, so it is never stale. Nor is a blind opinion that only
    other blind opinions came before: all of them count, and `record_version` says in which order they came.
    """
    known = _by_request(session, record, user, form.request_id)
    if known is not None:
        return known
    project = folding.project_of(session, record)
    review = _checked(session, project, record, user, form)
    if not _take(session, record, review):
        known = _by_request(session, record, user, form.request_id)
        if known is not None:
            return known
        session.refresh(record, with_for_update=True)
        if not _goes_beside(session, project, record, review):
            raise Stale(record, form)
        review.record_version = record.version
        _take(session, record, review)
    session.add(review)
    session.flush()
    if review.verdict != "skip":
        folding.refold(session, record)
        if record.state == "new" and record.assigned_to == user.id:
            assignment.pass_on(session, user, [record.id or 0])
    return review


def visible_history(session: Session, record: Record, user: User, role: str | None) -> list[Past]:
    """List a record's reviews that a person may see, oldest first.

    Their own always. Others' only when they cannot sway this person any more: once this person has decided, or the
    record is settled; where it waits for a lead, a lead. A reviewer is measured by a gold record, so there they
    decide first.
    """
    past = records.history(session, record)
    own = [one for one in past if one.review.user_id == user.id]
    if any(one.review.verdict != "skip" and one.retracted_at is None for one in own):
        return past
    if record.state == "unsure":
        return past if role in ("lead", "admin") else own
    return own if record.state == "new" or (record.gold and role == "reviewer") else past


def newest_of(session: Session, record: Record, user: User) -> Review | None:
    """Answer this person's newest opinion on a record that was not taken back, skips left out."""
    mine = (Review.record_id == record.id, Review.user_id == user.id, col(Review.verdict) != "skip", ~is_retracted())
    return session.exec(select(Review).where(*mine).order_by(col(Review.id).desc()).limit(1)).first()


def _by_request(session: Session, record: Record, user: User, request_id: str) -> Review | None:
    known = session.exec(select(Review).where(Review.request_id == request_id)).first()
    if known is not None and (known.record_id, known.user_id) != (record.id, user.id):
        raise Invalid("This form was used for another record already. Please reload the page.")
    return known


def _checked(session: Session, project: Project, record: Record, user: User, form: ReviewForm) -> Review:
    """Make the review a form asks for, or refuse it. A lead's word on what reviewers have judged is an adjudication."""
    leads = record.state != "new" and accounts.role_in(session, user, project) in ("lead", "admin")
    settled = records.settled_review(session, record)
    if settled and settled.adjudication and not leads and not record.gold and form.verdict != "skip":
        raise Forbidden("A lead has settled this record. Ask them if you see it differently.")
    return Review(
        record_id=record.id or 0,
        user_id=user.id or 0,
        request_id=form.request_id,
        verdict=form.verdict,
        rating=form.rating,
        reasons=reasons.chosen(project, form.verdict, form.reasons),
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


def _take(session: Session, record: Record, review: Review) -> bool:
    """Give the record back and count its version up, if it is still the version that was judged.

    Somebody else's reservation stays: where several reviews are needed they may be at it when this one comes late.
    """
    held = col(Record.claimed_by) == review.user_id
    query = (
        update(Record)
        .where(col(Record.id) == record.id)
        .values(
            claimed_by=case((held, None), else_=col(Record.claimed_by)),
            claimed_until=case((held, None), else_=col(Record.claimed_until)),
        )
    )
    if review.verdict != "skip":
        query = query.where(col(Record.version) == review.record_version).values(version=col(Record.version) + 1)
    return session.exec(query).rowcount == 1


def _goes_beside(session: Session, project: Project, record: Record, review: Review) -> bool:
    """Tell whether a judgement of an older version counts all the same; the record is locked.

    It does when only other people's blind opinions came between: the record still waits for more of them, or it is
    one that people are measured by. It does not when this person has judged the record since, say in another window.
    """
    blind = record.state == "new" and project.reviews_needed > 1
    if not (blind or record.gold) or review.adjudication or review.record_version > record.version:
        return False
    mine = (Review.record_id == record.id, Review.user_id == review.user_id, Review.verdict != "skip")
    since = select(Review.id).where(*mine, col(Review.record_version) >= review.record_version)
    return session.exec(since.limit(1)).first() is None
