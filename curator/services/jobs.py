"""The queue: a table in the app's database.

A job is enqueued in the caller's transaction, so business row and job appear together or not at all. A claim is
one conditional UPDATE that raises `fence`; every later write names the fence, so a worker that was stopped, slept
or lost the network cannot write over its successor. `now` can be passed: all leases are then judged by one clock.
"""

from __future__ import annotations

import time
from collections.abc import Generator
from contextlib import contextmanager
from datetime import datetime, timedelta
from typing import Literal, NamedTuple

from sqlalchemy import Engine, Update, update
from sqlalchemy.exc import IntegrityError
from sqlmodel import Session, and_, col, or_, select

from db.models import Job, Json, Queue, utc_now
from db.session import open_session

LEASE = timedelta(seconds=60)
LIVE = ("queued", "running")
HaltReason = Literal["cancelled", "leaving", "lost"]


class Lost(Exception):  # noqa: N818  a turn of events, not a mistake
    """Another worker holds the job now; whatever this one was about to write must not be written."""


class Pulse(NamedTuple):
    """What a heartbeat found: whether the job is still ours, and whether a person asked to stop it."""

    ours: bool
    cancel: bool


class Halt:
    """Why running work should end early, if it should: set by the worker, looked at by the work.

    `cancelled`: a person asked. `leaving`: the worker is being stopped, the job goes back to the queue.
    `lost`: the fence moved on.
    """

    def __init__(self) -> None:
        self.reason: HaltReason | None = None

    @property
    def asked(self) -> bool:
        return self.reason is not None

    def set(self, reason: HaltReason) -> None:
        """Ask the work to end; the first reason stays, except that a lost job overrules.

        Takes no lock, because a signal handler calls it in the very thread that waits.
        """
        if self.reason is None or reason == "lost":
            self.reason = reason

    def wait(self, seconds: float) -> bool:
        """Wait so long, unless asked to end already; tell whether asked."""
        if not self.asked:
            time.sleep(seconds)
        return self.asked


def enqueue(session: Session, queue: Queue, kind: str, key: str, payload: Json | None = None) -> Job:
    """Queue a piece of work in the caller's transaction; a live job with the same key is answered instead."""
    live = live_job(session, key)
    if live:
        return live
    job = Job(queue=queue, kind=kind, key=key, payload=payload or {})
    try:
        with session.begin_nested():
            session.add(job)
    except IntegrityError:  # another transaction enqueued it between the look and the insert
        live = live_job(session, key)
        if live is None:
            raise
        return live
    return job


def live_job(session: Session, key: str) -> Job | None:
    """Find the queued or running job with this key."""
    return session.exec(select(Job).where(Job.key == key, col(Job.state).in_(LIVE))).first()


def live_keys(session: Session, kind: str) -> set[str]:
    """Answer the keys of all queued or running jobs of a kind."""
    return set(session.exec(select(Job.key).where(Job.kind == kind, col(Job.state).in_(LIVE))))


def claim(session: Session, queue: Queue, worker: str, now: datetime | None = None) -> Job | None:
    """Take the oldest job that is due, or whose worker fell silent, in one conditional UPDATE."""
    now = now or utc_now()
    due = and_(Job.state == "queued", col(Job.run_after) <= now)
    silent = and_(Job.state == "running", col(Job.lease_until) < now)
    candidate = (
        select(Job.id)
        .where(Job.queue == queue, or_(due, silent), col(Job.attempt) < col(Job.max_attempts))
        .order_by(col(Job.run_after), col(Job.id))
        .limit(1)
        .with_for_update(skip_locked=True)  # PostgreSQL only; SQLite's writers already queue up
        .scalar_subquery()
    )
    statement = (
        update(Job)
        .where(col(Job.id) == candidate)
        .values(
            state="running", worker=worker, attempt=Job.attempt + 1, fence=Job.fence + 1,
            lease_until=now + LEASE, started_at=now, error="",
        )
        .returning(Job)
    )  # fmt: skip
    return session.scalars(statement, execution_options={"populate_existing": True}).one_or_none()


