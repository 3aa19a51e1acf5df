"""Talk to runtimes on behalf of versions: publish, alias, remove. Worker only: no call happens in a transaction."""

from __future__ import annotations

import shutil
from contextlib import suppress
from pathlib import Path

from sqlmodel import Session, select

from curator.errors import CuratorError, Invalid, Unavailable
from curator.services import bases, building, forms, handover, jobs, lineage, loading, versions
from curator.services.work import Work
from db.models import Base, ModelVersion, Project, Run
from db.session import open_session
from trainer.gguf_check import BadGguf, check
from trainer.rundir import RunDir
from trainer.runtimes.base import ModelMissing, Progress, Publication, Runtime, RuntimeFailure, RuntimeUnavailable


def _quiet(_status: str, _share: float | None) -> None:
    return


def publish(work: Work) -> None:
    """Load a version into the runtime under its immutable tag, ask it something, then call it published.

    A runtime that does not answer raises Unavailable, and the job is tried again later; the version stays built.
    One that is published already, but that its runtime forgot, is loaded once more and keeps its state.
    """
    with open_session(work.engine) as session:
        version = session.get_one(ModelVersion, work.subject())
        if version.state == "retired":
            return
        base, publication = bases.get(session, version.base_id), handover.to_publish(session, version)
        run = handover.run_of(session, version)
        if Path(version.folder).is_dir():
            handover.write_beside(session, version, work.settings)
    runtime, told = versions.choose_runtime(work.settings), loading.Teller(work)
    try:
        _check_file(Path(version.folder) / "model.gguf")
        with suppress(ModelMissing):  # a llama-server that was started with one version has no other model
            ensure_base(runtime, base, told)
        tries = forms.wishes(publication, base, runtime, work.settings)
        loaded = forms.load(runtime, tries, run, told, last_try=work.job.attempt >= work.job.max_attempts)
    except (RuntimeFailure, CuratorError) as failure:
        _keep_why(work, version, failure)
        if isinstance(failure, RuntimeUnavailable):
            raise Unavailable(str(failure)) from failure
        raise
    with work.saving() as session:
        kept = versions.loaded(session, version, runtime.name, loaded.form, loaded.note)
    if not kept:  # it was retired meanwhile; what it was retired for is room
        _forget(runtime, version.tag)
    _look(work, runtime)


def ensure_base(runtime: Runtime, base: Base, progress: Progress = _quiet) -> str:
    """Make the untaught base answer in a runtime, and answer its tag; doing it twice changes nothing."""
    tag = versions.base_tag(base)
    try:
        runtime.show(tag)
    except ModelMissing:
        runtime.publish(Publication(tag=tag, base=bases.file_of(base)), progress)
    return tag


def make_alias(work: Work) -> None:
    """Let the project's `:current` name follow what is in service, and what is put there meanwhile."""
    while True:
        with open_session(work.engine) as session:
            project = session.get_one(Project, work.subject())
            base = bases.get(session, project.base_id)
            version = session.get(ModelVersion, project.service_version_id or 0)
        tag, runtime = versions.answering(base, version, work.settings)
        try:
            if version is None:
                ensure_base(runtime, base)
            runtime.copy(tag, versions.alias(project))
        except RuntimeFailure as failure:
            _keep_why(work, version, failure)
            if isinstance(failure, RuntimeUnavailable):
                raise Unavailable(str(failure)) from failure
            raise
        with work.saving() as session:
            if session.get_one(Project, project.id).service_version_id == project.service_version_id:
                if version is not None and work.job.attempt > 1:  # what kept an earlier try from it is over
                    session.get_one(ModelVersion, version.id).message = ""
                jobs.finish(session, work.job)  # here, so that whoever promotes from now on asks for a new job
                return


def remove(work: Work) -> None:
    """Free a retired version's files and its name in the runtime; its evaluation stays with the run."""
    with open_session(work.engine) as session:
        version = session.get_one(ModelVersion, work.subject())
        run = session.get_one(Run, version.run_id)
        first = lineage.of_run(session, run)
    if version.state != "retired":
        return
    if version.runtime:
        runtime = versions.runtime_named(version.runtime, work.settings)
        try:
            _forget(runtime, version.tag)
        except RuntimeUnavailable as failure:
            raise Unavailable(str(failure)) from failure
        _look(work, runtime)
    shutil.rmtree(version.folder, ignore_errors=True)
    if run.folder and first and first.id == version.id:
        RunDir(Path(run.folder)).model_gguf.unlink(missing_ok=True)


def repair(work: Work) -> None:
    """Queue what a crash may have left half done, or a runtime has forgotten, and sweep drafts."""
    with open_session(work.engine) as session:
        every = session.exec(select(ModelVersion).where(ModelVersion.runtime != "")).all()
    forgotten = [one for one in every if one.state in versions.USABLE and _served(one, work) is False]
    lingering = [one for one in every if one.state == "retired" and _served(one, work)]
    with work.saving() as session:
        for kind, found in (("publish", forgotten), ("remove", lingering)):
            for version in found:
                jobs.enqueue(session, "light", kind, f"{kind}:{version.id}", {"id": version.id})
        versions.repair(session, work.settings)
    for name in {version.runtime for version in every}:
        _look(work, versions.runtime_named(name, work.settings))
    with open_session(work.engine) as session:
        building.sweep(session, work.settings)


def _look(work: Work, runtime: Runtime) -> None:
    """Keep what a runtime tells of our versions: what dropping each frees there, and which it could not load again.

    Pages read it from the database; nothing else depends on it, so a runtime that is away now is looked at later.
    """
    with open_session(work.engine) as session:
        aliases = [versions.alias(project) for project in session.exec(select(Project))]
    try:
        freed = runtime.frees(aliases)
        number = runtime.version() if freed else ""
    except RuntimeFailure:
        return
    if not freed:  # it serves our own files, or nothing
        return
    with work.saving() as session:
        mine = select(ModelVersion).where(ModelVersion.runtime == runtime.name, ModelVersion.state != "retired")
        for version in session.exec(mine):
            version.frees = freed.get(version.tag, 0)
            version.message = forms.outdated(version.form, number) or version.message


def _served(version: ModelVersion, work: Work) -> bool | None:
    """Tell whether a version's runtime knows it; None when that does not answer."""
    try:
        versions.runtime_named(version.runtime, work.settings).show(version.tag)
    except ModelMissing:
        return False
    except RuntimeFailure:
        return None
    return True


def _keep_why(work: Work, version: ModelVersion | None, failure: Exception) -> None:
    """Keep why a version does not answer, for the page."""
    if version is not None:
        with work.saving() as session:
            session.get_one(ModelVersion, version.id).message = str(failure)


def _forget(runtime: Runtime, tag: str) -> None:
    with suppress(ModelMissing):
        runtime.remove(tag)


def request_repair(session: Session) -> None:
    """Queue the repair that every start begins with."""
    jobs.enqueue(session, "light", "repair", "repair", {"id": 0})


def gave_up(session: Session, version_id: int, reason: str) -> None:
    """Keep why a version could not be published."""
    version = session.get_one(ModelVersion, version_id)
    if version.state == "built":
        version.message = reason
        session.add(version)


def _check_file(path: Path) -> None:
    try:
        check(path, whole=True)
    except BadGguf as error:
        raise Invalid("%(problem)s", problem=str(error)) from error
