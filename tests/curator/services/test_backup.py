"""Backups: whole, readable, rotated; a failed one harms nothing."""

from __future__ import annotations

import threading
from pathlib import Path

import pytest
from sqlalchemy import Engine
from sqlmodel import func, select

from curator.errors import Conflict, Invalid, Unavailable
from curator.services import backup
from curator.settings import Settings
from db.models import Record
from db.session import connect, open_session
from tests.curator.teaching import Classroom, classroom


@pytest.fixture
def room(engine: Engine, settings: Settings, tmp_path: Path) -> Classroom:
    return classroom(engine, settings, tmp_path)


def test_a_backup_opens_as_a_database_with_everything_in_it(room: Classroom):
    file = backup.make(room.settings)

    copy = connect(f"sqlite:///{file}")
    with open_session(copy) as session:
        assert session.exec(select(func.count()).select_from(Record)).one() == 40
    copy.dispose()


def test_what_still_waits_in_the_log_is_in_the_backup_too(room: Classroom):
    """A copy of the .db file alone would miss it."""
    with open_session(room.engine, write=True) as session:
        for record in session.exec(select(Record)):
            record.rating = 5
    file = backup.make(room.settings)

    copy = connect(f"sqlite:///{file}")
    with open_session(copy) as session:
        assert session.exec(select(func.min(Record.rating))).one() == 5
    copy.dispose()


def test_the_newest_few_are_kept(room: Classroom):
    made = [backup.make(room.settings, keep=2) for _ in range(4)]

    assert backup.every(room.settings) == [made[3], made[2]]
    assert [file.name for file in room.settings.folder("backups").iterdir() if file.name.startswith(".")] == []


def test_a_backup_that_cannot_be_written_leaves_the_earlier_ones(room: Classroom, monkeypatch: pytest.MonkeyPatch):
    first = backup.make(room.settings, keep=1)

    def full(_source: Path, target: Path) -> None:
        target.write_bytes(b"half")
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(backup, "_copy", full)
    with pytest.raises(Unavailable, match="No space left"):
        backup.make(room.settings, keep=1)

    assert [file.name for file in room.settings.folder("backups").iterdir()] == [first.name]


def test_a_copy_that_came_out_damaged_does_not_count(room: Classroom, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(backup, "_copy", lambda _source, target: target.write_bytes(b"SQLite format 3\0" + b"x" * 8192))

    with pytest.raises(Conflict, match="damaged"):
        backup.make(room.settings)

    assert list(room.settings.folder("backups").iterdir()) == []


def test_a_damaged_copy_is_found_out(room: Classroom):
    file = backup.make(room.settings)
    with file.open("r+b") as raw:
        raw.seek(8192)
        raw.write(b"\xff" * 8192)

    with pytest.raises(Conflict, match="damaged"):
        backup.check(file)


def test_experts_work_on_while_a_backup_is_made(room: Classroom):
    errors: list[Exception] = []

    def work() -> None:
        try:
            for _ in range(20):
                with open_session(room.engine, write=True) as session:
                    session.exec(select(Record).limit(1)).one().version += 1
        except Exception as error:
            errors.append(error)

    thread = threading.Thread(target=work)
    thread.start()
    backup.check(backup.make(room.settings))
    thread.join()

    assert errors == []


def test_another_database_names_its_own_tool(settings: Settings):
    elsewhere = settings.model_copy(update={"database_url": "postgresql://somewhere/curator"})

    with pytest.raises(Invalid, match="pg_dump"):
        backup.make(elsewhere)
