"""What reviews make of a record: its state, and the preference pair of its correction.

The state stands on the record only so that lists and queues are quick; it can be computed anew at any time.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import NamedTuple

from sqlmodel import Session, col, delete, select

from curator.services import counts, examples, records
from db.models import PreferencePair, Project, Record, RecordState, Retraction, Review

BATCH = 500


class Fold(NamedTuple):
    """What a record's reviews make of it."""

    state: RecordState
    version: int
    rating: int | None
    edited: bool
    settled_by: int | None
    settled_at: datetime | None


@dataclass(frozen=True)
class Judged:
    """The reviews of one record, oldest first, and which of them were taken back."""

    reviews: Sequence[Review]
    retracted: frozenset[int]


def fold(judged: Judged, needed: int) -> Fold:
    """Answer what reviews make of a record that needs this many.

    A lead's adjudication settles it. Else each person's newest opinion counts, and the newest `needed` of them must
    agree in verdict and text; one that is unsure, or two that differ, wait for a lead. Every opinion and every
    opinion taken back raises the version by one; skips are no opinion.
    """
    opinions = [review for review in judged.reviews if review.verdict != "skip"]
    live = [review for review in opinions if review.id not in judged.retracted]
    version = 1 + 2 * len(opinions) - len(live)
    final = next((review for review in reversed(live) if review.adjudication), None)
    if final is None:
        by_person = {review.user_id: review for review in sorted(live, key=lambda review: review.id or 0)}
        newest = sorted(by_person.values(), key=lambda review: review.id or 0)[-needed:]
        if len({_opinion(review) for review in newest}) > 1 or any(r.verdict == "unsure" for r in newest):
            return Fold("unsure", version, None, False, None, None)
        if len(newest) < needed or not newest:
            return Fold("new", version, None, False, None, None)
        final = newest[-1]
    state: RecordState = "accepted" if final.verdict == "accept" else "rejected"
    edited = final.question is not None or final.answer is not None or bool(final.turns)
    return Fold(state, version, final.rating, edited, final.id, final.created_at)


def _opinion(review: Review) -> tuple[str, str | None, str | None, tuple[tuple[str, str], ...]]:
    return review.verdict, review.question, review.answer, tuple(sorted(review.turns.items()))


def refold(session: Session, record: Record) -> bool:
    """Set a record's state, and its preference pair, to what its reviews say; tell whether the record changed."""
    judged = _judged(session, [record])[record.id or 0]
    project = project_of(session, record)
    return _apply(session, project, record, judged)


def rebuild(session: Session, project: Project) -> int:
    """Fold every record of a project anew; answer how many differed, which is 0 unless something is wrong."""
    changed, last = 0, 0
    query = select(Record).where(Record.project_id == project.id).order_by(col(Record.id)).limit(BATCH)
    while batch := session.exec(query.where(col(Record.id) > last)).all():
        last = batch[-1].id or 0
        judged = _judged(session, batch)
        changed += sum(_apply(session, project, record, judged[record.id or 0]) for record in batch)
        session.flush()
    return changed


def _apply(session: Session, project: Project, record: Record, judged: Judged) -> bool:
    now = fold(judged, project.reviews_needed)
    before = (record.state, record.version, record.rating, record.edited, record.settled_by, record.settled_at)
    for name, value in now._asdict().items():
        setattr(record, name, value)
    session.add(record)
    if now.state != before[0]:
        counts.move(session, record.project_id, {before[0]: -1, now.state: 1})
    _pair_from_edit(session, project, record, judged)
    return now != before


def _pair_from_edit(session: Session, project: Project, record: Record, judged: Judged) -> None:
    """Keep one preference pair for an accepted answer that was corrected: the correction over the original."""
    settled = next((review for review in judged.reviews if review.id == record.settled_by), None)
    wanted = settled if settled and record.state == "accepted" and settled.answer and record.answer.strip() else None
    written = [review.id for review in judged.reviews if review.answer is not None]
    if not written:
        return
    known = session.exec(select(PreferencePair).where(col(PreferencePair.review_id).in_(written))).all()
    outdated = [pair.id for pair in known if wanted is None or pair.review_id != wanted.id]
    if outdated:
        session.exec(delete(PreferencePair).where(col(PreferencePair.id).in_(outdated)))
    if wanted is None or any(pair.review_id == wanted.id for pair in known):
        return
    read = [(passage.document, passage.text) for passage in records.passages(session, record)]
    question = record.question if wanted.question is None else wanted.question
    session.add(
        PreferencePair(
            project_id=record.project_id,
            record_id=record.id,
            review_id=wanted.id,
            group=record.group,
            prompt=examples.prompt(project, examples.corrected(record.turns, wanted.turns), question, read),
            chosen=wanted.answer or "",
            rejected=record.answer,
        )
    )


def _judged(session: Session, batch: Sequence[Record]) -> dict[int, Judged]:
    """Load the reviews of some records in one query."""
    found: dict[int, list[tuple[Review, int | None]]] = {record.id or 0: [] for record in batch}
    rows = session.exec(
        select(Review, Retraction.review_id)
        .outerjoin(Retraction, col(Retraction.review_id) == col(Review.id))
        .where(col(Review.record_id).in_(found))
        .order_by(col(Review.id))
    )
    for review, retracted in rows:
        found[review.record_id].append((review, retracted))
    return {
        key: Judged([review for review, _ in pairs], frozenset(gone for _, gone in pairs if gone is not None))
        for key, pairs in found.items()
    }


def project_of(session: Session, record: Record) -> Project:
    """Answer the project a record belongs to."""
    return session.get_one(Project, record.project_id)
