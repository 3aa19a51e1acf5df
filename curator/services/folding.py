"""What reviews make of a record: its state, and the preference pair of its correction.

The state stands on the record only so that lists and queues are quick; it can be computed anew at any time.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Sequence, Set
from dataclasses import dataclass
from datetime import datetime
from typing import NamedTuple

from sqlmodel import Session, col, delete, select

from curator.services import accounts, counts, examples, records, search
from curator.services.work import Work
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


def fold(judged: Judged, needed: int, reviewers: Set[int] = frozenset()) -> Fold:
    """Answer what reviews make of a record that needs this many, in a project where these people review.

    A lead's adjudication settles it. Else each person's newest opinion counts, and the newest `needed` of them must
    agree in verdict and text; one that is unsure, or two that differ, wait for a lead. Where several are needed, one
    that is unsure decides nothing: the record goes on to the next person until `needed` others have decided, or to a
    lead once every reviewer has said what they can. Every opinion and every opinion taken back raises the version by
    one; skips are no opinion.
    """
    opinions = [review for review in judged.reviews if review.verdict != "skip"]
    version = 1 + len(opinions) + sum(review.id in judged.retracted for review in opinions)
    final = final_word(judged)
    if final is None:
        said = standing(judged)
        deciding = said if needed == 1 else [review for review in said if review.verdict != "unsure"]
        newest = deciding[-needed:]
        nobody_left = len(deciding) < len(said) and reviewers <= {review.user_id for review in said}
        differ = len({_opinion(review) for review in newest}) > 1 or any(r.verdict == "unsure" for r in newest)
        if differ or (nobody_left and len(newest) < needed):
            return Fold("unsure", version, None, False, None, None)
        if len(newest) < needed or not newest:
            return Fold("new", version, None, False, None, None)
        final = newest[-1]
    state: RecordState = "accepted" if final.verdict == "accept" else "rejected"
    edited = final.question is not None or final.answer is not None or bool(final.turns)
    return Fold(state, version, final.rating, edited, final.id, final.created_at)


def final_word(judged: Judged) -> Review | None:
    """Answer the newest adjudication that was not taken back, if any."""
    return next((review for review in reversed(_live(judged)) if review.adjudication), None)


def standing(judged: Judged) -> list[Review]:
    """Answer each person's newest opinion that was not taken back, oldest first; a lead's adjudication is none."""
    by_person = {review.user_id: review for review in _live(judged) if not review.adjudication}
    return sorted(by_person.values(), key=lambda review: review.id or 0)


def _live(judged: Judged) -> list[Review]:
    return [review for review in judged.reviews if review.verdict != "skip" and review.id not in judged.retracted]


def _opinion(review: Review) -> tuple[str, str | None, str | None, tuple[tuple[str, str], ...]]:
    return review.verdict, review.question, review.answer, tuple(sorted(review.turns.items()))


def refold(session: Session, record: Record) -> bool:
    """Set a record's state, and its preference pair, to what its reviews say; tell whether the record changed."""
    return _fold_batches(session, project_of(session, record), [[record]]) == 1


def refold_all(session: Session, project: Project, record_ids: Sequence[int]) -> int:
    """Fold these records anew, a few queries per BATCH; answer how many changed. Lock them first: see lock()."""
    return _fold_batches(session, project, (_load(session, ids) for ids in batches(sorted(record_ids))))


def rebuild(session: Session, project: Project) -> int:
    """Fold every record of a project anew; answer how many differed, which is 0 unless something is wrong."""
    return _fold_batches(session, project, _every(session, project))


def recount_opinions(work: Work) -> None:
    """Do the job that follows a change of how many reviews a record needs: fold whatever was judged anew.

    It goes through the records once more when the number was changed again meanwhile.
    """
    needed, last = 0, 0
    while not work.halt.asked:
        with work.saving() as session:
            project = session.get_one(Project, work.subject())
            if project.reviews_needed != needed:
                needed, last = project.reviews_needed, 0
            judged = select(Record.id).join(Review, col(Review.record_id) == col(Record.id)).distinct()
            mine = judged.where(Record.project_id == project.id, col(Record.id) > last)
            found = [key for key in session.exec(mine.order_by(col(Record.id)).limit(BATCH)) if key is not None]
            if not found:
                return
            lock(session, project, found)
            refold_all(session, project, found)
            last = found[-1]


