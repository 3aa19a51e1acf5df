"""A finished run as a file of another number type: measure what each would keep, make a version of one.

What was learnt stays the same and nothing is taught again: a version of another type comes from the same run, through
the same making and the same examination, with a number and files of its own.
"""

from __future__ import annotations

import shutil
from collections.abc import Generator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from sqlmodel import Session

from curator.errors import Conflict, CuratorError, Invalid, NotFound
from curator.services import bases, building, handover, jobs, journal, lineage, run_folder, stages
from curator.services.run_card import card, figures
from curator.services.run_progress import lasted, latest_step
from curator.services.work import Work
from curator.settings import Settings
from curator.words import N_
from db.models import Base, ModelVersion, Project, Run, User
from db.session import open_session
from trainer.evaluation import OFFERED, NoOffer, Offer, share_kept
from trainer.recipe import MergedType
from trainer.rundir import RunDir
from trainer.spec import Stage

MAKING: tuple[Stage, ...] = ("convert", "evaluate")
KEPT = (  # from which share on it is said so
    (0.99, N_("the same, to within 1 %")),
    (0.95, N_("nearly all of what it learnt")),
    (0.85, N_("about nine tenths of what it learnt")),
    (0.775, N_("about four fifths of what it learnt")),
    (0.7, N_("about three quarters of what it learnt")),
    (0.58, N_("about two thirds of what it learnt")),
    (0.42, N_("about half of what it learnt")),
    (0.29, N_("about a third of what it learnt")),
    (0.15, N_("about a fifth of what it learnt")),
    (0.03, N_("little of what it learnt")),
)
NOTHING_KEPT = N_("nothing of what it learnt")


@dataclass(frozen=True)
class Row:
    """One number type. `share` is what it keeps of the lesson, 1 for all; `words` says that.

    `versions` are those of this type that are not retired; `making` tells that one is on its way.
    """

    offer: Offer
    share: float
    words: str
    versions: list[ModelVersion]
    making: bool


@dataclass(frozen=True)
class Choice:
    """The number types of a finished run, the largest file first; no rows before they are measured.

    `why` tells what keeps everything here from being done. Seconds are estimates, None where nothing is known.
    """

    rows: list[Row]
    left_out: list[NoOffer]
    measured: bool
    measuring: bool
    stopping: bool
    step: int
    steps: int
    measuring_seconds: float | None
    making_seconds: float | None
    why: CuratorError | None

    @property
    def live(self) -> bool:
        return self.measuring or any(row.making for row in self.rows)


def choice(session: Session, run: Run) -> Choice:
    """Answer what a finished run can be made of, and what is being done about it."""
    found, figures_ = RunDir(Path(run.folder)).types() if run.folder else None, card(run)
    alive, making = _alive(session, run), jobs.live_keys(session, "make")
    job = jobs.live_job(session, _measuring(run))
    told = latest_step(run, "types") if job else None
    rows = [
        Row(
            offer=offer,
            share=(share := share_kept(offer.loss, figures_.old_loss, figures_.new_loss)),
            words=in_words(share),
            versions=[one for one in alive if one.merged_type == offer.merged_type],
            making=_making(run, offer.merged_type) in making,
        )
        for offer in sorted(found.offers if found else [], key=lambda offer: -offer.size)
        if figures_
    ]
    each = figures_.rounded.seconds if figures_ and figures_.rounded else 0.0
    return Choice(
        rows=rows,
        left_out=found.left_out if found else [],
        measured=found is not None,
        measuring=job is not None,
        stopping=any(one and one.cancel_requested for one in (jobs.live_job(session, key) for key in _keys(run))),
        step=(told.step or 0) if told else 0,
        steps=(told.steps or 0) if told else 0,
        measuring_seconds=(told.eta_seconds if told else each * len(OFFERED)) or None,
        making_seconds=lasted(run, "evaluate"),
        why=_why_not(session, run),
    )


def in_words(share: float) -> str:
    """Say how much of a lesson is kept."""
    return next((words for least, words in KEPT if share >= least), NOTHING_KEPT)


def request_measuring(session: Session, run: Run, user: User | None) -> None:
    """Queue the measuring; raises a sentence when it cannot be done, or is done."""
    if problem := _why_not(session, run):
        raise problem
    if RunDir(Path(run.folder)).types():
        raise Conflict("The number types of this run are measured already.")
    _ask(session, run, "measure", _measuring(run), "number types asked for", user)


def request_version(session: Session, run: Run, merged_type: str, user: User | None, settings: Settings) -> None:
    """Queue the making of a version of a measured type; raises a sentence when there cannot be one, or is one."""
    if problem := _why_not(session, run):
        raise problem
    found = RunDir(Path(run.folder)).types()
    if found is None:
        raise Conflict("The number types of this run are not measured yet. Measure them first.")
    offer = next((offer for offer in found.offers if offer.merged_type == merged_type), None)
    if offer is None:
        offered = ", ".join(offer.merged_type for offer in found.offers)
        raise Invalid(
            "This run cannot become a file of type %(type)s. Choose one of these: %(offered)s.",
            type=merged_type,
            offered=offered,
        )
    if there := _of_type(session, run, merged_type):
        raise Conflict("Version %(number)d is of this type already.", number=there.number)
    run_folder.check_room(2 * offer.size, settings)
    _ask(session, run, "make", _making(run, offer.merged_type), f"{merged_type} asked for", user, type=merged_type)


