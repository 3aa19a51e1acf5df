"""Bases: the models that are taught, known by the content of their GGUF file."""

from __future__ import annotations

from pathlib import Path

from sqlmodel import Session, col, select

from curator.errors import Conflict, CuratorError, Invalid, NotFound
from curator.services import admission
from db.models import Base, Project
from trainer.bases import BaseFile, describe
from trainer.bases.curated import EMBEDDED_SHA256, by_origin, seconds_per_example
from trainer.bases.folder import check_folder
from trainer.failures import TrainerFailure
from trainer.gguf_check import BadGguf, check


def described(path: Path) -> BaseFile:
    """Describe a GGUF file, which takes seconds for a large one; Invalid with a sentence when it cannot be taught."""
    path = path.expanduser().resolve()
    try:
        return describe(path)
    except BadGguf as error:
        raise Invalid("%(problem)s", problem=str(error)) from error


def register(session: Session, path: Path, *, name: str = "", licence: str = "", folder: str = "") -> Base:
    """Make a GGUF file known as a base; a file with the same content is answered as the base it already is."""
    base = add(session, described(path), name=name, licence=licence)
    if folder:
        set_folder(session, base, folder)
    return base


def add(
    session: Session, file: BaseFile, *, source: str = "file", origin: str = "", name: str = "", licence: str = ""
) -> Base:
    """Make a described file known as a base, or answer the base it already is."""
    base = session.exec(select(Base).where(Base.sha256 == file.sha256)).first()
    if base:
        base.parameters = file.parameters  # before they were counted they were guessed from the size
        base.languages = base.languages or " ".join(file.languages)
        if not Path(base.path).is_file():
            base.path = str(file.path)
    else:
        known = by_origin(origin)
        base = Base(
            name=name or (known.name if known else file.name),
            path=str(file.path),
            sha256=file.sha256,
            architecture=file.architecture,
            size=file.size,
            licence=licence or (known.licence if known else "") or file.licence,
            languages=" ".join(known.languages if known else file.languages),
            parameters=file.parameters,
            source="embedded" if file.sha256 == EMBEDDED_SHA256 else source,
            origin=origin,
        )
    session.add(base)
    session.flush()
    return base


def set_folder(session: Session, base: Base, folder: str) -> None:
    """Let a base be taught from a full-precision folder, or from its own file again; it has to be tested anew.

    Raises Invalid with a sentence for a folder that is not this model's, or that could run something.
    """
    path = Path(folder.strip()).expanduser().resolve() if folder.strip() else None
    if path:
        try:
            check_folder(path, check(file_of(base), whole=True))
        except (BadGguf, TrainerFailure) as error:
            raise Invalid("%(problem)s", problem=str(error)) from error
    base.folder = str(path or "")
    admission.forget(session, base)


def get(session: Session, base_id: int | None) -> Base:
    """Answer a base, or say that the project has none yet."""
    base = session.get(Base, base_id) if base_id is not None else None
    if base is None:
        raise NotFound("This project has no base model yet. Choose one in its settings.")
    return base


def of_project(session: Session, project: Project) -> Base | None:
    """Answer the base that a project teaches, if one was chosen."""
    return session.get(Base, project.base_id) if project.base_id else None


def all_bases(session: Session) -> list[Base]:
    """List the bases, newest last."""
    return list(session.exec(select(Base).order_by(col(Base.id))))


def choose(session: Session, project: Project, base: Base) -> None:
    """Let a project teach this base; refused while it is tested, and when it did not pass."""
    if problem := why_not(session, base):
        raise problem
    project.base_id = base.id
    session.add(project)


def why_not(session: Session, base: Base) -> CuratorError | None:
    """Say why a base must not be taught. One that could not be tested may be; the gate tests every version again."""
    if admission.under_way(session, [base]):
        return Conflict("This base model is being checked. Wait until that is done, about a minute.")
    if base.admission == "failed":
        return Invalid("%(problem)s", problem=base.admission_message)
    return None


def minutes_per_100(parameters: int) -> float:
    """Estimate the minutes that teaching 100 answers takes on two processor cores."""
    return 100 * seconds_per_example(parameters) / 60


def file_of(base: Base) -> Path:
    """Answer the base's file, or say that it is gone."""
    if not is_there(base):
        raise NotFound(
            "The file of base %(name)s is gone: %(path)s. Put it back or register it again.",
            name=base.name,
            path=base.path,
        )
    return Path(base.path)


def is_there(base: Base) -> bool:
    """Tell whether the base's file is where it was."""
    return Path(base.path).is_file()
