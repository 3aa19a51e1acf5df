"""Bulk inserts read the same on both databases."""

from __future__ import annotations

from datetime import datetime, timedelta, timezone

import pytest
from sqlalchemy import Dialect
from sqlalchemy.dialects import postgresql, sqlite
from sqlmodel import Session, col, select

from curator.services.bulk import Insert
from db.models import Passage, Project, Record
from tests.factories import make_record

KEPT = (
    "project_id", "source_id", "group", "system", "turns", "answer", "reference", "external_id", "language", "state",
    "version", "rank", "thumbs", "refusal", "weak", "length", "asked", "question_key", "gold", "digest",
)  # fmt: skip


@pytest.mark.parametrize("dialect", [sqlite.dialect(), postgresql.dialect()], ids=["sqlite", "postgresql"])
def test_rows_that_are_there_already_are_left_out_and_nothing_is_returned(dialect: Dialect) -> None:
    table = Passage.__table__  # pyright: ignore[reportAttributeAccessIssue] # SQLModel does not declare it
    sql = Insert(table, ("record_id", "position", "document", "text", "score"), dialect).sql

    assert sql.endswith("ON CONFLICT DO NOTHING")
    assert "RETURNING" not in sql


def test_each_value_lands_in_its_column_and_reads_as_it_was(session: Session, project: Project) -> None:
    record = make_record(session, project)
    at = datetime(2026, 4, 2, 8, 30, tzinfo=timezone(timedelta(hours=8)))
    columns = ("created_at", "signals", "edited", "question", "id", *KEPT)
    kept = [getattr(record, name) for name in KEPT]
    rows = [(at, {"n": n}, n == 1, f"Question {n}", 100 + n, *kept[:-1], f"digest {n}") for n in range(3)]

    Insert(Record.__table__, columns, session.get_bind().dialect).run(session.connection(), rows)  # pyright: ignore[reportAttributeAccessIssue]

    found = session.exec(select(Record).where(col(Record.id) >= 100).order_by(col(Record.id))).all()
    assert [(one.created_at, one.signals, one.edited, one.question) for one in found] == [row[:4] for row in rows]
