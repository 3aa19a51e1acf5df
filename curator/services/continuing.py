"""Go on from an earlier version: which ones can be gone on from, and what they know already."""

from __future__ import annotations

from collections.abc import Iterator
from hashlib import sha256
from pathlib import Path

from sqlmodel import Session, col, select

from curator.errors import Invalid, NotFound
from curator.services import snapshots
from db.models import ModelVersion, Project, Run, Snapshot
from trainer.rundir import RunDir
from trainer.spec import Example, Split


def possible(session: Session, project: Project) -> list[ModelVersion]:
    """List the versions of the project's base whose adapter is still there, newest first."""
    rows = session.exec(
        select(ModelVersion, Run)
        .join(Run, col(Run.id) == col(ModelVersion.run_id))
        .where(ModelVersion.project_id == project.id, ModelVersion.base_id == project.base_id)
        .order_by(col(ModelVersion.number).desc())
    )
    return [version for version, run in rows if _adapter(run)]


def run_of(session: Session, project: Project, number: int) -> Run:
    """Answer the run that made a version which can be gone on from; raises NotFound or Invalid with a sentence."""
    version = session.exec(
        select(ModelVersion).where(ModelVersion.project_id == project.id, ModelVersion.number == number)
    ).first()
    if version is None:
        raise NotFound("This project has no version %(number)d.", number=number)
    if version.base_id != project.base_id:
        raise Invalid(
            "Version %(number)d was taught on another base model, so it cannot be gone on from. Start from the base.",
            number=number,
        )
    run = session.get_one(Run, version.run_id)
    if _adapter(run) is None:
        raise Invalid(
            "The files of version %(number)d are gone, so it cannot be gone on from. Start from the base.",
            number=number,
        )
    return run


def adapter_of(run: Run) -> Path:
    """Answer the folder of a run's adapter in PEFT's format; raises NotFound when it is gone."""
    found = _adapter(run)
    if found is None:
        raise NotFound("The adapter of run %(number)d is gone. Start from the base.", number=run.id)
    return found


def lessons(session: Session, snapshot: Snapshot, split: Split, before: Snapshot, replay: float) -> Iterator[Example]:
    """Yield what is new since `before`, and a share of what is not, so that it is not forgotten.

    Which old ones come again depends on their id and the snapshot's seed alone. When nothing is new, all are learnt.
    """
    fresh = 0
    for example in snapshots.examples(session, snapshot, split, before=before, known=False):
        fresh += 1
        yield example
    for example in snapshots.examples(session, snapshot, split, before=before, known=True):
        if not fresh or _share(f"{snapshot.seed}:{example.id}") < replay:
            yield example


def _adapter(run: Run) -> Path | None:
    folder = RunDir(Path(run.folder)).adapter
    return folder if run.folder and folder.is_dir() else None


def _share(text: str) -> float:
    return int.from_bytes(sha256(text.encode()).digest()[:8]) / 2**64
