"""The migrations end where models.py stands."""

from __future__ import annotations

from pathlib import Path

from alembic import command
from alembic.autogenerate import compare_metadata
from alembic.config import Config
from alembic.migration import MigrationContext
from sqlalchemy import Engine, inspect
from sqlmodel import SQLModel

import db.models  # noqa: F401  the tables register themselves
from db.session import MIGRATIONS, connect


def _is_ours(name: str | None, kind: str, parents: object) -> bool:
    """Leave out the search index, which db/search.py makes for each database in its own way."""
    return not (kind == "table" and str(name).startswith("record_search"))


def test_migrated_and_declared_tables_are_the_same(engine: Engine) -> None:
    with engine.connect() as connection:
        context = MigrationContext.configure(connection, opts={"compare_type": True, "include_name": _is_ours})
        assert compare_metadata(context, SQLModel.metadata) == []


def test_a_battle_of_before_was_against_no_model_elsewhere(tmp_path: Path) -> None:
    engine = connect(f"sqlite:///{tmp_path / 'older.db'}")
    config = Config()
    config.set_main_option("script_location", str(MIGRATIONS))
    with engine.connect() as connection:
        connection.connection.driver_connection.execute("PRAGMA foreign_keys=OFF")  # before any transaction
        config.attributes["connection"] = connection
        command.upgrade(config, "0004")
        connection.exec_driver_sql(
            'INSERT INTO battle (id, project_id, user_id, "group", left_is_new, seed, created_at) '
            "VALUES (1, 1, 1, 'g', 1, 17, '2026-01-01')"
        )
        command.upgrade(config, "head")
        assert connection.exec_driver_sql("SELECT outside FROM battle").all() == [("",)]
    engine.dispose()


def test_the_walk_through_the_data_has_its_tables(engine: Engine) -> None:
    names = set(inspect(engine).get_table_names())
    assert names >= {
        "source", "record", "passage", "review", "retraction", "snapshot", "example_content", "snapshot_example",
        "base", "run", "model_version", "promotion", "battle", "vote", "preference_pair", "pin", "job", "journal",
    }  # fmt: skip
