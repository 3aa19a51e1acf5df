"""Claim a job, do it, say how it ended; one worker per queue.

The handler runs in the main thread, because a trainer dies with the thread that started it. A second thread renews
the lease, and tells the handler when a person wants it to stop or another worker has taken over.
"""

from __future__ import annotations

import logging
import os
import signal
import threading
import time
import traceback
from collections.abc import Callable, Generator
from contextlib import contextmanager
from datetime import timedelta
from typing import NamedTuple

from sqlalchemy import Engine
from sqlalchemy.exc import DBAPIError
from sqlmodel import Session

from curator.errors import Unavailable
from curator.launchers.base import Launcher
from curator.launchers.table import open_launcher
from curator.services import admission, arrivals, folding, imports, jobs, number_types, prepare, publishing, teach
from curator.services.work import Work
from curator.settings import Settings
from db.models import Job, Queue, Source
from db.session import connect, open_session

log = logging.getLogger("curator.worker")

BEAT_SECONDS = 10.0
IDLE_SECONDS = 0.5
RETRY = timedelta(seconds=30)


class Kind(NamedTuple):
    """What does a kind of job, and what marks its subject when it failed for good."""

    handler: Callable[[Work], None]
    gave_up: Callable[[Session, int, str], None] | None = None


def _import(work: Work) -> None:
    source = imports.run_import(work.engine, work.subject(), stop=lambda: work.halt.asked)
    if source.state == "waiting" and work.halt.reason != "cancelled":
        raise jobs.Lost(work.job.key)
    with work.saving() as session:
        prepare.enqueue(session, source.project_id)


def _import_gave_up(session: Session, source_id: int, reason: str) -> None:
    source = session.get_one(Source, source_id)
    source.state, source.error = "failed", reason
    session.add(source)


KINDS: dict[str, Kind] = {
    "import": Kind(_import, _import_gave_up),
    "run": Kind(teach.teach, teach.gave_up),
    "measure": Kind(number_types.measure, number_types.gave_up),
    "make": Kind(number_types.make, number_types.gave_up),
    "publish": Kind(publishing.publish, publishing.gave_up),
    "alias": Kind(publishing.make_alias),
    "remove": Kind(publishing.remove),
    "repair": Kind(publishing.repair),
    "refold": Kind(folding.recount_opinions),
    "prepare": Kind(prepare.prepare),
    "arrive": Kind(arrivals.bring, arrivals.gave_up),
    "admit": Kind(admission.admit, admission.gave_up),
}


class Worker:
    """Takes jobs of one queue until told to leave. `kinds` and `launcher` are there for tests and other places."""

    def __init__(
        self,
        settings: Settings,
        queue: Queue,
        *,
        engine: Engine | None = None,
        launcher: Launcher | None = None,
        kinds: dict[str, Kind] = KINDS,
        beat: float = BEAT_SECONDS,
    ) -> None:
        self.settings = settings
        self.queue: Queue = queue
        self.engine = engine or connect(settings.url)
        self.launcher = launcher or open_launcher(settings)
        self.kinds = kinds
        self.beat = beat
        self.name = f"{queue}-{os.getpid()}"
        self._leaving = False  # plain, because a signal handler that takes a lock may wait for itself
        self._halt: jobs.Halt | None = None

    def run(self) -> None:
        """Work until leave() is called."""
        while not self._leaving:
            if not self.run_once():
                time.sleep(IDLE_SECONDS)

    def run_until_idle(self) -> int:
        """Do every job that is due, and answer how many there were."""
        done = 0
        while not self._leaving and self.run_once():
            done += 1
        return done

    def leave(self) -> None:
        """Stop after bringing the job at hand to a safe point; safe to call from a signal handler."""
        self._leaving = True
        if self._halt is not None:
            self._halt.set("leaving")

    def leave_on_signals(self) -> None:
        """Leave on SIGTERM and SIGINT."""
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, lambda _number, _frame: self.leave())

    def run_once(self) -> bool:
        """Do one job, if one is due; tell whether there was one."""
        with open_session(self.engine, write=True) as session:
            for dead in jobs.bury(session, self.queue):
                self._give_up(session, dead, dead.error)
            job = jobs.claim(session, self.queue, self.name)
        if job is None:
            return False
        halt = self._halt = jobs.Halt()
        if self._leaving:
            halt.set("leaving")
        with self._beating(job, halt):
            self._do(Work(self.engine, self.settings, job, self.launcher, halt))
        self._halt = None
        return True

    def _do(self, work: Work) -> None:
        job = work.job
        log.info("%s %s: begins, attempt %d", job.kind, job.key, job.attempt)
        try:
            self.kinds[job.kind].handler(work)
        except jobs.Lost:
            self._let_go(work)
        except Exception as error:  # the one place (house rule 11): whatever it is, the job must not stay running
            log.exception("%s %s failed", job.kind, job.key)
            self._fail(job, error)
        else:
            end = jobs.stop if work.halt.reason == "cancelled" else jobs.finish
            with open_session(self.engine, write=True) as session:
                end(session, job)
            log.info("%s %s: done", job.kind, job.key)

    def _let_go(self, work: Work) -> None:
        """The work ended early: back to the queue when we are leaving, otherwise it is somebody else's by now."""
        if work.halt.reason == "leaving":
            with open_session(self.engine, write=True) as session:
                jobs.release(session, work.job)
        log.info("%s %s: let go (%s)", work.job.kind, work.job.key, work.halt.reason or "lost")

    def _fail(self, job: Job, error: Exception) -> None:
        retry_in = RETRY * 2 ** (job.attempt - 1) if isinstance(error, Unavailable) else None
        with open_session(self.engine, write=True) as session:
            ours = jobs.fail(session, job, traceback.format_exc(), retry_in=retry_in)
            final = retry_in is None or job.attempt >= job.max_attempts
            if ours and final:
                self._give_up(session, job, str(error) or type(error).__name__)

    def _give_up(self, session: Session, job: Job, reason: str) -> None:
        kind = self.kinds.get(job.kind)
        if kind and kind.gave_up:
            kind.gave_up(session, int(job.payload["id"]), reason)

    @contextmanager
    def _beating(self, job: Job, halt: jobs.Halt) -> Generator[None]:
        over = threading.Event()

        def beat() -> None:
            while not over.wait(self.beat):
                try:
                    with open_session(self.engine, write=True) as session:
                        pulse = jobs.heartbeat(session, job)
                except DBAPIError:  # a busy or full database now may be fine at the next beat; the lease bears five
                    log.exception("no heartbeat for %s", job.key)
                    continue
                if not pulse.ours:
                    halt.set("lost")
                    return
                if pulse.cancel:
                    halt.set("cancelled")

        thread = threading.Thread(target=beat, name=f"beat-{job.key}", daemon=True)
        thread.start()
        try:
            yield
        finally:
            over.set()
            thread.join()
