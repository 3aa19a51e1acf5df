"""Carry out a run: plan, train, convert and evaluate, each in a child process, then make the model version.

Every step can be done again: the trainer skips what is finished in the run folder, and the version and the end of
the run are saved in one transaction.
"""

from __future__ import annotations

import shutil

from sqlmodel import Session

from curator.errors import CuratorError
from curator.services import bases, building, handover, jobs, journal, run_folder, stages
from curator.services.run_card import figures
from curator.services.work import Work
from db.models import Project, Run, utc_now
from db.session import open_session
from trainer.rundir import RunDir
from trainer.spec import FailureClass, Stage

STAGES: tuple[Stage, ...] = ("plan", "train", "convert", "evaluate")


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
    code = stages.attempt(work, stage, folder)
    if code in stages.KILLED and stage == "train" and folder.take_less_at_once():
        code = stages.attempt(work, stage, folder)
    if code is None and work.halt.reason == "cancelled":
        _end(work, "cancelled", "Stopped by a person. Nothing that is in service has changed.")
        return False
    if code is None:
        raise jobs.Lost(work.job.key)  # leaving or lost: the queue holds what comes next
    if code:
        failure, message = stages.why(folder, code)
        _end(work, "failed", message, failure)
        return False
    return True


def _end(work: Work, state: str, message: str, failure: FailureClass | None = None) -> None:
    with work.saving() as session:
        run = session.get_one(Run, work.subject())
        run.state, run.message, run.failure, run.finished_at = state, message, failure or "", utc_now()
        session.add(run)
        project = session.get_one(Project, run.project_id)
        journal.note(session, f"run {state}", f"run {run.id}", project=project, detail={"message": message})


def _conclude(work: Work, folder: RunDir) -> None:
    """Make the model version and end the run, in one transaction; publish it when it passed the gate."""
    draft = building.gather(folder, work, adapter=True)
    if draft is None:
        _end(work, "failed", "The trainer ended without all of its files. Start the run again.", "internal")
        return
    with work.saving() as session:
        run = session.get_one(Run, work.subject())
        version = building.build(session, run, draft, work.settings, folder.spec().merged_type)
        run.card = figures(draft.result, draft.evaluation)
        handover.write_beside(session, version, work.settings)
        run.state, run.message, run.finished_at = "finished", draft.result.message, utc_now()
        session.add(run)
        project = session.get_one(Project, run.project_id)
        journal.note(session, "run finished", f"run {run.id}", project=project, detail={"version": version.number})
    shutil.rmtree(folder.checkpoints, ignore_errors=True)
