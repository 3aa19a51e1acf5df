"""The migrations end where models.py stands."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from pathlib import Path

import pytest
from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext
from sqlalchemy import Engine, column, insert, inspect
from sqlalchemy import table as sa_table
from sqlalchemy.exc import IntegrityError
from sqlmodel import Session, SQLModel

from db.models import Battle, ModelVersion, Promotion, Run
from db.session import connect, migrate, open_session

NOW = datetime(2026, 1, 1, tzinfo=UTC).isoformat()
BEFORE_SEVERAL = {  # rows as the fourth schema had them
    "project": {
        "id": 1, "slug": "ferry", "name": "Ferry", "guidelines": "", "system_prompt": "", "seed": 17,
        "prompt_style": "question", "reviews_needed": 1, "reasons": "[]", "recipe": "{}", "created_at": NOW,
        "service_version_id": 5, "prepared_up_to": 0,
    },
    "base": {
        "id": 1, "name": "tiny", "path": "/b.gguf", "sha256": "b", "architecture": "llama", "size": 1, "folder": "",
        "licence": "", "created_at": NOW,
    },
    "snapshot": {
        "id": 1, "project_id": 1, "name": "v1", "kind": "sft", "sha256": "s", "seed": 17, "filters": "{}", "train": 1,
        "val": 1, "test": 1, "created_at": NOW,
    },
    "run": {
        "id": 4, "project_id": 1, "snapshot_id": 1, "base_id": 1, "folder": "", "state": "finished", "stage": "",
        "failure": "", "message": "", "card": "{}", "created_at": NOW, "spec": json.dumps({"merged_type": "F16"}),
    },
    "model_version": {
        "id": 5, "project_id": 1, "number": 1, "run_id": 4, "base_id": 1, "state": "in service", "tag": "ferry:v1-a",
        "runtime": "llamacpp", "folder": "/v1", "gate_passed": True, "gate": "[]", "message": "", "created_at": NOW,
    },
    "user": {
        "id": 1, "login": "noor", "name": "Noor", "password_hash": "", "is_admin": False, "disabled": False,
        "keys": "{}", "single_keys": True, "created_at": NOW,
    },
    "battle": {
        "id": 1, "project_id": 1, "user_id": 1, "group": "g", "left_is_new": True, "seed": 17, "created_at": NOW,
    },
    "promotion": {
        "id": 1, "project_id": 1, "version_id": 5, "previous_id": None, "user_id": None, "reason": "",
        "created_at": NOW,
    },
}  # fmt: skip


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


@pytest.fixture
def older(tmp_path: Path) -> Engine:
    """A database of the fourth schema in which a version is in service, brought up to date."""
    engine = connect(f"sqlite:///{tmp_path}/older.db")
    migrate(engine, "0004")
    fill(engine, BEFORE_SEVERAL)
    migrate(engine)
    return engine


def fill(engine: Engine, rows: dict[str, dict[str, object]]) -> None:
    with engine.begin() as connection:
        for table, row in rows.items():
            known = {found["name"] for found in inspect(connection).get_columns(table)}
            kept = {name: value for name, value in row.items() if name in known}
            connection.execute(insert(sa_table(table, *map(column, kept))).values(kept))


def second(session: Session, **fields: object) -> None:
    session.add(
        ModelVersion.model_validate(
            {"project_id": 1, "number": 2, "run_id": 4, "base_id": 1, "merged_type": "Q8_0", **fields}
        )
    )
    session.flush()


def test_versions_of_before_keep_what_refers_to_them_and_know_their_number_type(older: Engine) -> None:
    with open_session(older) as session:
        version = session.get_one(ModelVersion, 5)
        assert (version.merged_type, version.card, version.state) == ("F16", {}, "in service")
        assert session.get_one(Promotion, 1).version_id == 5
        assert session.get_one(Run, 4).trouble == ""


def test_a_run_may_have_a_version_of_each_number_type_but_two_of_none(older: Engine) -> None:
    with open_session(older, write=True) as session:
        second(session)
    with pytest.raises(IntegrityError), open_session(older, write=True) as session:
        second(session, number=3)
    with pytest.raises(IntegrityError), open_session(older, write=True) as session:
        second(session, merged_type="Q4_0")  # a number of the project is given once, as before
    with open_session(older, write=True) as session:
        session.exec(ModelVersion.__table__.update().values(state="retired"))  # type: ignore[attr-defined]
        second(session, number=3)


def test_a_battle_of_before_was_against_no_model_elsewhere(older: Engine) -> None:
    with open_session(older) as session:
        assert session.get_one(Battle, 1).outside == ""


def test_foreign_keys_are_watched_again_after_a_migration(older: Engine) -> None:
    with older.connect() as connection:
        assert connection.exec_driver_sql("PRAGMA foreign_keys").scalar() == 1
    with pytest.raises(IntegrityError), open_session(older, write=True) as session:
        second(session, run_id=99)
