"""A project that is ready to be taught, and workers that teach it with the stand-in trainer."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from sqlalchemy import Engine
from sqlmodel import Session, select

from curator.launchers.local import LocalLauncher
from curator.services import bases, pins, projects, runs, snapshots
from curator.settings import Settings
from curator.worker import Worker
from db.models import Job, ModelVersion, Project, Record, Run, Snapshot, Source, utc_now
from db.session import open_session
from tests.curator import fake_trainer
from tests.trainer.tiny import write_tiny_llama_gguf
from trainer.rundir import RunDir
from trainer.spec import Stage

FAKE_TRAINER = Path(__file__).with_name("fake_trainer.py")


def launcher(mode: str = "good", grace: float = 5.0) -> LocalLauncher:
    return LocalLauncher((sys.executable, str(FAKE_TRAINER), mode), grace)


class DoneChild:
    """A stage that was done before anybody looked."""

    def poll(self) -> int:
        return 0

    def cancel(self) -> None:
        return


class InProcess:
    """The stand-in trainer without child processes, for tests that are about what comes after it."""

    def __init__(self, mode: str = "good") -> None:
        self.mode = mode

    def start(self, stage: Stage, run: RunDir) -> DoneChild:
        fake_trainer.do(self.mode, stage, run)
        return DoneChild()


@dataclass
class Classroom:
    """One project with approved records, a tiny base, a pin, and everything needed to teach it."""

    engine: Engine
    settings: Settings
    project: Project
    snapshot: Snapshot

    def start(self, **overrides: Any) -> Run:
        with open_session(self.engine, write=True) as session:
            return runs.start(session, self.project, self.snapshot, None, overrides)

    def worker(self, mode: str = "good", queue: Any = "train", grace: float = 5.0, beat: float = 0.05) -> Worker:
        return Worker(self.settings, queue, engine=self.engine, launcher=launcher(mode, grace), beat=beat)

    def teach(self, mode: str = "good") -> ModelVersion:
        """Start a run and take it to its end, in this process."""
        self.start()
        Worker(self.settings, "train", engine=self.engine, launcher=InProcess(mode)).run_until_idle()
        return self.version()

    def run(self) -> Run:
        with open_session(self.engine) as session:
            return session.exec(select(Run).order_by(Run.id.desc())).first()  # pyright: ignore

    def job(self, kind: str = "run") -> Job:
        with open_session(self.engine) as session:
            return session.exec(select(Job).where(Job.kind == kind).order_by(Job.id.desc())).first()  # pyright: ignore

    def version(self) -> ModelVersion:
        with open_session(self.engine) as session:
            return session.exec(select(ModelVersion).order_by(ModelVersion.id.desc())).first()  # pyright: ignore

    def folder(self) -> Path:
        return self.settings.folder("runs") / str(self.run().id)


def classroom(engine: Engine, settings: Settings, tmp_path: Path, records: int = 40) -> Classroom:
    base_file = write_tiny_llama_gguf(tmp_path / "base.gguf")
    with open_session(engine, write=True) as session:
        project = projects.create(session, "Ferry line", slug="ferry")
        project.base_id = bases.register(session, base_file, name="tiny").id
        project.system_prompt = "Be brief."
        add_records(session, project, records)
        pins.add(session, project, "Are dogs free?", "Yes.", [["yes"]])
        snapshot = snapshots.freeze(session, project, "v1")
    return Classroom(engine, settings, project, snapshot)


def add_records(session: Session, project: Project, count: int) -> None:
    source = Source(project_id=project.id or 0, name="log", importer="test")
    session.add(source)
    session.flush()
    session.add_all(
        Record(
            project_id=project.id or 0, source_id=source.id or 0, digest=f"d{number}", group=f"g{number}",
            question=f"Question {number}?", answer=f"Answer {number}.", state="accepted", settled_at=utc_now(),
        )
        for number in range(count)
    )  # fmt: skip


def wait_until(true: Callable[[], Any], seconds: float = 15.0) -> None:
    """Look often until something is true."""
    end = time.monotonic() + seconds
    while not true():
        assert time.monotonic() < end, "waited in vain"
        time.sleep(0.02)
