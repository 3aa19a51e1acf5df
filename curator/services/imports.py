"""Import a log: show what it holds, note it as a source, and read it into records."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any

from sqlalchemy import Connection, Engine, func, select, update
from sqlmodel import Session

from curator import importers
from curator.errors import Conflict, CuratorError, Invalid, NotFound
from curator.importers import LogFile, RecordDraft, Skipped
from curator.services import counts, intake
from curator.services.bulk import Insert
from db.models import Passage, Project, Record, Source, User, utc_now
from db.session import open_session

BATCH = 1_000  # records in one write transaction: about 50 ms, so reviewers never wait for an import
SKIPS_KEPT = 1_000

_RECORD = (
    "project_id", "source_id", "digest", "external_id", "group", "system", "turns", "question", "answer", "reference",
    "signals", "language", "happened_at", "created_at", "state", "version", "edited", "rank", "thumbs", "refusal",
    "weak", "length", "asked", "question_key", "gold",
)  # fmt: skip
_PASSAGE = ("record_id", "position", "document", "text", "score")
_record = Record.__table__  # pyright: ignore[reportAttributeAccessIssue] # SQLModel does not declare it
_passage = Passage.__table__  # pyright: ignore[reportAttributeAccessIssue] # SQLModel does not declare it
_source = Source.__table__  # pyright: ignore[reportAttributeAccessIssue] # SQLModel does not declare it


@dataclass(frozen=True)
class Preview:
    """What a file would bring: its format, columns and mapping, the first drafts, and skips among the first 100."""

    importer: str
    confidence: float
    encoding: str
    shape: str
    columns: list[str]
    mapping: dict[str, str]
    drafts: list[RecordDraft]
    skipped: list[Skipped]


def preview(path: Path, importer: str | None = None, mapping: Mapping[str, str] | None = None) -> Preview:
    """Look at a file without keeping anything. Raises Invalid or NotFound with a sentence when it is no log."""
    found = importers.detect(path, importer, mapping)
    return Preview(
        found.importer, found.confidence, found.log.encoding, found.log.shape, found.columns, found.mapping,
        found.drafts, found.skipped,
    )  # fmt: skip


def add_source(
    session: Session,
    project: Project,
    path: Path,
    *,
    name: str = "",
    importer: str | None = None,
    mapping: Mapping[str, str] | None = None,
    user: User | None = None,
) -> Source:
    """Note a file as a source that waits to be imported; `name` is what people call it, the path where it is kept."""
    found = importers.detect(path, importer, mapping)
    source = Source(
        project_id=project.id or 0,
        name=name or path.name,
        importer=found.importer,
        mapping=found.mapping,
        path=str(path.resolve()),
        size=path.stat().st_size,
        created_by=user.id if user else None,
    )
    session.add(source)
    session.flush()
    return source


def run_import(engine: Engine, source_id: int, *, stop: Callable[[], bool] | None = None) -> Source:
    """Read a source to its end, in short transactions of 1,000 records, each with the progress it made.

    A second run goes on after the last whole batch, and of a finished source does nothing, so a killed import
    loses no line and doubles none. `stop` is asked between batches; a stopped source waits to be resumed. A file
    that cannot be read makes the source failed, with the sentence that says why.
    """
    source = _begin(engine, source_id)
    if source.state == "done":
        return source
    try:
        return _read(engine, source, stop)
    except CuratorError as error:
        return _save(engine, source, state="failed", error=str(error), finished_at=utc_now())


def _begin(engine: Engine, source_id: int) -> Source:
    with open_session(engine, write=True) as session:
        source = session.get(Source, source_id)
        if source is None:
            raise NotFound("This source does not exist.")
        if source.state != "done":
            source.state, source.error, source.finished_at = "importing", "", None
    return source


def _read(engine: Engine, source: Source, stop: Callable[[], bool] | None) -> Source:
    path = Path(source.path)
    log = importers.look(path)
    if path.stat().st_size != source.size:
        raise Conflict("The file has changed since it was added. Add it again as a new source.")
    drafts = importers.read(log, source.importer, source.mapping)
    before = source.new + source.duplicate + source.skipped
    for _ in islice(drafts, before):  # taken in by an earlier run
        pass
    intake_ = _Intake(engine, source)
    while batch := list(islice(drafts, BATCH)):
        intake_.take(batch, log)
        if stop and stop():
            return _save(engine, source, state="waiting")
    if not source.new + source.duplicate:
        raise Invalid("No line of the file became a record. The list of skipped lines says why.")
    return _save(engine, source, state="done", read_bytes=source.size, finished_at=utc_now())


def _save(engine: Engine, source: Source, **changes: Any) -> Source:
    """Change a source, here and in the database."""
    with open_session(engine, write=True) as session:
        _write(session.connection(), source, changes)
    return source


def _write(connection: Connection, source: Source, changes: dict[str, Any]) -> None:
    for name, value in changes.items():
        setattr(source, name, value)
    connection.execute(update(_source).where(_source.c.id == source.id).values(**changes))


class _Intake:
    """Takes batches of drafts into one source."""

    def __init__(self, engine: Engine, source: Source) -> None:
        self.engine, self.source = engine, source
        self.last_id: int | None = None  # the highest of the source's records
        self.records = Insert(_record, _RECORD, engine.dialect)
        self.passages = Insert(_passage, _PASSAGE, engine.dialect)

    def take(self, batch: list[RecordDraft | Skipped], log: LogFile) -> None:
        """Insert what is new of a batch and save the source's progress, in one transaction."""
        drafts: dict[str, RecordDraft] = {}
        skips: list[dict[str, Any]] = []
        count = 0
        for item in batch:
            if isinstance(item, Skipped):
                skips.append({"line": item.line, "reason": item.reason})
            else:
                count += 1
                drafts.setdefault(intake.digest(item), item)
        source = self.source
        rows = self._rows(drafts)
        with open_session(self.engine, write=True) as session:
            connection = session.connection()
            if self.last_id is None:
                query = select(func.max(_record.c.id)).where(_record.c.source_id == source.id)
                self.last_id = connection.scalar(query) or 0
            self.records.run(connection, rows)  # the digests the project has already are left out
            ids = self._new_ids(connection)
            self.passages.run(connection, _passage_rows(drafts, ids))
            changes: dict[str, Any] = {
                "new": source.new + len(ids),
                "duplicate": source.duplicate + count - len(ids),
                "skipped": source.skipped + len(skips),
                "read_bytes": min(log.position, source.size),
            }
            if skips and len(source.skips) < SKIPS_KEPT:
                changes["skips"] = [*source.skips, *skips][:SKIPS_KEPT]
            _write(connection, source, changes)
            counts.move(session, source.project_id, {"new": len(ids)})

    def _rows(self, drafts: dict[str, RecordDraft]) -> list[tuple[Any, ...]]:
        now = utc_now()
        rows: list[tuple[Any, ...]] = []
        for digest, draft in drafts.items():
            signals = intake.signals(draft)
            rows.append((
                self.source.project_id, self.source.id, digest, draft.external_id, intake.group(draft), draft.system,
                draft.turns, draft.question, draft.answer, draft.reference, signals, intake.language(draft),
                draft.happened_at, now, "new", 1, False, intake.rank(signals), *intake.facets(draft, signals),
                1, 0, False,
            ))  # fmt: skip
        return rows

    def _new_ids(self, connection: Connection) -> dict[str, int]:
        """Answer {digest: id} of the records that this batch added."""
        query = select(_record.c.digest, _record.c.id).where(_record.c.source_id == self.source.id)
        ids = dict(connection.execute(query.where(_record.c.id > self.last_id)).all())
        self.last_id = max(ids.values(), default=self.last_id)
        return ids


def _passage_rows(drafts: dict[str, RecordDraft], ids: dict[str, int]) -> Iterator[tuple[Any, ...]]:
    for digest, id_ in ids.items():
        for position, passage in enumerate(drafts[digest].passages):
            yield id_, position, passage.document, passage.text, passage.score
