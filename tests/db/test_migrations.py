"""The migrations end where models.py stands."""

from __future__ import annotations

from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext
from sqlalchemy import Engine, inspect
from sqlmodel import SQLModel

import db.models  # noqa: F401  the tables register themselves


def _is_ours(name: str | None, kind: str, parents: object) -> bool:
    """Leave out the search index, which db/search.py makes for each database in its own way."""
    return not (kind == "table" and str(name).startswith("record_search"))


def test_migrated_and_declared_tables_are_the_same(engine: Engine) -> None:
    with engine.connect() as connection:
        context = MigrationContext.configure(connection, opts={"compare_type": True, "include_name": _is_ours})
        assert compare_metadata(context, SQLModel.metadata) == []


def test_the_walk_through_the_data_has_its_tables(engine: Engine) -> None:
    names = set(inspect(engine).get_table_names())
    assert names >= {
        "source", "record", "passage", "review", "retraction", "snapshot", "example_content", "snapshot_example",
        "base", "run", "model_version", "promotion", "battle", "vote", "preference_pair", "pin", "job", "journal",
    }  # fmt: skip
