"""Bases: the models that are taught, known by the content of their GGUF file."""

from __future__ import annotations

from pathlib import Path

from sqlmodel import Session, col, select

from curator.errors import Invalid, NotFound
from db.models import Base
from trainer.bases import BaseFile, describe
from trainer.gguf_check import BadGguf


def register(session: Session, path: Path, *, name: str = "", licence: str = "", folder: str = "") -> Base:
    """Make a GGUF file known as a base; a file with the same content is answered as the base it already is.

    The file is checked and hashed, which takes seconds for a large one. Raises Invalid with a sentence for a file
    that is no whole model or has no chat template.
    """
    file = _describe(path.expanduser().resolve())
    known = session.exec(select(Base).where(Base.sha256 == file.sha256)).first()
    if known:
        if not Path(known.path).is_file():
            known.path = str(file.path)
            session.add(known)
        return known
    base = Base(
        name=name or file.name,
        path=str(file.path),
        sha256=file.sha256,
        architecture=file.architecture,
        size=file.size,
        folder=folder,
        licence=licence or file.licence,
    )
    session.add(base)
    session.flush()
    return base


def get(session: Session, base_id: int | None) -> Base:
    """Answer a base, or say that the project has none yet."""
    base = session.get(Base, base_id) if base_id is not None else None
    if base is None:
        raise NotFound("This project has no base model yet. Choose one in its settings.")
    return base


def all_bases(session: Session) -> list[Base]:
    """List the bases, newest last."""
    return list(session.exec(select(Base).order_by(col(Base.id))))


def file_of(base: Base) -> Path:
    """Answer the base's file, or say that it is gone."""
    path = Path(base.path)
    if not path.is_file():
        raise NotFound(
            "The file of base %(name)s is gone: %(path)s. Put it back or register it again.",
            name=base.name,
            path=base.path,
        )
    return path


def _describe(path: Path) -> BaseFile:
    try:
        file = describe(path)
    except BadGguf as error:
        raise Invalid("%(problem)s", problem=str(error)) from error
    if not file.has_template:
        raise Invalid(
            "%(name)s has no chat template, so it cannot hold a conversation. Choose an instruct or chat model.",
            name=path.name,
        )
    return file
