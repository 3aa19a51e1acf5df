"""Adjudication: a lead reads what reviewers made of a record on which they disagree, and settles it."""

from __future__ import annotations

import secrets
from collections.abc import Sequence
from dataclasses import dataclass, field

from sqlalchemy import text
from sqlmodel import Session, col, select

from curator.errors import Conflict
from curator.services import folding, records, reviews
from curator.services.choice import HIGHEST
from curator.services.reviews import ReviewForm
from db.models import Passage, Project, Record, Review, User, Verdict

_WAITING = text("record.state = 'unsure'")  # as the index record_unsure says it


@dataclass(frozen=True)
class Opinion:
    """What one person makes of a record, with the texts as they would stand."""

    review: Review
    name: str
    question: str
    answer: str

    @property
    def can_be_taken(self) -> bool:
        return self.review.verdict in ("accept", "reject")


@dataclass(frozen=True)
class Case:
    """A record that waits for a lead, and each person's newest opinion, oldest first."""

    record: Record
    opinions: list[Opinion]
    passages: Sequence[Passage]
    request_id: str = field(default_factory=lambda: secrets.token_urlsafe(16))  # names the lead's word to come

    @property
    def pair(self) -> tuple[Opinion, Opinion] | None:
        """Answer the first two opinions that accept it with different texts, which are worth laying side by side."""
        accepted = [one for one in self.opinions if one.review.verdict == "accept"]
        two = accepted[:2]
        differ = len(two) == 2 and (two[0].question, two[0].answer) != (two[1].question, two[1].answer)
        return (two[0], two[1]) if differ else None

    @property
    def corrected_turns(self) -> list[tuple[str, str]]:
        """Answer the places of earlier turns that somebody corrected, with the original text."""
        places = {place for one in self.opinions for place in one.review.turns}
        return [(place, str(self.record.turns[int(place)]["content"])) for place in sorted(places, key=int)]

    def start(self, review_id: int | None) -> Opinion | None:
        """Answer what a lead's own text starts from: this opinion, else the newest that accepts the record."""
        accepted = [one for one in self.opinions if one.review.verdict == "accept"]
        return self.opinion(review_id) or (accepted[-1] if accepted else None)

    def opinion(self, review_id: int | None) -> Opinion | None:
        """Answer the opinion with this review, if it still stands."""
        return next((one for one in self.opinions if one.review.id == review_id), None)


class SettlingForm(ReviewForm):
    """A lead's word: `take` is the review whose opinion is taken as it is; else it is the judgement in this form."""

    verdict: Verdict = "accept"
    take: int | None = None


def next_case(session: Session, project: Project, *, after: int = 0) -> Case | None:
    """Answer the oldest record behind `after` that waits for a lead, else the oldest of all; None when none does."""
    query = select(Record).where(Record.project_id == project.id, _WAITING).order_by(col(Record.id)).limit(1)
    record = session.exec(query.where(col(Record.id) > max(0, min(after, HIGHEST)))).first()
    if record is None and after > 0:
        record = session.exec(query).first()
    return case_of(session, record) if record else None


def case_of(session: Session, record: Record) -> Case:
    """Answer a record with the opinions on it."""
    standing = folding.standing(folding.judged_of(session, record))
    people = session.exec(select(User).where(col(User.id).in_({review.user_id for review in standing})))
    names = {person.id: person.name for person in people}
    opinions = [
        Opinion(
            review,
            names[review.user_id],
            record.question if review.question is None else review.question,
            record.answer if review.answer is None else review.answer,
        )
        for review in standing
    ]
    return Case(record, opinions, records.passages(session, record))


def settle(session: Session, record: Record, lead: User, form: SettlingForm) -> Review:
    """Save a lead's word on a record that waits for it; the same request_id again is the same word.

    Raises Conflict when the record does not wait any more, or when the opinion that is to be taken was taken back.
    """
    known = session.exec(select(Review.id).where(Review.request_id == form.request_id)).first()
    if known is None and record.state != "unsure":
        raise Conflict("This record does not wait for a lead any more: somebody settled it, or took an opinion back.")
    own = {"question": None, "answer": None, "turns": {}} if form.verdict == "reject" else {}
    given = ReviewForm.model_validate({**form.model_dump(exclude={"take"}), **own})
    if form.take is not None and known is None:
        given = _taken(session, record, form)
    return reviews.add(session, record, lead, given)


def _taken(session: Session, record: Record, form: SettlingForm) -> ReviewForm:
    """Make an opinion the lead's own; their comment is theirs."""
    opinion = case_of(session, record).opinion(form.take)
    if opinion is None or not opinion.can_be_taken:
        raise Conflict("That opinion was taken back or changed. Load the page anew to see how it stands.")
    review = opinion.review
    return ReviewForm.model_validate(
        {
            "version": form.version,
            "request_id": form.request_id,
            "verdict": review.verdict,
            "rating": review.rating,
            "reasons": review.reasons,
            "question": review.question,
            "answer": review.answer,
            "turns": review.turns,
            "passages": review.passages,
            "comment": form.comment,
            "seconds": form.seconds,
        }
    )
