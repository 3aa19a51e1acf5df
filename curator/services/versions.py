"""Model versions: put into service, go back, retire, repair. Publishing itself is in publishing.py, in a worker."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from sqlmodel import Session, col, or_, select, update

from curator.errors import Conflict, Invalid, NotFound
from curator.services import jobs, journal
from curator.settings import Settings
from db.models import Base, ModelVersion, Project, Promotion, User, utc_now
from trainer.evaluation import Check
from trainer.runtimes.base import Runtime
from trainer.runtimes.table import Where, open_runtime

USABLE = ("published", "in service")


def choose_runtime(settings: Settings) -> Runtime:
    """Answer where new versions are published: Ollama or a llama-server where one is set, else the embedded runtime.

    A server that is away is waited for. A version that went elsewhere meanwhile could be put into service there,
    and whoever asks that server for `:current` would go on with the one before.
    """
    set_ones = (("ollama", settings.ollama_url), ("llama-server", settings.llama_server_url))
    return runtime_named(next((name for name, url in set_ones if url), "llamacpp"), settings)


def runtime_named(name: str, settings: Settings) -> Runtime:
    """Answer a runtime by name, with this installation's addresses."""
    url, token, folder = settings.ollama_url, settings.ollama_token, None
    if name == "llama-server":
        url, token, folder = settings.llama_server_url, settings.llama_server_token, settings.llama_server_models
    return open_runtime(name, Where(settings.home, url, token.get_secret_value(), folder))


def base_tag(base: Base) -> str:
    """Answer the name under which a base is published, untaught."""
    return f"base-{base.sha256[:8]}"


def alias(project: Project) -> str:
    """Answer the convenience name of whatever is in service; our pointer is the truth, this follows."""
    return f"{project.slug}:current"


def answering(base: Base, version: ModelVersion | None, settings: Settings) -> tuple[str, Runtime]:
    """Answer tag and runtime of a version, or of the base for None, which publishing.ensure_base makes loadable."""
    if version is None:
        return base_tag(base), choose_runtime(settings)
    if version.state not in USABLE:
        raise Conflict("Version %(number)d is not published.", number=version.number)
    return version.tag, runtime_named(version.runtime, settings)


def promote(
    session: Session, project: Project, version: ModelVersion | None, user: User | None, reason: str
) -> Promotion:
    """Put a version into service (None: the base), in one transaction.

    Refuses versions that are not published, and without a reason those that failed the gate.
    """
    if version is not None:
        _check_promotable(project, version, reason)
    new = version.id if version else None
    old = project.service_version_id
    if old == new:
        raise Conflict("That is in service already.")
    pointer = col(Project.service_version_id)
    flipped = session.exec(
        update(Project)
        .where(col(Project.id) == project.id, pointer == old if old is not None else pointer.is_(None))
        .values(service_version_id=new)
        .execution_options(synchronize_session=False)
    )
    if flipped.rowcount != 1:
        raise Conflict("Somebody else has just put another version into service. Look again before you decide.")
    session.refresh(project)
    if version and not _change(session, version.id, ("published",), "in service"):
        raise Conflict("Version %(number)d has just been retired.", number=version.number)
    if old is not None:
        _change(session, old, ("in service",), "published")
    promotion = Promotion(
        project_id=project.id or 0,
        version_id=new,
        previous_id=old,
        user_id=user.id if user else None,
        reason=reason.strip(),
    )
    session.add(promotion)
    jobs.enqueue(session, "light", "alias", f"alias:{project.id}", {"id": project.id})
    subject = f"v{version.number}" if version else "base"
    journal.note(session, "put into service", subject, project=project, user=user, detail={"reason": reason.strip()})
    session.flush()
    return promotion


def roll_back(session: Session, project: Project, user: User | None, reason: str) -> Promotion:
    """Undo the last change: put back what was in service before it. Doing it twice is where one began."""
    last = _promotion_in_force(session, project)
    if project.service_version_id is None or last is None:
        raise Conflict("The base is in service; there is nothing older to go back to.")
    earlier = session.get(ModelVersion, last.previous_id) if last.previous_id else None
    return promote(session, project, earlier, user, reason or "Went back to what was in service before.")


def loaded(session: Session, version: ModelVersion, runtime: str, form: str = "merged", note: str = "") -> bool:
    """Note that a runtime has a version now; one that was built becomes published. False when it was retired meanwhile.

    The runtime is kept even then, because that is where it has to be removed from. `note` is what people should know.
    """
    mine = update(ModelVersion).where(col(ModelVersion.id) == version.id)
    session.exec(mine.values(runtime=runtime, form=form))
    if session.exec(mine.where(col(ModelVersion.state) != "retired").values(message=note)).rowcount == 0:
        return False
    session.exec(mine.values(published_at=utc_now()))
    _change(session, version.id, ("built",), "published")
    project = session.get_one(Project, version.project_id)
    if project.service_version_id == version.id:
        jobs.enqueue(session, "light", "alias", f"alias:{project.id}", {"id": project.id})
    journal.note(session, "published", f"v{version.number}", project=project, detail={"tag": version.tag})
    return True


def servable(version: ModelVersion) -> bool:
    """Tell whether what would be served is what was taught; a version that is not may not be loaded for any reason."""
    return not any(Check.model_validate(check).forbids for check in version.gate)


