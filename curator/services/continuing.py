"""Go on from an earlier version: which ones can be gone on from, and what they know already."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from sqlmodel import Session, col, select

from curator.errors import Invalid
from curator.services import snapshots, versions
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
    return [version for version, run in rows if _has_adapter(run)]


def run_of(session: Session, project: Project, number: int) -> Run:
    """Answer the run that made a version which can be gone on from; raises NotFound or Invalid with a sentence."""
    version = versions.get(session, project, number)
    if version.base_id != project.base_id:
        raise Invalid(
            "Version %(number)d was taught on another base model, so it cannot be gone on from. Start from the base.",
            number=number,
        )
    run = session.get_one(Run, version.run_id)
    if not _has_adapter(run):
        raise Invalid(
            "The files of version %(number)d are gone, so it cannot be gone on from. Start from the base.",
            number=number,
        )
    return run


def lessons(session: Session, snapshot: Snapshot, split: Split, before: Snapshot, replay: float) -> Iterator[Example]:
    """Yield what is new since `before`, and a share of what is not, so that it is not forgotten.

    Which old ones come again depends on their id and the snapshot's seed alone. When nothing is new, all are learnt.
    """
    fresh = 0
    for example in snapshots.examples(session, snapshot, split, before=before, known=False):
        fresh += 1
        yield example
    for example in snapshots.examples(session, snapshot, split, before=before, known=True):
        if not fresh or snapshots.share_of(f"{snapshot.seed}:{example.id}") < replay:
            yield example


def _has_adapter(run: Run) -> bool:
    return bool(run.folder) and RunDir(Path(run.folder)).adapter.is_dir()
