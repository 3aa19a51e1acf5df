"""What a job's handler is given."""

from __future__ import annotations

from contextlib import AbstractContextManager
from dataclasses import dataclass

from sqlalchemy import Engine
from sqlmodel import Session

from curator.launchers.base import Launcher
from curator.services import jobs
from curator.settings import Settings
from db.models import Job


@dataclass(frozen=True)
class Work:
    """One claimed job and the means to do it. Handlers save in short transactions and stop when `halt` is set."""

    engine: Engine
    settings: Settings
    job: Job
    launcher: Launcher
    halt: jobs.Halt

    def saving(self) -> AbstractContextManager[Session]:
        """Open a writing transaction that commits only while the job is ours; raise Lost otherwise."""
        return jobs.holding(self.engine, self.job)

    def subject(self) -> int:
        """Answer the id of what the job works on."""
        return int(self.job.payload["id"])
