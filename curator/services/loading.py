"""How far a version is on its way into a runtime: told by the worker that loads it, read by the page that waits."""

from __future__ import annotations

import time
from dataclasses import dataclass, field

from curator.services import jobs
from curator.services.work import Work
from db.models import Job

TELL_SECONDS = 1.0


@dataclass
class Teller:
    """A runtime's progress, written down once a second; it raises Lost when the work is to end, in mid-upload too."""

    work: Work
    _told: float = field(default=0.0, init=False)
    _status: str = field(default="", init=False)

    def __call__(self, status: str, share: float | None) -> None:
        """Take what a runtime says."""
        if self.work.halt.asked:
            raise jobs.Lost(self.work.job.key)
        now = time.monotonic()
        if status == self._status and now - self._told < TELL_SECONDS:
            return
        self._told, self._status = now, status
        with self.work.saving() as session:
            job = session.get_one(Job, self.work.job.id)
            job.payload = {**job.payload, "status": status, "share": share}


def share(job: Job | None) -> float | None:
    """Answer how much of a version's file has been sent, between 0 and 1; None before and after that."""
    if job is None or job.payload.get("status") != "uploading":
        return None
    return job.payload.get("share")
