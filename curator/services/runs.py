"""Runs: is it time to teach, start, stop, follow. The work itself is in teach.py, in a worker."""

from __future__ import annotations

from dataclasses import dataclass

from sqlmodel import Session, col, select

from curator.errors import Conflict, CuratorError, Invalid, NotFound
from curator.services import bases, continuing, estimate, jobs, journal, lessons, recipe, run_folder, snapshots
from curator.services.run_card import RunCard, card, evaluation
from curator.services.run_folder import log_tail
from curator.services.run_progress import Progress, plan, progress, stage_ends
from curator.settings import Settings
from db.models import Base, Project, Run, Snapshot, User, utc_now
from trainer import command
from trainer.command import ByHand
from trainer.recipe import Flat, TrainSpec, flat

__all__ = [
    "Progress", "Readiness", "RunCard", "by_hand", "cancel", "card", "evaluation", "get", "job_key", "live",
    "log_tail", "plan", "preview", "progress", "readiness", "recent", "resume", "stage_ends", "start",
]  # fmt: skip

LIVE = ("queued", "running")
NO_FOLDER = "RUN_FOLDER"  # of a run that is not made yet


@dataclass(frozen=True)
class Readiness:
    """Whether it is time to teach. `why` holds the sentence when it is not, `minutes` the time by class of run."""

    approved: int
    since_last: int  # approved since the snapshot of the last finished run
    minimum: int
    minutes: dict[str, float]
    why: CuratorError | None
    live_run: Run | None

    @property
    def ready(self) -> bool:
        return self.why is None


def readiness(session: Session, project: Project, settings: Settings) -> Readiness:
    """Tell whether the project's model can be taught now, about how long it takes, and if not, why not."""
    approved = snapshots.approved_since(session, project, None)
    last = session.exec(
        select(Snapshot)
        .join(Run, col(Run.snapshot_id) == col(Snapshot.id))
        .where(Run.project_id == project.id, Run.state == "finished")
        .order_by(col(Run.id).desc())
        .limit(1)
    ).first()
    base = session.get(Base, project.base_id) if project.base_id else None
    running = live(session, project)
    return Readiness(
        approved=approved,
        since_last=snapshots.approved_since(session, project, last),
        minimum=settings.min_examples,
        minutes=_minutes(session, project, base, approved),
        why=_why_not(session, running, base, approved, settings),
        live_run=running,
    )


def start(
    session: Session, project: Project, snapshot: Snapshot, user: User | None, chosen: Flat, preset: str = ""
) -> Run:
    """Queue a run on a snapshot; run and job appear together or not at all.

    `chosen` are parameters for this run alone, on top of the project's recipe and of a class of run. Raises Conflict
    while another run of the project is under way, Invalid for a recipe that cannot be.
    """
    if live(session, project):
        raise _under_way()
    if snapshot.project_id != project.id:
        raise NotFound("This project has no such dataset.")
    base = bases.get(session, project.base_id)
    if refusal := bases.why_not(session, base):
        raise refusal
    spec = recipe.settled(project, base, snapshot.kind, going_on(session, project, chosen), preset)
    lessons.check(snapshot, spec.method)
    run = Run(
        project_id=project.id or 0,
        snapshot_id=snapshot.id or 0,
        base_id=base.id or 0,
        spec=recipe.kept(spec),
        created_by=user.id if user else None,
    )
    session.add(run)
    session.flush()
    job = jobs.enqueue(session, "train", "run", job_key(run), {"id": run.id})
    if job.payload["id"] != run.id:
        raise _under_way()
    journal.note(session, "run started", f"run {run.id}", project=project, user=user, detail={"dataset": snapshot.name})
    return run


def preview(session: Session, project: Project, snapshot_id: int | None, chosen: Flat, preset: str = "") -> ByHand:
    """Say how a run would be done by hand; without a dataset on one of today's approved answers. Nothing is kept."""
    snapshot = snapshots.get(session, project, snapshot_id) if snapshot_id else None
    kind = snapshot.kind if snapshot else "sft"
    base = bases.get(session, project.base_id)
    spec = recipe.settled(project, base, kind, going_on(session, project, chosen), preset)
    if snapshot:
        return _by_hand(spec, NO_FOLDER, snapshot)
    approved = snapshots.approved_since(session, project, None)
    return command.by_hand(spec, NO_FOLDER, snapshots.next_name(session, project), approved, approved)


