"""Carry out a run: plan, train, convert and evaluate, each in a child process, then make the model version.

Every step can be done again: the trainer skips what is finished in the run folder, and the version and the end of
the run are saved in one transaction.
"""

from __future__ import annotations

import shutil
from pathlib import Path

from sqlmodel import Session, func, select

from curator.errors import CuratorError
from curator.services import bases, handover, jobs, journal, run_folder
from curator.services.run_card import figures
from curator.services.work import Work
from curator.settings import Settings
from db.models import ModelVersion, Project, Run, utc_now
from db.session import open_session
from trainer.rundir import RunDir, sha256_of
from trainer.spec import Evaluation, FailureClass, Stage

STAGES: tuple[Stage, ...] = ("plan", "train", "convert", "evaluate")
POLL_SECONDS = 0.1
KILLED = (-9, 137)
ASKED_TO_STOP = (-15, 143)
OUTSIDE_SECONDS = 2.0  # a machine that shuts down stops trainer and worker in any order


def teach(work: Work) -> None:
    """Do a run from wherever it stands."""
    with work.saving() as session:
        run = session.get_one(Run, work.subject())
        if run.state not in ("queued", "running"):
            return
        run.state, run.started_at = "running", run.started_at or utc_now()
        run.folder = str(run_folder.folder_of(run, work.settings).path)
        session.add(run)
    try:
        with open_session(work.engine) as session:
            run_folder.check_disk(bases.get(session, run.base_id), work.settings)
            folder = run_folder.write(session, run, work.settings)
    except CuratorError as error:
        _end(work, "failed", str(error), "disk" if error.status == 503 else "base")
        return
    except OSError as error:
        sentence = f"The run's files cannot be written: {error.strerror}. Make room, then teach again."
        _end(work, "failed", sentence, "disk")
        return
    for stage in STAGES:
        if not _do(work, stage, folder):
            return
    _conclude(work, folder)


def gave_up(session: Session, run_id: int, reason: str) -> None:
    """Mark a run failed whose job failed for good."""
    run = session.get_one(Run, run_id)
    if run.state in ("queued", "running"):
        run.state, run.failure, run.message, run.finished_at = "failed", "internal", reason, utc_now()
        session.add(run)


def _do(work: Work, stage: Stage, folder: RunDir) -> bool:
    """Do one stage in a child process; False when the run ended with it.

    A system that is short of memory kills without a word, so learning is tried once more with less at once.
    """
    with work.saving() as session:
        run = session.get_one(Run, work.subject())
        run.stage = stage
        session.add(run)
    code = _attempt(work, stage, folder)
    if code in KILLED and stage == "train" and folder.take_less_at_once():
        code = _attempt(work, stage, folder)
    if code is None and work.halt.reason == "cancelled":
        _end(work, "cancelled", "Stopped by a person. Nothing that is in service has changed.")
        return False
    if code is None:
        raise jobs.Lost(work.job.key)  # leaving or lost: the queue holds what comes next
    if code:
        failure, message = why(folder, code)
        _end(work, "failed", message, failure)
        return False
    return True


def _attempt(work: Work, stage: Stage, folder: RunDir) -> int | None:
    """Answer a stage's exit code, or None when it was ended because the work was called off."""
    child = work.launcher.start(stage, folder)
    try:
        while (code := child.poll()) is None and not work.halt.wait(POLL_SECONDS):
            pass
        if code in ASKED_TO_STOP and work.halt.wait(OUTSIDE_SECONDS):
            code = None
    finally:
        child.cancel()
    return code


def why(folder: RunDir, code: int) -> tuple[FailureClass, str]:
    """Say why a stage failed: the trainer's own words if it had time for them, else what the exit code tells."""
    for event in reversed(folder.events()):
        if event.kind == "stage":
            break
        if event.kind == "failed" and event.message:
            return event.failure or "internal", event.message
    if code in KILLED:
        return "memory", (
            "The machine ran out of memory while teaching. Close other programs, or teach with smaller batches "
            "(batch_size) or shorter examples (max_length). The model in service is unchanged."
        )
    return "internal", (
        f"The trainer stopped unexpectedly (exit code {code}). The model in service is unchanged. "
        "The last lines of its log say more."
    )


def _end(work: Work, state: str, message: str, failure: FailureClass | None = None) -> None:
    with work.saving() as session:
        run = session.get_one(Run, work.subject())
        run.state, run.message, run.failure, run.finished_at = state, message, failure or "", utc_now()
        session.add(run)
        project = session.get_one(Project, run.project_id)
        journal.note(session, f"run {state}", f"run {run.id}", project=project, detail={"message": message})


def _conclude(work: Work, folder: RunDir) -> None:
    """Make the model version and end the run, in one transaction; publish it when it passed the gate."""
    evaluation, result = folder.evaluation(), folder.result()
    if evaluation is None or result is None or not folder.model_gguf.exists():
        _end(work, "failed", "The trainer ended without all of its files. Start the run again.", "internal")
        return
    tag_part = result.files.get("model.gguf") or sha256_of(folder.model_gguf)
    draft = _gather(folder, work)
    with work.saving() as session:
        run = session.get_one(Run, work.subject())
        version = _version(session, run, evaluation, tag_part[:8], draft, work.settings)
        run.card = figures(result, evaluation)
        session.flush()
        handover.write_beside(session, version, work.settings)
        run.state, run.message, run.finished_at = "finished", result.message, utc_now()
        session.add(run)
        if version.gate_passed:
            jobs.enqueue(session, "light", "publish", f"publish:{version.id}", {"id": version.id})
        project = session.get_one(Project, run.project_id)
        journal.note(session, "run finished", f"run {run.id}", project=project, detail={"version": version.number})
    shutil.rmtree(folder.checkpoints, ignore_errors=True)


def _gather(folder: RunDir, work: Work) -> Path:
    """Bring a version's files together in a draft folder, so that the transaction only renames."""
    draft = work.settings.folder("versions") / f".run-{work.subject()}.part"
    shutil.rmtree(draft, ignore_errors=True)
    draft.mkdir()
    files = (folder.model_gguf, folder.adapter_gguf, folder.evaluation_file)
    run_folder.link([file for file in files if file.exists()], draft)
    return draft


def _version(
    session: Session, run: Run, evaluation: Evaluation, tag_part: str, draft: Path, settings: Settings
) -> ModelVersion:
    project = session.get_one(Project, run.project_id)
    highest = session.exec(select(func.max(ModelVersion.number)).where(ModelVersion.project_id == project.id)).one()
    number = (highest or 0) + 1
    folder = settings.folder("versions") / f"{project.slug}-v{number}"
    if folder.exists():  # renamed, but the transaction was lost
        shutil.rmtree(folder)
    draft.rename(folder)
    version = ModelVersion(
        project_id=run.project_id,
        number=number,
        run_id=run.id or 0,
        base_id=run.base_id,
        tag=f"{project.slug}:v{number}-{tag_part}",
        folder=str(folder),
        gate_passed=evaluation.passed,
        gate=[check.model_dump() for check in evaluation.checks],
    )
    session.add(version)
    session.flush()
    return version
