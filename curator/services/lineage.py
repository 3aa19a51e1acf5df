"""Where a model version came from, and how it came into service: for the pages that tell."""

from __future__ import annotations

from dataclasses import dataclass

from sqlmodel import Session, col, select

from curator.services import handover, jobs, loading
from db.models import ModelVersion, Project, Promotion, Run, Snapshot, User


@dataclass(frozen=True)
class Descent:
    """A version with its run and its dataset.

    `first` is the number of the version that the run became at once; others are of the same lesson. `publishing` tells
    that a worker is to load it, or is at it; `share` how much of its file has been sent. `size` is what retiring it
    frees here, in octets.
    """

    version: ModelVersion
    run: Run
    snapshot: Snapshot
    first: int
    publishing: bool
    share: float | None
    size: int


@dataclass(frozen=True)
class Change:
    """One line of the journal: what came into service, instead of what, by whom. None is the base, or nobody."""

    promotion: Promotion
    version: ModelVersion | None
    previous: ModelVersion | None
    user: User | None


def of_versions(session: Session, project: Project) -> list[Descent]:
    """List a project's versions with what they came from, newest first."""
    rows = session.exec(
        select(ModelVersion, Run, Snapshot)
        .join(Run, col(Run.id) == col(ModelVersion.run_id))
        .join(Snapshot, col(Snapshot.id) == col(Run.snapshot_id))
        .where(ModelVersion.project_id == project.id)
        .order_by(col(ModelVersion.number).desc())
    )
    firsts = numbers(session, project)
    return [_descent(session, *row, firsts[row[1].id or 0]) for row in rows]


def of_version(session: Session, version: ModelVersion) -> Descent:
    """Answer one version with what it came from."""
    run = session.get_one(Run, version.run_id)
    first = of_run(session, run) or version
    return _descent(session, version, run, session.get_one(Snapshot, run.snapshot_id), first.number)


def all_of_run(session: Session, run: Run) -> list[ModelVersion]:
    """List the versions of a run: what it became at once, then those of other number types."""
    query = select(ModelVersion).where(ModelVersion.run_id == run.id).order_by(col(ModelVersion.number))
    return list(session.exec(query))


def of_run(session: Session, run: Run) -> ModelVersion | None:
    """Answer the version a run became at once, None before that."""
    return next(iter(all_of_run(session, run)), None)


def numbers(session: Session, project: Project) -> dict[int, int]:
    """Answer which version number each run became at once, by run id."""
    newest_first = select(ModelVersion).where(ModelVersion.project_id == project.id)
    rows = session.exec(newest_first.order_by(col(ModelVersion.number).desc()))
    return {version.run_id: version.number for version in rows}


def run_numbers(session: Session, project: Project) -> dict[int, int]:
    """Answer which of its project's runs each one is, 1 for the first, by run id; ids count those of all projects."""
    ids = session.exec(select(Run.id).where(Run.project_id == project.id).order_by(col(Run.id)))
    return {id_: number for number, id_ in enumerate(ids, 1) if id_ is not None}


def run_before(session: Session, run: Run) -> Run | None:
    """Answer the finished run before this one, None for the first."""
    return session.exec(
        select(Run)
        .where(Run.project_id == run.project_id, Run.state == "finished", col(Run.id) < run.id)
        .order_by(col(Run.id).desc())
        .limit(1)
    ).first()


def growth(session: Session, run: Run) -> int | None:
    """Answer by how many answers a run's dataset outgrew that of the finished run before it; None for the first."""
    earlier = run_before(session, run)
    if earlier is None:
        return None
    mine, theirs = (session.get_one(Snapshot, one.snapshot_id) for one in (run, earlier))
    return _size(mine) - _size(theirs)


def before(session: Session, version: ModelVersion) -> ModelVersion | None:
    """Answer the version a newer one is measured against: the one in service if older, else the base (None)."""
    project = session.get_one(Project, version.project_id)
    serving = session.get(ModelVersion, project.service_version_id or 0)
    return serving if serving and serving.number < version.number else None


def changes(session: Session, project: Project) -> list[Change]:
    """List what was put into service, newest first."""
    query = select(Promotion).where(Promotion.project_id == project.id).order_by(col(Promotion.id).desc())
    return [
        Change(
            promotion,
            session.get(ModelVersion, promotion.version_id or 0),
            session.get(ModelVersion, promotion.previous_id or 0),
            session.get(User, promotion.user_id or 0),
        )
        for promotion in session.exec(query)
    ]


def way_back(session: Session, project: Project) -> Change | None:
    """Answer the change that going back would undo, None when the base is in service or nothing came before."""
    if project.service_version_id is None:
        return None
    found = (change for change in changes(session, project))
    return next((change for change in found if change.promotion.version_id == project.service_version_id), None)


def _size(snapshot: Snapshot) -> int:
    return snapshot.train + snapshot.val + snapshot.test


def _descent(session: Session, version: ModelVersion, run: Run, snapshot: Snapshot, first: int) -> Descent:
    job = jobs.live_job(session, f"publish:{version.id}") if version.state != "retired" else None
    publishing = version.state == "built" and job is not None
    return Descent(version, run, snapshot, first, publishing, loading.share(job), handover.size(version))
