"""Open the database and sessions on it, the same way for web, worker and command line."""

from __future__ import annotations

import sqlite3
from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path
from types import ModuleType
from typing import Any

from sqlalchemy import Connection, Engine, event
from sqlmodel import Session, create_engine

BUSY_TIMEOUT_MS = 10_000
UNBOUNDED = -1  # the web's threads bound it: a request may hold two connections, and a bound below that locks up
MIGRATIONS = Path(__file__).parent / "migrations"


def sqlite_driver() -> ModuleType:
    """Answer the SQLite driver: the bundled one where it is installed, else the system's."""
    try:
        from pysqlite3 import dbapi2
    except ImportError:
        return sqlite3
    return dbapi2


def wal_is_safe(version: tuple[int, ...]) -> bool:
    """Tell whether this SQLite can use WAL: 3.7.0 to 3.51.2 may lose a commit when a checkpoint races it.

    Source: sqlite.org release notes of 3.51.3, with the back-ports 3.50.7 and 3.44.6.
    """
    return version >= (3, 51, 3) or (3, 50, 7) <= version < (3, 51) or (3, 44, 6) <= version < (3, 45)


def connect(url: str) -> Engine:
    """Make an engine; `url` is `sqlite:///path` or a PostgreSQL URL.

    What people wrote stays out of errors, and so out of logs: parameters are hidden. On SQLite every connection is
    set to WAL where that is safe (else DELETE, slower but sound), synchronous=FULL, foreign keys on, and explicit
    transactions, so that open_session decides how they begin.
    """
    if not url.startswith("sqlite"):
        return create_engine(url, pool_pre_ping=True, max_overflow=UNBOUNDED, hide_parameters=True)
    driver = sqlite_driver()
    engine = create_engine(
        url,
        module=driver,
        connect_args={"check_same_thread": False, "timeout": BUSY_TIMEOUT_MS / 1000},
        max_overflow=UNBOUNDED,
        hide_parameters=True,
    )
    journal = "WAL" if wal_is_safe(driver.sqlite_version_info) else "DELETE"

    @event.listens_for(engine, "connect")
    def prepare(connection: Any, _record: Any) -> None:  # the driver's own connection type
        connection.isolation_level = None
        for pragma in (
            f"journal_mode={journal}", "synchronous=FULL", "foreign_keys=ON",
            f"busy_timeout={BUSY_TIMEOUT_MS}", "temp_store=MEMORY", "cache_size=-32000",
        ):  # fmt: skip
            connection.execute(f"PRAGMA {pragma}").close()

    @event.listens_for(engine, "begin")
    def begin(connection: Any) -> None:  # SQLAlchemy's Connection, whose execution options are untyped
        how = connection.get_execution_options().get("sqlite_begin", "DEFERRED")
        connection.exec_driver_sql(f"BEGIN {how}")

    return engine


def new_session(engine: Engine, *, write: bool) -> Session:
    """Make a session; a writing one takes the write lock at its first statement.

    A read that turns into a write fails at once on SQLite, whatever the timeout; hence `write` up front.
    """
    bind = engine.execution_options(sqlite_begin="IMMEDIATE") if write and engine.dialect.name == "sqlite" else engine
    return Session(bind, expire_on_commit=False)


@contextmanager
def open_session(engine: Engine, *, write: bool = False) -> Generator[Session]:
    """Run a block in one transaction: commit when it ends well and `write` was asked, roll back otherwise."""
    with new_session(engine, write=write) as session:
        yield session
        if write:
            session.commit()


def migrate(engine: Engine, revision: str = "head") -> None:
    """Bring the database to the newest schema, or to one on the way; does nothing when it is there already."""
    from alembic import command
    from alembic.config import Config

    config = Config()
    config.set_main_option("script_location", str(MIGRATIONS))
    with engine.connect() as connection, _tables_may_be_remade(connection), connection.begin():
        config.attributes["connection"] = connection
        command.upgrade(config, revision)


@contextmanager
def _tables_may_be_remade(connection: Connection) -> Generator[None]:
    """Let a migration on SQLite put a changed copy in a table's place, as sqlite.org/lang_altertable.html describes.

    A table that others refer to cannot be dropped while foreign keys are watched, and that can only be changed
    outside a transaction.
    """
    if connection.dialect.name != "sqlite":
        yield
        return
    raw: Any = connection.connection.driver_connection  # Any: the driver's own connection type
    raw.execute("PRAGMA foreign_keys=OFF").close()
    try:
        yield
    finally:
        raw.execute("PRAGMA foreign_keys=ON").close()