def bury(session: Session, queue: Queue, now: datetime | None = None) -> list[Job]:
    """Fail the jobs whose worker fell silent for the last time they may be tried, and answer them."""
    now = now or utc_now()
    statement = (
        update(Job)
        .where(
            col(Job.queue) == queue,
            col(Job.state) == "running",
            col(Job.lease_until) < now,
            col(Job.attempt) >= col(Job.max_attempts),
        )
        .values(
            state="failed", fence=Job.fence + 1, finished_at=now,
            error="The work stopped without a word each time it was tried. The machine may be short of memory.",
        )
        .returning(Job)
    )  # fmt: skip
    return list(session.scalars(statement, execution_options={"populate_existing": True}))


def heartbeat(session: Session, job: Job, now: datetime | None = None) -> Pulse:
    """Renew the lease; tell whether the job is still ours and whether a person asked to stop it."""
    statement = _ours(job).values(lease_until=(now or utc_now()) + LEASE).returning(col(Job.cancel_requested))
    cancel = session.scalars(statement).one_or_none()
    return Pulse(cancel is not None, bool(cancel))


@contextmanager
def holding(engine: Engine, job: Job) -> Generator[Session]:
    """Run a block in one writing transaction that only the job's holder can commit; raise Lost otherwise."""
    with open_session(engine, write=True) as session:
        if not heartbeat(session, job).ours:
            raise Lost(job.key)
        yield session


def finish(session: Session, job: Job, now: datetime | None = None) -> bool:
    """Mark the job done; False when it is no longer ours."""
    return _end(session, job, "done", now)


def stop(session: Session, job: Job, now: datetime | None = None) -> bool:
    """Mark the job cancelled; False when it is no longer ours."""
    return _end(session, job, "cancelled", now)


def fail(
    session: Session, job: Job, error: str, *, retry_in: timedelta | None = None, now: datetime | None = None
) -> bool:
    """Mark the job failed, or put it back for later when `retry_in` is given and it may be tried again."""
    now = now or utc_now()
    if retry_in is None or job.attempt >= job.max_attempts:
        return _end(session, job, "failed", now, error=error)
    statement = _ours(job).values(state="queued", run_after=now + retry_in, lease_until=None, worker="", error=error)
    return _touched(session, statement)


def release(session: Session, job: Job, now: datetime | None = None) -> bool:
    """Put the job back at once, without using up an attempt; for a worker that is being stopped."""
    statement = _ours(job).values(
        state="queued", run_after=now or utc_now(), lease_until=None, worker="", attempt=Job.attempt - 1
    )
    return _touched(session, statement)


def request_cancel(session: Session, key: str, now: datetime | None = None) -> Job | None:
    """Cancel the live job with this key: at once when it waits, through its worker when it runs.

    Answers the job as it is now (state `cancelled`, or `running` with `cancel_requested`), None when there is none.
    """
    waiting = (
        update(Job)
        .where(col(Job.key) == key, col(Job.state) == "queued")
        .values(state="cancelled", finished_at=now or utc_now(), cancel_requested=True)
        .returning(Job)
    )
    running = (
        update(Job)
        .where(col(Job.key) == key, col(Job.state) == "running")
        .values(cancel_requested=True)
        .returning(Job)
    )  # fmt: skip
    options = {"populate_existing": True}
    found = session.scalars(waiting, execution_options=options).one_or_none()
    return found or session.scalars(running, execution_options=options).one_or_none()


def _ours(job: Job) -> Update:
    return (
        update(Job)
        .where(col(Job.id) == job.id, col(Job.fence) == job.fence, col(Job.state) == "running")
        .execution_options(synchronize_session=False)
    )


def _end(session: Session, job: Job, state: str, now: datetime | None, **values: str) -> bool:
    return _touched(session, _ours(job).values(state=state, finished_at=now or utc_now(), lease_until=None, **values))


def _touched(session: Session, statement: Update) -> bool:
    return session.exec(statement).rowcount == 1
