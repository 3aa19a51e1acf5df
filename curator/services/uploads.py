"""Uploaded logs: kept under a name of our own, looked at, then handed to an import."""

from __future__ import annotations

import re
import secrets
import shutil
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO

from sqlmodel import Session

from curator import importers
from curator.errors import CuratorError, Invalid, NotFound
from curator.importers import fields
from curator.importers.readers import sample
from curator.services import imports, jobs
from curator.settings import Settings
from db.models import Project, Source, User


@dataclass(frozen=True)
class Look:
    """What an uploaded file seems to hold; `problem` says why it cannot be read as asked."""

    columns: list[str] = field(default_factory=list[str])
    preview: imports.Preview | None = None
    problem: CuratorError | None = None


def keep(settings: Settings, project: Project, stream: IO[bytes]) -> str:
    """Store an upload whole and answer its token; the name people gave it never becomes a path."""
    token = secrets.token_hex(16)
    path = _folder(settings, project) / token
    draft = path.with_suffix(".part")
    try:
        with draft.open("wb") as file:
            shutil.copyfileobj(stream, file, 1 << 20)
        if not draft.stat().st_size:
            raise Invalid("The file is empty. Choose the log you exported.")
        draft.replace(path)
    finally:
        draft.unlink(missing_ok=True)
    return token


def path_of(settings: Settings, project: Project, token: str) -> Path:
    """Answer where an upload of this project lies, or raise NotFound."""
    path = _folder(settings, project) / token
    if not re.fullmatch(r"[0-9a-f]{32}", token) or not path.is_file():
        raise NotFound("This upload is gone. Please choose the file again.")
    return path


def look(path: Path, importer: str | None, mapping: Mapping[str, str]) -> Look:
    """Look at an upload. What cannot be read is told beside the columns, so that a person can map them by hand."""
    columns: list[str] = []
    try:
        columns = list(fields.columns(sample(importers.look(path))))
        return Look(columns, imports.preview(path, importer, mapping))
    except CuratorError as problem:
        return Look(columns, problem=problem)


def begin(
    session: Session, project: Project, path: Path, name: str, importer: str | None, mapping: Mapping[str, str],
    user: User,
) -> Source:  # fmt: skip
    """Make the upload a source and queue its import, in the caller's transaction."""
    source = imports.add_source(session, project, path, name=name, importer=importer, mapping=mapping, user=user)
    jobs.enqueue(session, "light", "import", f"import:{source.id}", {"id": source.id})
    return source


def _folder(settings: Settings, project: Project) -> Path:
    folder = settings.folder("uploads") / str(project.id)
    folder.mkdir(exist_ok=True)
    return folder
