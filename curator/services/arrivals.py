"""Bases on their way in: from a file, from Ollama's store, from the hub, or the embedded one."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path

from sqlmodel import Session, col, select

from curator.errors import Conflict, CuratorError, Invalid, NotFound, Unavailable
from curator.services import admission, bases, jobs
from curator.services.work import Work
from curator.settings import Settings
from db.models import Arrival, Base, User, utc_now
from trainer.bases import BaseFile, embedded, hub, ollama_store
from trainer.failures import Cancelled, TrainerFailure

LIVE = ("waiting", "bringing")
SAVE_SECONDS = 1.0
SOURCES = ("file", "embedded", "ollama", "hub")
SLOW = ("embedded", "hub")  # these may take an hour, which the light queue must not

Progress = Callable[[int, int], None]
"""Called now and then with the bytes that have arrived and those there are."""


def request(session: Session, source: str, origin: str, file: str = "", user: User | None = None) -> Arrival:
    """Queue the bringing in of a base; the same one that is on its way already is answered instead."""
    if source not in SOURCES:
        raise Invalid("A base model comes from a file, from Ollama or from the model hub.")
    origin = understood(source, origin)
    same = select(Arrival).where(Arrival.source == source, Arrival.origin == origin, Arrival.file == file)
    live = session.exec(same.where(col(Arrival.state).in_(LIVE))).first()
    if live:
        return live
    arrival = Arrival(source=source, origin=origin, file=file, created_by=user.id if user else None)
    session.add(arrival)
    session.flush()
    queue = "train" if source in SLOW else "light"
    jobs.enqueue(session, queue, "arrive", _key(arrival), {"id": arrival.id})
    return arrival


def understood(source: str, origin: str) -> str:
    """Answer where a base is as its place writes it, from what a person typed; Invalid when it cannot be."""
    if source == "file" and not origin.strip():
        raise Invalid("Write the path of a GGUF file on this machine.")
    try:
        return hub.repository_named(origin) if source == "hub" else origin.strip()
    except TrainerFailure as failure:
        raise Invalid("%(problem)s", problem=str(failure)) from failure


def shown(session: Session) -> list[Arrival]:
    """List what is on its way or did not arrive, oldest first."""
    kept = col(Arrival.state).in_((*LIVE, "failed"))
    return list(session.exec(select(Arrival).where(kept).order_by(col(Arrival.id))))


def get(session: Session, arrival_id: int) -> Arrival:
    """Answer an arrival, or raise NotFound."""
    arrival = session.get(Arrival, arrival_id)
    if arrival is None:
        raise NotFound("There is no such base model on its way.")
    return arrival


def cancel(session: Session, arrival: Arrival) -> None:
    """Stop one that is on its way, or put away one that did not arrive. What was downloaded is kept for next time."""
    if arrival.state == "done":
        raise Conflict("This base model has arrived already.")
    job = jobs.request_cancel(session, _key(arrival))
    if job is None or job.state == "cancelled":
        arrival.state, arrival.finished_at = "cancelled", utc_now()
        session.add(arrival)


def again(session: Session, arrival: Arrival) -> Arrival:
    """Try once more what did not arrive."""
    if arrival.state != "failed":
        raise Conflict("Only what did not arrive can be tried again.")
    arrival.state = "cancelled"
    session.add(arrival)
    return request(session, arrival.source, arrival.origin, arrival.file)


def bring(work: Work) -> None:
    """Bring a base in, make it known, and queue its admission test."""
    with work.saving() as session:
        arrival = session.get_one(Arrival, work.subject())
        if arrival.state not in LIVE:
            return
        arrival.state = "bringing"
        session.add(arrival)
    saved = time.monotonic()

    def progress(received: int, size: int) -> None:
        nonlocal saved
        if time.monotonic() - saved >= SAVE_SECONDS:
            saved = time.monotonic()
            with work.saving() as session:
                current = session.get_one(Arrival, arrival.id)
                current.received, current.size = received, size
                session.add(current)

    try:
        file, licence = fetched(work.settings, arrival, progress, lambda: work.halt.asked)
    except Cancelled:
        if work.halt.reason != "cancelled":
            raise jobs.Lost(work.job.key) from None
        _end(work, "cancelled")
        return
    except CuratorError as error:
        if isinstance(error, Unavailable) and work.job.attempt < work.job.max_attempts:
            raise
        _end(work, "failed", str(error))
        return
    with work.saving() as session:
        base = make_known(session, arrival, file, licence)
        if base.admission != "passed":
            admission.request(session, base)
        current = session.get_one(Arrival, arrival.id)
        current.state, current.base_id, current.finished_at = "done", base.id, utc_now()
        session.add(current)


def fetched(settings: Settings, arrival: Arrival, progress: Progress, stop: Callable[[], bool]) -> tuple[BaseFile, str]:
    """Have the file of an arrival on this machine, and answer it with the licence that its place names.

    Raises a CuratorError with a sentence, Unavailable for what may work later, Cancelled when asked to stop.
    """
    try:
        path, licence = _placed(settings, arrival, progress, stop)
    except hub.HubUnavailable as failure:
        raise Unavailable("%(problem)s", problem=str(failure)) from failure
    except TrainerFailure as failure:
        raise Invalid("%(problem)s", problem=str(failure)) from failure
    return bases.described(path), licence


def make_known(session: Session, arrival: Arrival, file: BaseFile, licence: str = "") -> Base:
    """Register what has arrived under the name that its place gives it."""
    origin = "" if arrival.source == "file" else arrival.origin
    name = arrival.origin if arrival.source == "ollama" else ""
    known = bases.by_origin(origin)
    return bases.add(
        session, file, source=arrival.source, origin=origin, name=known.name if known else name, licence=licence
    )


def gave_up(session: Session, arrival_id: int, reason: str) -> None:
    """Keep why a base did not arrive."""
    arrival = session.get_one(Arrival, arrival_id)
    arrival.state, arrival.error, arrival.finished_at = "failed", reason, utc_now()
    session.add(arrival)


def _placed(settings: Settings, arrival: Arrival, progress: Progress, stop: Callable[[], bool]) -> tuple[Path, str]:
    if arrival.source == "ollama":
        model = ollama_store.find(arrival.origin)
        return model.path or Path(), ""  # one without a problem has a path
    if arrival.source == "embedded":
        return embedded.fetch_embedded(settings.home), ""
    if arrival.source == "hub":
        repository = hub.look(settings.hub_url, arrival.origin)
        file = hub.pick(repository, arrival.file)
        folder = settings.folder("bases")
        return hub.fetch(
            settings.hub_url, repository, file, folder, lambda have: progress(have, file.size), stop
        ), repository.licence
    return Path(arrival.origin), ""


def _end(work: Work, state: str, error: str = "") -> None:
    with work.saving() as session:
        arrival = session.get_one(Arrival, work.subject())
        arrival.state, arrival.error, arrival.finished_at = state, error, utc_now()
        session.add(arrival)


def _key(arrival: Arrival) -> str:
    return f"arrive:{arrival.id}"
