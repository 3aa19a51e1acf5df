"""The embedded runtime's files in the home folder, which every process finds it by.

served.json          what is to be served (Served); changed under served.lock, by whoever publishes
runtime.json         what is being served (Actual), mode 0600 as it holds keys; written by the host alone
runtime/             mode 0700: host.lock (held while a host lives), and per base its .wanted, .config.json,
                     .ready.json and .log
"""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO, TypeVar

from pydantic import BaseModel, ConfigDict, ValidationError

from trainer.rundir import write_model

LOCK_SECONDS = 10.0

M = TypeVar("M", bound=BaseModel)


class Stored(BaseModel):
    """A value in one of these files."""

    model_config = ConfigDict(extra="ignore", frozen=True)


class BaseFile(Stored):
    """A base: where its GGUF lies, and what the file looked like when its sha256 was taken."""

    path: Path
    size: int
    modified: int


class ServedTag(Stored):
    """A name: its base by sha256, its adapter by sha256 (None for the base itself), and how it is to be asked."""

    base: str
    adapter: str | None = None
    size: int = 0
    system: str | None = None
    stop: tuple[str, ...] = ()
    context: int = 2048


class Served(Stored):
    """What is to be served. `revision` rises with every change."""

    revision: int = 0
    bases: dict[str, BaseFile] = {}
    adapters: dict[str, Path] = {}
    tags: dict[str, ServedTag] = {}

    def adapters_of(self, base: str) -> tuple[str, ...]:
        """List the adapters that names of this base need."""
        return tuple(sorted({tag.adapter for tag in self.tags.values() if tag.base == base and tag.adapter}))

    def context_of(self, base: str) -> int:
        """Answer the longest context that a name of this base asks for, in tokens."""
        return max((tag.context for tag in self.tags.values() if tag.base == base), default=2048)


class Loaded(Stored):
    """What serves one base. An adapter's place in `adapters` is its id. `address` is empty while nothing answers.

    `error` says why it was given up; `rejected` why an adapter was not loaded.
    """

    address: str = ""
    key: str = ""
    pid: int = 0
    context: int = 0
    adapters: tuple[str, ...] = ()
    error: str = ""
    rejected: dict[str, str] = {}


class Actual(Stored):
    """What is being served, for which revision of served.json."""

    host: int = 0
    revision: int = 0
    bases: dict[str, Loaded] = {}


def served_file(home: Path) -> Path:
    return home / "served.json"


def actual_file(home: Path) -> Path:
    return home / "runtime.json"


def runtime_folder(home: Path) -> Path:
    """Answer the folder for the host's own files; nobody else may look into it."""
    folder = home / "runtime"
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    return folder


def read_served(home: Path) -> Served:
    return read_stored(served_file(home), Served())


def read_actual(home: Path) -> Actual:
    return read_stored(actual_file(home), Actual())


def read_stored(path: Path, otherwise: M) -> M:
    """Read a value of the same kind as `otherwise`, which is answered when there is none yet."""
    try:
        return type(otherwise).model_validate_json(path.read_bytes())
    except FileNotFoundError:
        return otherwise
    except ValidationError as error:
        raise ValueError(f"{path} is damaged. Move it away; models are then published again.") from error


@contextmanager
def changing_served(home: Path) -> Generator[Served]:
    """Yield a copy of what is to be served whose dicts may be changed; write it with the next revision at the end."""
    with locked(home / "served.lock"):
        served = read_served(home).model_copy(deep=True)
        yield served
        used = {tag.base for tag in served.tags.values()}
        taught = {tag.adapter for tag in served.tags.values()}
        bases = {sha: base for sha, base in served.bases.items() if sha in used}
        adapters = {sha: path for sha, path in served.adapters.items() if sha in taught}
        changed = {"revision": served.revision + 1, "bases": bases, "adapters": adapters}
        write_model(served_file(home), served.model_copy(update=changed))


def write_private(path: Path, value: BaseModel) -> None:
    """Write a value that only this user may read, whole or not at all."""
    draft = path.with_name(f".{path.name}.part")
    draft.unlink(missing_ok=True)
    with os.fdopen(os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w", encoding="utf-8") as file:
        file.write(value.model_dump_json(indent=2) + "\n")
    draft.replace(path)


def want(home: Path, base: str) -> None:
    """Ask the host to have a base ready."""
    (runtime_folder(home) / f"{base}.wanted").touch()


def host_lives(home: Path) -> bool:
    """Tell whether a process serves this home."""
    lock = try_lock(runtime_folder(home) / "host.lock")
    if lock:
        lock.close()
    return lock is None


@contextmanager
def locked(path: Path) -> Generator[None]:
    """Hold a lock between processes; TimeoutError after ten seconds."""
    path.parent.mkdir(parents=True, exist_ok=True)
    end = time.monotonic() + LOCK_SECONDS
    while (lock := try_lock(path)) is None:
        if time.monotonic() > end:
            raise TimeoutError(f"Another process has held {path} for {LOCK_SECONDS:.0f} seconds.")
        time.sleep(0.01)
    try:
        yield
    finally:
        lock.close()


def try_lock(path: Path) -> BinaryIO | None:
    """Take a lock that ends with the file that is answered, or with this process; None when somebody has it."""
    file = path.open("ab")
    try:
        if sys.platform == "win32":
            import msvcrt

            file.seek(0)
            msvcrt.locking(file.fileno(), msvcrt.LK_NBLCK, 1)
        else:
            import fcntl

            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        file.close()
        return None
    return file