def by_hand(session: Session, run: Run) -> ByHand:
    """Say how a run is done again without these pages."""
    spec = recipe.of(run, session.get_one(Base, run.base_id))
    snapshot = session.get_one(Snapshot, run.snapshot_id)
    return _by_hand(spec, run.folder or NO_FOLDER, snapshot)


def _by_hand(spec: TrainSpec, folder: str, snapshot: Snapshot) -> ByHand:
    (train, bad), (val, _) = (lessons.learnt(snapshot, spec.method, split) for split in ("train", "val"))
    return command.by_hand(spec, folder, snapshot.name, train, val, bad)


def cancel(session: Session, run: Run) -> Run:
    """Stop a run: at once when it waits, at its next safe point when it is at work."""
    job = jobs.live_job(session, job_key(run))
    if run.state not in LIVE or job is None or job.payload["id"] != run.id:
        raise Conflict("This run has ended already.")
    asked = jobs.request_cancel(session, job.key)
    if asked and asked.state == "cancelled":
        run.state, run.finished_at, run.message = "cancelled", utc_now(), "Stopped before it began."
        session.add(run)
    return run


def resume(session: Session, run: Run) -> Run:
    """Let a run that was stopped or failed go on from its newest checkpoint; finished stages are not repeated."""
    if run.state not in ("cancelled", "failed"):
        raise Conflict("Only a run that was stopped or failed can go on.")
    if jobs.live_job(session, job_key(run)):
        raise _under_way()
    jobs.enqueue(session, "train", "run", job_key(run), {"id": run.id})
    run.state, run.failure, run.message, run.finished_at = "queued", "", "", None
    session.add(run)
    return run


def job_key(run: Run) -> str:
    """Answer what a run's job is keyed by: the project, so that the table itself refuses a second live run."""
    return f"teach:{run.project_id}"


def get(session: Session, project: Project, run_id: int) -> Run:
    """Answer one run of a project, or raise NotFound."""
    run = session.get(Run, run_id)
    if run is None or run.project_id != project.id:
        raise NotFound("There is no such run.")
    return run


def recent(session: Session, project: Project) -> list[Run]:
    """List a project's runs, newest first."""
    return list(session.exec(select(Run).where(Run.project_id == project.id).order_by(col(Run.id).desc())))


def live(session: Session, project: Project) -> Run | None:
    """Answer the run that waits or is at work, if any."""
    return session.exec(select(Run).where(Run.project_id == project.id, col(Run.state).in_(LIVE))).first()


def _under_way() -> Conflict:
    return Conflict("The model is being taught already. Wait until that run ends, or stop it first.")


def _why_not(
    session: Session, running: Run | None, base: Base | None, approved: int, settings: Settings
) -> CuratorError | None:
    if running:
        return _under_way()
    if base is None:
        return NotFound("This project has no base model yet. Choose one in its settings.")
    if approved < settings.min_examples:
        return Invalid(
            "%(approved)d answers are approved; teaching needs %(minimum)d. Review %(more)d more.",
            approved=approved,
            minimum=settings.min_examples,
            more=settings.min_examples - approved,
        )
    if refusal := bases.why_not(session, base):
        return refusal
    try:
        bases.file_of(base)
        run_folder.check_disk(base, settings)
    except CuratorError as error:
        return error
    return None


def going_on(session: Session, project: Project, chosen: Flat) -> Flat:
    """Give a run that goes on from a version the shape of that version's adapter."""
    if not chosen.get("continues"):
        return chosen
    before = continuing.run_of(session, project, int(chosen["continues"]))
    return chosen | flat({"lora": before.spec["lora"]})


def _minutes(session: Session, project: Project, base: Base | None, examples: int) -> dict[str, float]:
    """Estimate each class of run on today's approved answers; the usual one has no name."""
    if base is None or not examples:
        return {}
    specs = {preset: recipe.settled(project, base, "sft", {}, preset) for preset in recipe.CLASSES}
    return {preset: estimate.minutes(session, base, spec, examples) for preset, spec in specs.items()}