def cancel(session: Session, run: Run) -> None:
    """Stop whatever is being done about a run's number types; what is finished stays."""
    if not [key for key in _keys(run) if jobs.request_cancel(session, key)]:
        raise Conflict("Nothing is being measured or made any more.")


def measure(work: Work) -> None:
    """Have the trainer measure the number types; what it found lies in the run's folder."""
    with open_session(work.engine) as session:
        run = session.get_one(Run, work.subject())
        problem, base = _why_not(session, run), session.get_one(Base, run.base_id)
    if problem:
        _tell(work, str(problem))
        return
    with _telling(work):
        folder = RunDir(Path(run.folder))
        run_folder.follow_base(folder, base)
        _done(work, "types", folder)


def make(work: Work) -> None:
    """Make a version of another number type: its file, its examination, then the version in one transaction."""
    kind: MergedType = work.job.payload["type"]
    with open_session(work.engine) as session:
        run = session.get_one(Run, work.subject())
        problem, base = _why_not(session, run), session.get_one(Base, run.base_id)
        there = _of_type(session, run, kind)
    if problem:
        _tell(work, str(problem))
        return
    if there:  # it was finished, and the worker killed before it could say so
        return
    with _telling(work):
        folder = run_folder.again(RunDir(Path(run.folder)), kind, base)
        if all(_done(work, stage, folder) for stage in MAKING):
            _conclude(work, folder, kind)


def _conclude(work: Work, folder: RunDir, kind: MergedType) -> None:
    """Make the version in one transaction; the folder it was made in has served its purpose then."""
    draft = building.gather(folder, work, adapter=False)
    if draft is None:
        _tell(work, "The trainer ended without all of its files. Start the run again.")
        return
    with work.saving() as session:
        run = session.get_one(Run, work.subject())
        version = building.build(session, run, draft, work.settings, kind)
        version.card = figures(draft.result, draft.evaluation)
        handover.write_beside(session, version, work.settings)
        project = session.get_one(Project, run.project_id)
        detail = {"version": version.number, "type": kind}
        journal.note(session, "version made", f"run {run.id}", project=project, detail=detail)
    shutil.rmtree(folder.path, ignore_errors=True)


def gave_up(session: Session, run_id: int, reason: str) -> None:
    """Keep why nothing came of it."""
    session.get_one(Run, run_id).trouble = reason


def _done(work: Work, stage: Stage, folder: RunDir) -> bool:
    """Do one stage; False when it failed, which is told, or when a person stopped it."""
    code = stages.attempt(work, stage, folder)
    if code is None and work.halt.reason == "cancelled":
        return False
    if code is None:
        raise jobs.Lost(work.job.key)  # leaving or lost: the queue holds what comes next
    if code:
        _tell(work, stages.why(folder, code)[1])
    return code == 0


@contextmanager
def _telling(work: Work) -> Generator[None]:
    """Keep a sentence for the page when a disk is full or cannot be written."""
    try:
        yield
    except OSError as error:
        _tell(work, f"The files cannot be written: {error.strerror}. Make room on the disk, then try again.")


def _tell(work: Work, sentence: str) -> None:
    with work.saving() as session:
        session.get_one(Run, work.subject()).trouble = sentence


def _ask(session: Session, run: Run, kind: str, key: str, action: str, user: User | None, **payload: str) -> None:
    jobs.enqueue(session, "train", kind, key, {"id": run.id, **payload})
    run.trouble = ""
    session.add(run)
    project = session.get_one(Project, run.project_id)
    journal.note(session, action, f"run {run.id}", project=project, user=user)


def _why_not(session: Session, run: Run) -> CuratorError | None:
    if run.state != "finished":
        return Conflict("This run has not finished. Wait until it has, or teach again.")
    folder = RunDir(Path(run.folder))
    if not (run.folder and folder.spec_file.exists() and folder.adapter.is_dir() and folder.adapter_gguf.exists()):
        return NotFound("The files of this run are gone, so nothing more can be made of it. Teach again.")
    try:
        bases.file_of(session.get_one(Base, run.base_id))
    except CuratorError as error:
        return error
    return None


def _alive(session: Session, run: Run) -> list[ModelVersion]:
    return [version for version in lineage.all_of_run(session, run) if version.state != "retired"]


def _of_type(session: Session, run: Run, merged_type: str) -> ModelVersion | None:
    return next((version for version in _alive(session, run) if version.merged_type == merged_type), None)


def _measuring(run: Run) -> str:
    return f"measure:{run.id}"


def _making(run: Run, merged_type: str) -> str:
    return f"make:{run.id}:{merged_type}"


def _keys(run: Run) -> list[str]:
    return [_measuring(run), *(_making(run, kind) for kind in OFFERED)]
