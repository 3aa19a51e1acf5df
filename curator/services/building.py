"""Make a model version of a run folder whose files are all there: in a draft first, then in one transaction."""

from __future__ import annotations

import shutil
from dataclasses import dataclass
from pathlib import Path

from sqlmodel import Session, col, func, select

from curator.services import jobs, run_folder
from curator.services.work import Work
from curator.settings import Settings
from db.models import Job, ModelVersion, Project, Run
from trainer.evaluation import Evaluation
from trainer.rundir import RunDir, sha256_of
from trainer.spec import RunResult

DRAFTS = ".*.part"


@dataclass(frozen=True)
class Draft:
    """A version's files in a folder of their own, and what they are."""

    path: Path
    sha256: str  # of model.gguf
    evaluation: Evaluation
    result: RunResult


def gather(folder: RunDir, work: Work, *, adapter: bool) -> Draft | None:
    """Bring a version's files together, so that the transaction only renames; None when some are missing.

    Without the adapter every runtime serves the merged file, rounding and all.
    """
    evaluation, result = folder.evaluation(), folder.result()
    if evaluation is None or result is None or not folder.model_gguf.exists():
        return None
    path = work.settings.folder("versions") / f".job-{work.job.id}.part"
    shutil.rmtree(path, ignore_errors=True)
    path.mkdir()
    files = [folder.model_gguf, folder.evaluation_file, folder.result_file, *([folder.adapter_gguf] * adapter)]
    run_folder.link([file for file in files if file.exists()], path)
    sha256 = result.files.get("model.gguf") or sha256_of(folder.model_gguf)
    return Draft(path, sha256, evaluation, result)


def build(session: Session, run: Run, draft: Draft, settings: Settings, merged_type: str) -> ModelVersion:
    """Add the version that a draft holds, and queue its publishing when it passed the gate."""
    project = session.get_one(Project, run.project_id)
    highest = session.exec(select(func.max(ModelVersion.number)).where(ModelVersion.project_id == project.id)).one()
    number = (highest or 0) + 1
    place = settings.folder("versions") / f"{project.slug}-v{number}"
    if place.exists():  # renamed, but the transaction was lost
        shutil.rmtree(place)
    draft.path.rename(place)
    version = ModelVersion(
        project_id=run.project_id,
        number=number,
        run_id=run.id or 0,
        base_id=run.base_id,
        merged_type=merged_type,
        tag=f"{project.slug}:v{number}-{draft.sha256[:8]}",
        folder=str(place),
        gate_passed=draft.evaluation.passed,
        gate=[check.model_dump() for check in draft.evaluation.checks],
    )
    session.add(version)
    session.flush()
    if version.gate_passed:
        jobs.enqueue(session, "light", "publish", f"publish:{version.id}", {"id": version.id})
    return version


def sweep(session: Session, settings: Settings) -> None:
    """Remove drafts that no job is at work on."""
    drafts = list(settings.folder("versions").glob(DRAFTS))  # before the jobs: a newer one's is not among them
    live = session.exec(select(Job.id).where(col(Job.state).in_(jobs.LIVE)))
    kept = {f".job-{id_}.part" for id_ in live}
    for draft in drafts:
        if draft.name not in kept:
            shutil.rmtree(draft, ignore_errors=True)
