"""Look through new records, after the import and not in its way.

What is worked out: the search index, how often each question came, the language, personal data, near-duplicates. The
work goes by the records' ids. A batch is read and thought about without a lock; then one short transaction writes it
down and moves the project's mark, so a killed job goes on where it was and does nothing twice.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from contextlib import AbstractContextManager, suppress
from dataclasses import dataclass
from functools import partial
from hashlib import blake2b
from itertools import groupby

from sqlalchemy import Engine, bindparam, text, update
from sqlalchemy.exc import OperationalError
from sqlmodel import Session, col, func, select

from curator.errors import Unavailable
from curator.services import intake, jobs, personal, search, twins
from curator.services.bulk import fetch
from curator.services.work import Work
from db import search as index
from db.models import Passage, Project, QuestionCount, Record
from db.session import open_session
from trainer import languages

BATCH = 250  # records in one transaction: it takes some 50 ms, so reviewers do not wait for it
COUNTED = 10_000  # counting what is left stops here
_record = Record.__table__  # pyright: ignore[reportAttributeAccessIssue] # SQLModel does not declare it
_passage = Passage.__table__  # pyright: ignore[reportAttributeAccessIssue] # SQLModel does not declare it
_project = Project.__table__  # pyright: ignore[reportAttributeAccessIssue] # SQLModel does not declare it
_WORKED_OUT = ("question_key", "asked", "language", "personal")
_NOTE = (
    update(_record)
    .where(_record.c.id == bindparam("record"))
    .values({name: bindparam(f"new_{name}") for name in _WORKED_OUT})
)
_TELL = (
    update(_record)
    .where(_record.c.question_key == bindparam("same"), _record.c.project_id + 0 == bindparam("of"))
    .values(asked=bindparam("power"))
)  # `+ 0`, or SQLite may look for the key among all of a project's records instead of using the key's own index
_COUNT = text(
    "INSERT INTO question_count (project_id, key, number) VALUES (:project, :key, :number) "
    "ON CONFLICT (project_id, key) DO UPDATE SET number = question_count.number + excluded.number"
)

Saving = Callable[[], AbstractContextManager[Session]]  # opens a writing transaction


@dataclass(frozen=True)
class Batch:
    """Some records and what was thought about them: `languages` and `personal` by record, `entries` for the index."""

    records: Sequence[Record]
    entries: Sequence[index.Entry]
    languages: Sequence[str]
    personal: Sequence[str]
    since: int  # the project's mark when they were read


def enqueue(session: Session, project_id: int) -> None:
    """Ask for a project's new records to be looked through."""
    jobs.enqueue(session, "light", "prepare", f"prepare:{project_id}", {"id": project_id})


def enqueue_all(session: Session) -> None:
    """Ask for it where a project lags behind, as after an update of Curator."""
    for project in session.exec(select(Project)).all():
        if pending(session, project):
            enqueue(session, project.id or 0)


def pending(session: Session, project: Project) -> int:
    """Count the records nobody has looked through yet, up to COUNTED + 1, which means: more than COUNTED."""
    waiting = select(Record.id).where(Record.project_id == project.id, col(Record.id) > project.prepared_up_to)
    return session.exec(select(func.count()).select_from(waiting.limit(COUNTED + 1).subquery())).one()


def prepare(work: Work) -> None:
    """Do the job: look through what is new in a project, until nothing is or the work is to stop."""
    try:
        while not work.halt.asked:
            if not step(work.engine, work.subject(), work.saving):
                with work.saving() as session:
                    if not pending(session, session.get_one(Project, work.subject())):
                        jobs.finish(session, work.job)  # here, so whoever adds records now asks for a new job
                        return
    except OperationalError as error:
        raise Unavailable("The database was busy for too long. This is tried again.") from error
    if work.halt.reason != "cancelled":
        raise jobs.Lost(work.job.key)


def run(engine: Engine, project_id: int) -> None:
    """Look through what is new in a project, here and now; for the command line."""
    while step(engine, project_id, lambda: open_session(engine, write=True)):
        pass


def step(engine: Engine, project_id: int, saving: Saving) -> int:
    """Look through the next batch of records; answer how many there were."""
    with open_session(engine) as session:
        records, passages, since = _read(session, project_id)
        entries = search.entries(session, records)
    if not records:
        return 0
    batch = _think(records, entries, passages, since)
    with saving() as session, suppress(_Overtaken):
        _write(session, project_id, batch)
    return len(records)


