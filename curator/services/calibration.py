"""Calibration: how well each reviewer's own opinions fit what leads have settled.

A gold record is one that a lead vouches for: marking it writes the lead's adjudication, so that no later opinion can
move it, and reviewers may judge it blind although it is settled.
"""

from __future__ import annotations

from dataclasses import dataclass

from sqlalchemy import text
from sqlalchemy.orm import aliased
from sqlmodel import Session, col, exists, func, select

from curator.errors import Conflict
from curator.services import records, reviews
from curator.services.opinions import is_retracted, judged_by
from curator.services.reviews import ReviewForm
from curator.services.statistics import wilson
from db.models import Project, Record, Review, User

NEWEST = 5_000  # adjudications that reviewers are measured by


@dataclass(frozen=True)
class Fit:
    """How one person's verdicts fit the settled ones. `low` to `high` is the 95 % interval of the share."""

    user: User
    judged: int
    agreed: int
    too_easy: int  # accepted what a lead rejected
    too_strict: int  # rejected what a lead accepted
    low: float
    high: float

    @property
    def share(self) -> float:
        return self.agreed / self.judged if self.judged else 0.0


def of(session: Session, project: Project) -> list[Fit]:
    """Measure everybody against the newest records that a lead has settled; who judged most comes first.

    Each person's newest verdict on a record counts, whether it is the same as the lead's. Being unsure is left out: it
    asks the lead instead of going against them. So is what people have settled themselves.
    """
    final = aliased(Review)
    newest = select(final.id).where(text("adjudication")).order_by(col(final.id).desc()).limit(NEWEST).subquery()
    later = aliased(Review)
    replaced = exists().where(
        col(later.record_id) == col(Review.record_id), col(later.user_id) == col(Review.user_id),
        col(later.id) > col(Review.id), col(later.verdict) != "skip", ~col(later.adjudication), ~is_retracted(later),
    )  # fmt: skip
    rows = session.exec(
        select(User, Review.verdict, final.verdict, func.count())
        .select_from(newest)
        .join(final, col(final.id) == newest.c.id)
        .join(Record, col(Record.settled_by) == col(final.id))
        .join(Review, col(Review.record_id) == col(Record.id))
        .join(User, col(User.id) == col(Review.user_id))
        .where(
            Record.project_id == project.id, col(Record.id) == col(final.record_id),
            col(Review.verdict).in_(("accept", "reject")), ~col(Review.adjudication), ~is_retracted(), ~replaced,
            col(Review.user_id) != col(final.user_id),
        )
        .group_by(col(User.id), col(Review.verdict), col(final.verdict))
    )  # fmt: skip
    people: dict[int, User] = {}
    found: dict[int, dict[tuple[str, str], int]] = {}
    for user, theirs, settled, number in rows:
        people[user.id or 0] = user
        found.setdefault(user.id or 0, {})[theirs, settled] = number
    fits = [_fit(people[key], numbers) for key, numbers in found.items()]
    return sorted(fits, key=lambda fit: (-fit.judged, fit.user.name))


def _fit(user: User, numbers: dict[tuple[str, str], int]) -> Fit:
    judged = sum(numbers.values())
    agreed = sum(number for (theirs, settled), number in numbers.items() if theirs == settled)
    easy, strict = numbers.get(("accept", "reject"), 0), numbers.get(("reject", "accept"), 0)
    return Fit(user, judged, agreed, easy, strict, *wilson(agreed, judged))


def mark(session: Session, record: Record, lead: User, *, gold: bool) -> None:
    """Make a settled record one that reviewers are measured by, or an ordinary one again."""
    if not gold:
        record.gold = False
        session.add(record)
        return
    settled = records.settled_review(session, record)
    if settled is None:
        raise Conflict("Only a record that is accepted or rejected can be what reviewers are measured by.")
    if not settled.adjudication:
        values = settled.model_dump(include={"verdict", "rating", "reasons", "question", "answer", "turns", "passages"})
        request_id = f"gold-{record.id}-{record.version}"
        form = ReviewForm.model_validate({**values, "version": record.version, "request_id": request_id})
        reviews.add(session, record, lead, form)
    record.gold = True
    session.add(record)


def next_gold(session: Session, project: Project, user: User) -> Record | None:
    """Answer a gold record that this person has not judged, the oldest first; None when they have judged all."""
    query = select(Record).where(Record.project_id == project.id, text("record.gold"), ~judged_by(user.id, skips=True))
    return session.exec(query.order_by(col(Record.id)).limit(1)).first()
