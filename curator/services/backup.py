"""Backups: a copy of the database that was read back before it counts."""

from __future__ import annotations

import os
from contextlib import closing
from pathlib import Path

from curator.errors import Conflict, Invalid, Unavailable
from curator.settings import Settings
from db.models import utc_now
from db.session import sqlite_driver
from trainer.rundir import sync_folder

PAGES = 1000


def make(settings: Settings, keep: int = 7) -> Path:
    """Copy the database while it is in use, check the copy, and keep the newest `keep`.

    SQLite's own backup call, because a copy of the file alone leaves out what is still in the write-ahead log.
    The old ones are only dropped when the new one is whole.
    """
    if not settings.url.startswith("sqlite:///"):
        raise Invalid("This database is not SQLite. Back it up with its own tool, for example pg_dump.")
    source = Path(settings.url.removeprefix("sqlite:///"))
    folder = settings.folder("backups")
    name = f"curator-{utc_now():%Y%m%dT%H%M%S%f}.db"
    draft = folder / f".{name}.part"
    try:
        _copy(source, draft)
        check(draft)
        with draft.open("rb+") as file:
            os.fsync(file.fileno())
        draft.replace(folder / name)
    except OSError as error:
        raise _refused(folder, str(error)) from error
    except sqlite_driver().Error as error:
        raise _refused(folder, str(error)) from error
    finally:
        draft.unlink(missing_ok=True)
    sync_folder(folder)
    for old in every(settings)[keep:]:
        old.unlink()
    return folder / name


def every(settings: Settings) -> list[Path]:
    """List the backups, newest first."""
    return sorted(settings.folder("backups").glob("curator-*.db"), reverse=True)


def check(path: Path) -> None:
    """Read a database through and raise Conflict when it is damaged."""
    driver = sqlite_driver()
    with closing(driver.connect(f"file:{path}?mode=ro", uri=True)) as copy:
        try:
            found = [row[0] for row in copy.execute("PRAGMA integrity_check")]
            found += [f"row {row[1]} of {row[0]} points at nothing" for row in copy.execute("PRAGMA foreign_key_check")]
        except driver.DatabaseError as error:
            found = [str(error)]
    if found != ["ok"]:
        raise Conflict("%(name)s is damaged: %(problem)s.", name=path.name, problem="; ".join(map(str, found[:3])))


def _copy(source: Path, target: Path) -> None:
    driver = sqlite_driver()
    with (
        closing(driver.connect(f"file:{source}?mode=ro", uri=True)) as original,
        closing(driver.connect(str(target))) as copy,
    ):
        original.backup(copy, pages=PAGES)
        copy.execute("PRAGMA journal_mode=DELETE")  # one file, no log beside it


def _refused(folder: Path, problem: str) -> Unavailable:
    return Unavailable(
        "The backup could not be written to %(folder)s (%(problem)s). Earlier backups are untouched.",
        folder=str(folder),
        problem=problem,
    )
