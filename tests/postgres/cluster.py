"""A throw-away PostgreSQL cluster from the system's own programs, reached through a socket in its folder only."""

from __future__ import annotations

import os
import shutil
import subprocess
import tempfile
from collections.abc import Generator
from contextlib import contextmanager
from importlib.util import find_spec
from pathlib import Path

import pytest
from sqlalchemy import create_engine

MISSING = (
    "These tests need PostgreSQL and its Python driver: tools/install_postgres, and pip install 'curator[postgres]'."
)


def programs() -> Path:
    """Find the folder of initdb and pg_ctl; Debian keeps it out of the PATH."""
    on_path = shutil.which("initdb")
    folders = [Path(on_path).parent] if on_path else sorted(Path("/usr/lib/postgresql").glob("*/bin"))
    if not folders or not (folders[-1] / "pg_ctl").exists():
        pytest.fail(MISSING)
    return folders[-1]


@contextmanager
def running() -> Generator[str]:
    """Start a cluster, answer its URL with a place for the database's name, and remove it all afterwards."""
    if find_spec("psycopg") is None:
        pytest.fail(MISSING)
    folder = Path(tempfile.mkdtemp(prefix="curator-pg-", dir="/tmp"))  # a socket's path must be short
    if os.getuid() == 0:
        shutil.chown(folder, "postgres", "postgres")
    data = folder / "data"
    options = f"-c listen_addresses='' -c unix_socket_directories={folder} -c fsync=off -c max_connections=40"
    try:
        _run(folder, "initdb", "-D", data, "-U", "curator", "-A", "trust", "-E", "UTF8", "--locale=C", "-N")
        _run(folder, "pg_ctl", "-D", data, "-w", "-t", "60", "-l", folder / "log", "-o", options, "start")
        yield f"postgresql+psycopg://curator@/%s?host={folder}"
    finally:
        if data.exists():
            _run(folder, "pg_ctl", "-D", data, "-m", "immediate", "stop", check=False)
        shutil.rmtree(folder, ignore_errors=True)


def create(url: str, name: str, more: str = "") -> None:
    """Make a database in a cluster."""
    engine = create_engine(url % "postgres", isolation_level="AUTOCOMMIT")
    with engine.connect() as connection:
        connection.exec_driver_sql(f"CREATE DATABASE {name} {more}")
    engine.dispose()


def _run(folder: Path, program: str, *arguments: object, check: bool = True) -> None:
    """Run one of PostgreSQL's programs, which refuse to run as root."""
    command = [str(programs() / program), *map(str, arguments)]
    if os.getuid() == 0:
        command = ["runuser", "-u", "postgres", "--", *command]
    with (folder / f"{program}.out").open("ab") as output:
        done = subprocess.run(command, check=False, cwd=folder, stdout=output, stderr=subprocess.STDOUT)  # noqa: S603  our own words
    if check and done.returncode:
        pytest.fail(f"{program}: {(folder / f'{program}.out').read_text(errors='replace')[-2000:]}")
