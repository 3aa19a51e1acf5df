"""Make rows for tests with one call each."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import count
from typing import Any

from sqlmodel import Session, select

from curator.services import counts
from db.models import Passage, Project, Record, Source

_numbers = count(1)


def make_source(session: Session, project: Project, **fields: Any) -> Source:
    """Make a source, as if a file had been imported."""
    source = Source(**{"project_id": project.id, "name": "log.jsonl", "importer": "chat", "state": "done", **fields})
    session.add(source)
    session.commit()
    return source


def make_record(
    session: Session, project: Project, *, passages: Sequence[str | tuple[str, str, float]] = (), **fields: Any
) -> Record:
    """Make a record with its passages, given as texts or as (document, text, score)."""
    source = session.exec(select(Source).where(Source.project_id == project.id)).first()
    number = next(_numbers)
    record = Record(
        **{
            "project_id": project.id,
            "source_id": (source or make_source(session, project)).id,
            "digest": f"digest-{number}",
            "group": f"group-{number}",
            "question": f"Question {number}?",
            "answer": f"Answer {number}.",
            **fields,
        }
    )
    session.add(record)
    session.flush()
    counts.move(session, record.project_id, {record.state: 1})
    for position, passage in enumerate(passages):
        document, text, score = passage if isinstance(passage, tuple) else ("", passage, None)
        session.add(Passage(record_id=record.id, position=position, document=document, text=text, score=score))
    session.commit()
    return record


def reload(session: Session, *rows: Any) -> None:
    """Read rows anew, as another transaction left them, and hold no lock afterwards."""
    session.rollback()
    for row in rows:
        session.refresh(row)
    session.commit()
