"""The migrations end where models.py stands on PostgreSQL, too, from an older database that holds something."""

from __future__ import annotations

from datetime import UTC, datetime

from alembic import command
from alembic.autogenerate import compare_metadata
from alembic.config import Config
from alembic.migration import MigrationContext
from sqlalchemy import Engine, column, insert
from sqlalchemy import table as sa_table
from sqlmodel import SQLModel

from db.models import ModelVersion, Promotion, Record, RecordCount
from db.session import MIGRATIONS, connect, migrate, open_session
from tests.db.test_migrations import BEFORE_SEVERAL, _is_ours, fill, second
from tests.postgres.cluster import create

NOW = datetime(2026, 1, 1, tzinfo=UTC)
OLD = {  # rows as the first schema had them
    "project": {
        "id": 1, "slug": "ferry", "name": "Ferry", "guidelines": "Be kind.", "system_prompt": "", "seed": 17,
        "prompt_style": "question", "reviews_needed": 1, "reasons": "[]", "recipe": "{}", "created_at": NOW,
    },
    "source": {
        "id": 1, "project_id": 1, "name": "log", "importer": "chat", "mapping": "{}", "path": "", "size": 0,
        "state": "done", "read_bytes": 0, "new": 1, "duplicate": 0, "skipped": 0, "skips": "[]", "error": "",
        "created_at": NOW,
    },
    "record": {
        "id": 1, "project_id": 1, "source_id": 1, "digest": "d", "external_id": "", "group": "g", "system": "",
        "turns": "[]", "question": "Why?", "answer": "So.", "reference": "", "language": "en", "created_at": NOW,
        "signals": '{"thumbs": -1, "score": 0.4}', "state": "new", "version": 1, "edited": False, "rank": 0,
    },
}  # fmt: skip


def test_migrated_and_declared_tables_are_the_same(engine: Engine) -> None:
    with engine.connect() as connection:
        options = {"compare_type": True, "include_name": _is_ours}
        assert compare_metadata(MigrationContext.configure(connection, opts=options), SQLModel.metadata) == []


def test_migrating_again_changes_nothing(engine: Engine) -> None:
    migrate(engine)


def test_a_database_of_the_first_schema_is_brought_up_to_date(cluster: str) -> None:
    create(cluster, "older")
    engine = connect(cluster % "older")
    config = Config()
    config.set_main_option("script_location", str(MIGRATIONS))
    with engine.begin() as connection:
        config.attributes["connection"] = connection
        command.upgrade(config, "0001")
        for table, row in OLD.items():
            connection.execute(insert(sa_table(table, *map(column, row))).values(row))

    migrate(engine)

    with open_session(engine) as session:
        record = session.get_one(Record, 1)
        assert (record.thumbs, record.weak, record.length, record.asked) == (-1, 600, 7, 1)
        assert session.get_one(RecordCount, (1, "new")).number == 1
    engine.dispose()


def test_a_run_with_one_version_may_have_several_afterwards(cluster: str) -> None:
    create(cluster, "several")
    engine = connect(cluster % "several")
    migrate(engine, "0004")
    fill(engine, BEFORE_SEVERAL)

    migrate(engine)

    with open_session(engine, write=True) as session:
        assert session.get_one(ModelVersion, 5).merged_type == "F16"
        assert session.get_one(Promotion, 1).version_id == 5
        session.connection().exec_driver_sql("SELECT setval('model_version_id_seq', 5)")
        second(session)
    engine.dispose()