class _Overtaken(Exception):  # noqa: N818  a turn of events, not a mistake
    """Somebody else has looked through these records meanwhile."""


def key_of(question: str) -> int:
    """Answer the number that all askings of one question share, as 64 bits with a sign."""
    return int.from_bytes(blake2b(intake.folded(question).encode(), digest_size=8).digest(), signed=True)


def _read(session: Session, project_id: int) -> tuple[Sequence[Record], dict[int, list[str]], int]:
    """Read the next records, the texts of their passages, and the mark they stand behind."""
    since = session.get_one(Project, project_id).prepared_up_to
    query = select(Record).where(Record.project_id == project_id, col(Record.id) > since)
    records = session.exec(query.order_by(col(Record.id)).limit(BATCH)).all()
    texts = select(_passage.c.record_id, _passage.c.text).where(_passage.c.record_id.in_([row.id for row in records]))
    rows = fetch(session, texts.order_by(_passage.c.record_id)) if records else ()
    return records, {key: [said for _, said in found] for key, found in groupby(rows, lambda row: row[0])}, since


def _think(
    records: Sequence[Record], entries: Sequence[index.Entry], passages: dict[int, list[str]], since: int
) -> Batch:
    kinds: list[str] = []
    spoken: list[str] = []
    for record in records:
        said = [record.question, record.answer, *(str(turn["content"]) for turn in record.turns)]
        kinds.append(" ".join(personal.kinds(said, partial(passages.get, record.id or 0, ()))))
        told = record.signals.get("language")  # what the log says stands
        spoken.append(record.language if told else languages.detect(_said(record)) or record.language)
    return Batch(records, entries, spoken, kinds, since)


def _said(record: Record) -> str:
    """Answer the text whose language is the record's: the question and the beginning of its answer."""
    return f"{record.question[:1_000]}\n{record.answer[:1_000]}"


def _write(session: Session, project_id: int, batch: Batch) -> None:
    last = batch.records[-1].id or 0
    mark = update(_project).where(_project.c.id == project_id, _project.c.prepared_up_to == batch.since)
    if session.connection().execute(mark.values(prepared_up_to=last)).rowcount == 0:
        raise _Overtaken
    index.put(session.connection(), [*batch.entries, *_judged_meanwhile(session, batch)])
    asked = _count_questions(session, project_id, [key_of(record.question) for record in batch.records])
    session.connection().execute(
        _NOTE,
        [
            {"record": record.id, **dict(zip(_NEW, (*counted, *found), strict=True))}
            for record, counted, *found in zip(batch.records, asked, batch.languages, batch.personal, strict=True)
        ],
    )
    project = session.get_one(Project, project_id)
    twins.place(session, project, [(record.id or 0, record.question, record.answer) for record in batch.records])


_NEW = tuple(f"new_{name}" for name in _WORKED_OUT)


def _judged_meanwhile(session: Session, batch: Batch) -> list[index.Entry]:
    """Read those records anew whose correction has changed since; they are held until the transaction ends."""
    before = {record.id: record.settled_by for record in batch.records}
    held = select(Record.id, Record.settled_by).where(col(Record.id).in_(before)).order_by(col(Record.id))
    changed = [id_ for id_, settled in session.exec(held.with_for_update()) if settled != before[id_]]
    return search.entries(session, session.exec(select(Record).where(col(Record.id).in_(changed))).all())


def _count_questions(session: Session, project_id: int, keys: Sequence[int]) -> Iterable[tuple[int, int]]:
    """Count each question; answer every record's key and how often its question came, as a power of two.

    The records that are there already are only told at powers of two, which keeps the work in proportion to the
    records however often a question comes.
    """
    came = Counter(keys)
    counted = select(QuestionCount.key, QuestionCount.number).where(
        QuestionCount.project_id == project_id, col(QuestionCount.key).in_(came)
    )
    before = dict(session.exec(counted).all())
    connection = session.connection()
    connection.execute(_COUNT, [{"project": project_id, "key": key, "number": came[key]} for key in sorted(came)])
    powers = {key: _power(before.get(key, 0) + number) for key, number in came.items()}
    risen = [
        {"of": project_id, "same": key, "power": powers[key]}
        for key in sorted(before)
        if _power(before[key]) < powers[key]
    ]
    if risen:
        connection.execute(_TELL, risen)
    return [(key, powers[key]) for key in keys]


def _power(number: int) -> int:
    """Round down to a power of two."""
    return 1 << max(0, number.bit_length() - 1)