def request_publish(session: Session, version: ModelVersion, user: User | None) -> None:
    """Queue a version's publishing: one that failed the gate but is wanted, got stuck, or whose runtime forgot it."""
    if version.state == "retired":
        raise Conflict("Version %(number)d is %(state)s already.", number=version.number, state=version.state)
    if not servable(version):
        raise Invalid(
            "Version %(number)d would be served otherwise than it was taught, so it is not loaded. Teach again.",
            number=version.number,
        )
    jobs.enqueue(session, "light", "publish", f"publish:{version.id}", {"id": version.id})
    project = session.get_one(Project, version.project_id)
    journal.note(session, "publish asked for", f"v{version.number}", project=project, user=user)


def retire(session: Session, version: ModelVersion, user: User | None) -> None:
    """Take a version out of use and free its files; never the one in service."""
    if not _change(session, version.id, ("built", "published"), "retired"):
        raise Conflict("Version %(number)d is in service or retired already.", number=version.number)
    session.refresh(version)
    jobs.enqueue(session, "light", "remove", f"remove:{version.id}", {"id": version.id})
    project = session.get_one(Project, version.project_id)
    journal.note(session, "retired", f"v{version.number}", project=project, user=user)


def outdated(session: Session, project: Project, keep: int) -> list[ModelVersion]:
    """List what could be retired: all but the newest `keep`, what is in service, and what one would go back to."""
    last = _promotion_in_force(session, project)
    needed = {project.service_version_id, last.previous_id if last else None}
    alive = [version for version in every(session, project) if version.state != "retired"]
    return [version for version in alive[keep:] if version.id not in needed and version.state != "in service"]


def prune(session: Session, project: Project, numbers: Sequence[int], user: User | None) -> None:
    """Retire several versions: those a person was shown, all of them or none."""
    for number in numbers:
        retire(session, get(session, project, number), user)


def repair(session: Session, settings: Settings) -> int:
    """Queue what a crash may have left half done; answer how many jobs.

    Aliases are made again, versions built but not published are published again, moved homes are followed.
    """
    queued = 0
    for version in session.exec(select(ModelVersion).where(ModelVersion.state != "retired")):
        moved = settings.home / "versions" / Path(version.folder).name
        if not Path(version.folder).is_dir() and moved.is_dir():
            version.folder = str(moved)
            session.add(version)
        if version.state == "built" and version.gate_passed:
            jobs.enqueue(session, "light", "publish", f"publish:{version.id}", {"id": version.id})
            queued += 1
    changed = select(Promotion.project_id)  # also to the base: the name may still stand for what was there before
    for project in session.exec(select(Project).where(col(Project.id).in_(changed))):
        jobs.enqueue(session, "light", "alias", f"alias:{project.id}", {"id": project.id})
        queued += 1
    return queued


def get(session: Session, project: Project, number: int) -> ModelVersion:
    """Answer version `number` of a project, or raise NotFound."""
    found = session.exec(
        select(ModelVersion).where(ModelVersion.project_id == project.id, ModelVersion.number == number)
    ).first()
    if found is None:
        raise NotFound("There is no version %(number)d.", number=number)
    return found


def every(session: Session, project: Project) -> list[ModelVersion]:
    """List a project's versions, newest first."""
    query = select(ModelVersion).where(ModelVersion.project_id == project.id)
    return list(session.exec(query.order_by(col(ModelVersion.number).desc())))


def adapters(session: Session) -> list[ModelVersion]:
    """List the versions of all projects that are adapters in their runtime, oldest first."""
    usable = select(ModelVersion).where(ModelVersion.form == "adapter", col(ModelVersion.state).in_(USABLE))
    return list(session.exec(usable.order_by(col(ModelVersion.id))))


def promotions(session: Session, project: Project) -> list[Promotion]:
    """List what was put into service, newest first."""
    query = select(Promotion).where(Promotion.project_id == project.id)
    return list(session.exec(query.order_by(col(Promotion.id).desc())))


def _promotion_in_force(session: Session, project: Project) -> Promotion | None:
    """Answer the promotion that put what is in service there."""
    return session.exec(
        select(Promotion)
        .where(Promotion.project_id == project.id, Promotion.version_id == project.service_version_id)
        .order_by(col(Promotion.id).desc())
        .limit(1)
    ).first()


def _check_promotable(project: Project, version: ModelVersion, reason: str) -> None:
    if version.project_id != project.id:
        raise NotFound("This project has no such version.")
    if version.state not in USABLE:
        raise Conflict(
            "Version %(number)d is not loaded in the runtime, so nobody could use it. Choose another version.",
            number=version.number,
        )
    if not version.gate_passed and not reason.strip():
        raise Invalid(
            "Version %(number)d did not pass its checks. Give the reason why it should be used all the same.",
            number=version.number,
        )


def _change(session: Session, version_id: int | None, before: tuple[str, ...], after: str) -> bool:
    """Move a version from one state to another in one conditional UPDATE; tell whether it was in the first."""
    result = session.exec(
        update(ModelVersion)
        .where(col(ModelVersion.id) == version_id, or_(*(col(ModelVersion.state) == state for state in before)))
        .values(state=after)
    )
    return result.rowcount == 1
