"""The admission test of a base: asked for here, done by a child process of the trainer, kept on the base."""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from importlib.util import find_spec
from pathlib import Path

from sqlmodel import Session

from curator.launchers.base import Launcher
from curator.services import jobs
from curator.services.work import Work
from curator.settings import Settings
from db.models import Base
from db.session import open_session
from trainer.bases.refusals import NO_RUNTIME, NOT_ANSWERED
from trainer.recipe import BaseRef
from trainer.rundir import RunDir, write_model
from trainer.spec import Admission

POLL_SECONDS = 0.1
NEEDED = ("torch", "transformers", "xllamacpp")


def request(session: Session, base: Base) -> None:
    """Queue the test; where its libraries are not installed, say so at once instead."""
    if all(find_spec(name) for name in NEEDED):
        jobs.enqueue(session, "light", "admit", _key(base), {"id": base.id})
    else:
        keep(session, base, Admission(state="not checked", sentence=NO_RUNTIME))


def forget(session: Session, base: Base) -> None:
    """Let a base count as not tested, because something about it has changed, and queue the test."""
    keep(session, base, Admission(state="not checked"))
    request(session, base)


def under_way(session: Session, bases: Sequence[Base]) -> set[int | None]:
    """Answer the ids of the bases that wait for the test or are in it."""
    live = jobs.live_keys(session, "admit")
    return {base.id for base in bases if _key(base) in live}


def admit(work: Work) -> None:
    """Test a base in a child process, and keep what was found."""
    with open_session(work.engine) as session:
        base = session.get_one(Base, work.subject())
    found = test(base, work.settings, work.launcher, work.halt)
    if found is None:
        if work.halt.reason == "cancelled":
            return
        raise jobs.Lost(work.job.key)
    with work.saving() as session:
        keep(session, session.get_one(Base, base.id), found)


def gave_up(session: Session, base_id: int, _reason: str) -> None:
    """Keep that a base could not be tested."""
    keep(session, session.get_one(Base, base_id), Admission(state="not checked", sentence=NOT_ANSWERED))


def test(base: Base, settings: Settings, launcher: Launcher, halt: jobs.Halt) -> Admission | None:
    """Test a base and answer what was found; None when asked to stop meanwhile."""
    folder = settings.folder("bases") / "checks" / str(base.id)
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    reference = BaseRef(name=base.name, gguf=base.path, sha256=base.sha256, folder=base.folder)
    write_model(folder / "base.json", reference)
    child = launcher.start("admit", RunDir(folder))
    try:
        while (code := child.poll()) is None and not halt.wait(POLL_SECONDS):
            pass
    finally:
        child.cancel()
    if code is None:
        return None
    return _read(folder / "admission.json") or Admission(state="not checked", sentence=NOT_ANSWERED)


def keep(session: Session, base: Base, found: Admission) -> None:
    """Keep on a base what its test found."""
    base.admission, base.admission_message, base.admission_detail = found.state, found.sentence, found.detail
    session.add(base)


def _read(file: Path) -> Admission | None:
    return Admission.model_validate_json(file.read_text(encoding="utf-8")) if file.exists() else None


def _key(base: Base) -> str:
    return f"admit:{base.id}"
