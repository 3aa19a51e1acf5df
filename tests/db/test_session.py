"""How the database is opened: safe settings, one write lock, nothing half written."""

from __future__ import annotations

import threading
from pathlib import Path

import pytest
from sqlalchemy import Engine, text
from sqlalchemy.exc import IntegrityError, OperationalError
from sqlmodel import select

from db.models import Membership, Project, User
from db.session import connect, migrate, new_session, open_session, sqlite_driver, wal_is_safe


@pytest.mark.parametrize(
    ("version", "safe"),
    [((3, 40, 1), False), ((3, 51, 2), False), ((3, 51, 3), True), ((3, 53, 4), True), ((3, 50, 7), True),
     ((3, 50, 6), False), ((3, 44, 6), True), ((3, 45, 0), False)],
)  # fmt: skip
def test_wal_is_used_only_where_sqlite_cannot_lose_a_commit(version: tuple[int, ...], safe: bool) -> None:
    assert wal_is_safe(version) is safe


def test_a_connection_is_durable_and_checks_foreign_keys(engine: Engine) -> None:
    with engine.connect() as connection:

        def pragma(name: str) -> object:
            return connection.exec_driver_sql(f"PRAGMA {name}").scalar()

        assert pragma("journal_mode") == ("wal" if wal_is_safe(sqlite_driver().sqlite_version_info) else "delete")
        assert (pragma("synchronous"), pragma("foreign_keys"), pragma("busy_timeout")) == (2, 1, 10_000)


def test_a_block_that_fails_writes_nothing(engine: Engine) -> None:
    with pytest.raises(KeyError), open_session(engine, write=True) as session:
        session.add(Project(slug="a", name="A"))
        session.flush()
        raise KeyError

    with open_session(engine) as session:
        assert session.exec(select(Project)).all() == []


def test_a_reading_block_does_not_commit(engine: Engine) -> None:
    with open_session(engine) as session:
        session.add(Project(slug="a", name="A"))
        session.flush()

    with open_session(engine) as session:
        assert session.exec(select(Project)).all() == []


def test_writers_queue_up_instead_of_failing(engine: Engine) -> None:
    """A read that turned into a write would fail at once; a writing session takes the lock first."""

    def add(number: int) -> None:
        with open_session(engine, write=True) as session:
            count = len(session.exec(select(Project)).all())
            session.add(Project(slug=f"p{number}", name=str(count)))

    threads = [threading.Thread(target=add, args=(number,)) for number in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    with open_session(engine) as session:
        assert sorted(project.name for project in session.exec(select(Project))) == [str(n) for n in range(8)]


def test_a_foreign_key_must_point_somewhere(engine: Engine) -> None:
    with new_session(engine, write=True) as session:
        session.add(Membership(user_id=404, project_id=404))
        with pytest.raises(IntegrityError):
            session.commit()


def test_moments_come_back_aware(engine: Engine) -> None:
    with open_session(engine, write=True) as session:
        session.add(User(login="noor", name="Noor"))
    with open_session(engine) as session:
        assert session.exec(select(User)).one().created_at.tzinfo is not None


def test_a_full_disk_loses_nothing_that_was_saved(engine: Engine) -> None:
    with open_session(engine, write=True) as session:
        session.add(Project(slug="kept", name="Kept"))
    with new_session(engine, write=True) as session:
        pages = session.connection().exec_driver_sql("PRAGMA page_count").scalar()
        session.connection().exec_driver_sql(f"PRAGMA max_page_count={pages}")
        session.add(Project(slug="big", name="Big", guidelines="x" * 500_000))
        with pytest.raises(OperationalError, match="full"):
            session.commit()

    with open_session(engine) as session:
        assert [project.slug for project in session.exec(select(Project))] == ["kept"]
        assert session.connection().execute(text("PRAGMA integrity_check")).scalar() == "ok"


def test_migrating_twice_changes_nothing(tmp_path: Path) -> None:
    engine = connect(f"sqlite:///{tmp_path / 'x.db'}")
    migrate(engine)
    migrate(engine)
    with open_session(engine, write=True) as session:
        session.add(Project(slug="a", name="A"))
    migrate(engine)
    with open_session(engine) as session:
        assert session.exec(select(Project)).one().slug == "a"
    engine.dispose()


def test_every_thread_of_the_web_gets_its_two_connections(engine: Engine) -> None:
    """A reading request may open a writing session of its own beside; a pool that ends early would lock them all up."""
    held = [engine.connect() for _ in range(64)]
    for connection in held:
        connection.close()


def test_an_error_does_not_repeat_what_people_wrote(engine: Engine) -> None:
    with engine.connect() as connection, pytest.raises(OperationalError) as caught:
        connection.execute(text("INSERT INTO nowhere VALUES (:said)"), {"said": "a customer's question"})
    assert "a customer's question" not in str(caught.value)
