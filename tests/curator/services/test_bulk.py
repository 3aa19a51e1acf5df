"""Bulk inserts read the same on both databases."""

from __future__ import annotations

import pytest
from sqlalchemy import Dialect
from sqlalchemy.dialects import postgresql, sqlite

from curator.services.bulk import Insert
from db.models import Passage


@pytest.mark.parametrize("dialect", [sqlite.dialect(), postgresql.dialect()], ids=["sqlite", "postgresql"])
def test_rows_that_are_there_already_are_left_out_and_nothing_is_returned(dialect: Dialect) -> None:
    table = Passage.__table__  # pyright: ignore[reportAttributeAccessIssue] # SQLModel does not declare it
    sql = Insert(table, ("record_id", "position", "document", "text", "score"), dialect).sql

    assert sql.endswith("ON CONFLICT DO NOTHING")
    assert "RETURNING" not in sql