def lock(session: Session, project: Project, record_ids: Sequence[int]) -> list[int]:
    """Keep these records of a project from being judged until the transaction ends; answer those there are.

    Always in the order of their ids, so that two batches never wait for each other. SQLite has one writer anyway.
    """
    held: list[int] = []
    for ids in batches(sorted(record_ids)):
        mine = select(Record.id).where(col(Record.id).in_(ids), Record.project_id == project.id)
        held += [key for key in session.exec(mine.order_by(col(Record.id)).with_for_update()) if key is not None]
    return held


def batches(ids: Sequence[int]) -> Iterator[Sequence[int]]:
    """Cut a list into pieces that one query takes."""
    return (ids[start : start + BATCH] for start in range(0, len(ids), BATCH))


def _load(session: Session, ids: Sequence[int]) -> Sequence[Record]:
    query = select(Record).where(col(Record.id).in_(ids)).order_by(col(Record.id))
    return session.exec(query.execution_options(populate_existing=True)).all()


def _every(session: Session, project: Project) -> Iterator[Sequence[Record]]:
    last = 0
    query = select(Record).where(Record.project_id == project.id).order_by(col(Record.id)).limit(BATCH)
    while batch := session.exec(query.where(col(Record.id) > last).with_for_update()).all():
        last = batch[-1].id or 0
        yield batch


def _fold_batches(session: Session, project: Project, found: Iterable[Sequence[Record]]) -> int:
    """Fold batch after batch; the counts move once at the end, since everybody's work waits for those rows."""
    moved: Counter[str] = Counter()
    changed = 0
    reviewers = accounts.reviewers(session, project) if project.reviews_needed > 1 else frozenset[int]()
    for batch in found:
        judged = _judged(session, batch)
        said_anew: list[Record] = []
        for record in batch:
            before, edited = record.state, record.edited
            mine = judged[record.id or 0]
            if _apply(session, record, mine, fold(mine, project.reviews_needed, reviewers)):
                changed += 1
                said_anew += [record] if edited or record.edited else []
            moved[before] -= 1
            moved[record.state] += 1
        _keep_pairs(session, project, batch, judged)
        session.flush()
        search.put(session, said_anew)  # so a correction is found, and one that was taken back is not
    counts.move(session, project.id or 0, moved)
    return changed


def _apply(session: Session, record: Record, judged: Judged, now: Fold) -> bool:
    """Set a record to its fold. Only a lead's word makes a record one that people are measured by."""
    before = (record.state, record.version, record.rating, record.edited, record.settled_by, record.settled_at)
    for name, value in now._asdict().items():
        setattr(record, name, value)
    if now.state != "new":
        record.claimed_by = record.claimed_until = None
    if record.gold and final_word(judged) is None:
        record.gold = False
    session.add(record)
    return now != before


def _keep_pairs(session: Session, project: Project, batch: Sequence[Record], judged: dict[int, Judged]) -> None:
    """Keep one preference pair for each accepted answer that was corrected: the correction over the original."""
    wanted = {review.id: (record, review) for record in batch if (review := _wanted(record, judged[record.id or 0]))}
    written = [review.id for one in judged.values() for review in one.reviews if review.answer is not None]
    if not written:
        return
    known = session.exec(select(PreferencePair).where(col(PreferencePair.review_id).in_(written))).all()
    outdated = [pair.id for pair in known if pair.review_id not in wanted]
    if outdated:
        session.exec(delete(PreferencePair).where(col(PreferencePair.id).in_(outdated)))
    there = {pair.review_id for pair in known}
    session.add_all(_pair(session, project, *wanted[key]) for key in wanted.keys() - there)


def _wanted(record: Record, judged: Judged) -> Review | None:
    settled = next((review for review in judged.reviews if review.id == record.settled_by), None)
    return settled if settled and record.state == "accepted" and settled.answer and record.answer.strip() else None


def _pair(session: Session, project: Project, record: Record, settled: Review) -> PreferencePair:
    read = [(passage.document, passage.text) for passage in records.passages(session, record)]
    question = record.question if settled.question is None else settled.question
    return PreferencePair(
        project_id=record.project_id,
        record_id=record.id,
        review_id=settled.id,
        group=record.group,
        prompt=examples.prompt(project, examples.corrected(record.turns, settled.turns), question, read),
        chosen=settled.answer or "",
        rejected=record.answer,
    )


def judged_of(session: Session, record: Record) -> Judged:
    """Answer a record's reviews."""
    return _judged(session, [record])[record.id or 0]


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
