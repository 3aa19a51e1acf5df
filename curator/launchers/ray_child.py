"""One Ray job and the thread that carries files to it and back.

The run folder keeps a note of its job, ray.json: a worker that comes after one that died goes on with it, and one that
was only asleep sees that it is not its own any more.
"""

from __future__ import annotations

import secrets
import threading
import time
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path

from curator.errors import Unavailable
from curator.launchers.mirror import Mirror, Torn
from curator.launchers.parcel import PIECE, REPORT, Contents, Lack, Report, order, order_name, piece_name
from curator.launchers.ray_api import Away, Cluster, Job
from trainer.recipe import Frozen
from trainer.rundir import RunDir, write_model
from trainer.spec import Stage

NOTE = "ray.json"
TURN_SECONDS = 0.5
FEED_SECONDS = 0.05
STOPPED = 143


class Note(Frozen):
    """What a run folder remembers of its job, so that a worker that comes later can go on with it, or end it."""

    job: str
    stage: Stage
    holder: str = ""
    stopping: bool = False


class Left(Exception):  # noqa: N818 - a turn of events, not a mistake
    """Nobody waits for this job any more, or another worker does."""


class RayChild:
    """A Ray job and the thread that carries files to it and back."""

    def __init__(self, cluster: Cluster, run: RunDir, note: Note, *, grace: float, patience: float) -> None:
        self.cluster = cluster
        self.run = run
        self.note = note.model_copy(update={"holder": secrets.token_hex(8)})
        self.grace = grace
        self.patience = patience
        self.contents = Contents()
        self.left = threading.Event()
        self._fed: Lack | None = None
        self._node = ""
        self._mirror = Mirror(run, self._read, self.contents)
        self._carrying: Future[int] = Future()

    def take(self) -> None:
        """Note that this worker is the one that carries."""
        write_model(self.run.path / NOTE, self.note)

    def offer(self) -> None:
        """Put the order where the job will look for it; said again while it waits for room, or Ray would forget it."""
        wanted = order(self.run, self.note.stage, self.contents)
        self.cluster.hold(order_name(self.note.job), wanted.model_dump_json().encode())

    def begun(self) -> RayChild:
        """Start to carry."""
        self.take()
        thread = ThreadPoolExecutor(1, thread_name_prefix=self.note.job)
        self._carrying = thread.submit(self._carry)
        thread.shutdown(wait=False)
        return self

    def poll(self) -> int | None:
        """Answer the exit code; raises Unavailable when the cluster lost the job or was away for too long."""
        return self._carrying.result() if self._carrying.done() else None

    def cancel(self) -> None:
        """End the job and bring back what it saved; one that is out of reach is left to the next start."""
        away = self._carrying.done() and isinstance(self._carrying.exception(), Unavailable)
        self.settle(stop=not away and not self._collected() and self._ours())

    def settle(self, *, stop: bool) -> None:
        """End the job if asked to, and wait at most the grace for what it saved to come back."""
        end = time.monotonic() + self.grace
        if stop:
            self.note = self.note.model_copy(update={"stopping": True})
            self.take()
            if not self._told_to_stop():
                self.left.set()
        elif not self._ours():
            self.left.set()
        while not self._carrying.done() and time.monotonic() < end:
            time.sleep(0.05)
        self.left.set()

    def _told_to_stop(self) -> bool:
        """Tell the job to stop; False when waiting for what it saves makes no sense."""
        try:
            self.cluster.stop(self.note.job)
            job = self.cluster.job(self.note.job)
        except Away:  # the note tells the next worker to end it
            return False
        return job is not None and (job.over or job.node is not None)  # one that waits for room ends when it begins

    def _collected(self) -> bool:
        """Tell whether the job ended and everything it made is here."""
        return self._carrying.done() and self._carrying.exception() is None

    def _ours(self) -> bool:
        """Tell whether no other worker has taken over, as one does from a worker that was asleep."""
        note = read_note(self.run)
        return note is not None and note.holder == self.note.holder

    def _carry(self) -> int:
        """Carry until the job is over and everything is here; answer the trainer's exit code."""
        heard = time.monotonic()
        while True:
            code = None
            try:
                code = self._turn()
                heard = time.monotonic()
            except (Away, Torn) as trouble:
                if time.monotonic() - heard > self.patience:
                    raise Unavailable(
                        "The Ray cluster at %(address)s has not answered for %(minutes).0f minutes. What came back is "
                        "safe: tried again, the run goes on with the job if it is there, else from its newest "
                        "checkpoint.",
                        address=self.cluster.address,
                        minutes=self.patience / 60,
                    ) from trouble
            if code is not None:
                (self.run.path / NOTE).unlink(missing_ok=True)
                return code
            self.left.wait(TURN_SECONDS if self._fed is None else FEED_SECONDS)

    def _turn(self) -> int | None:
        """Look once, bring what is asked for, take what is ready; answer the exit code when that was all."""
        if self.left.is_set() or not self._ours():
            raise Left
        job = self.cluster.job(self.note.job)
        if job is None:
            raise Unavailable(
                "The Ray cluster was restarted and knows the job no more. What came back is safe: tried again, the run "
                "goes on from its newest checkpoint."
            )
        if job.node is None and not job.over:
            self.offer()
            return None
        report = self._report(job)
        if report:
            self._feed(report.lacks)
            try:
                self._mirror.follow(report)
            except Torn:  # while the trainer works, what it replaces goes away; the next report tells
                if job.over:
                    raise
        return _exit_code(job, report) if job.over else None

    def _report(self, job: Job) -> Report | None:
        """Answer what the node said last; None when it has not begun, or broke off and cannot be asked any more."""
        if job.node is None:
            return None
        self._node = job.node
        try:
            text = b"".join(self._read(REPORT))
        except FileNotFoundError:
            return None
        except Away:
            if job.broke_off:
                return None
            raise
        if not text:
            raise Away("an empty answer where a report was")  # seen once, in place of "not found"
        return Report.model_validate_json(text)

    def _read(self, name: str) -> Iterator[bytes]:
        for piece in self.cluster.read(self._node, f"{self.note.job}/{name}"):
            if self.left.is_set():
                raise Left
            yield piece

    def _feed(self, lack: Lack | None) -> None:
        """Send the next piece of the file that the node waits for."""
        if lack and lack != self._fed:
            path = self._source(lack.sha256)
            with path.open("rb") as file:
                file.seek(lack.offset)
                self.cluster.hold(piece_name(self.note.job, lack), file.read(PIECE))
        self._fed = lack

    def _source(self, sha256: str) -> Path:
        wanted = order(self.run, self.note.stage, self.contents)
        if sha256 == wanted.base.sha256:
            return self.run.base_gguf()
        folder = self.run.base_folder() or self.run.path
        for where, files in ((self.run.path, wanted.files), (folder, wanted.folder)):
            for name, content in files.items():
                if content.sha256 == sha256:
                    return where / name
        raise Torn(sha256)


def read_note(run: RunDir) -> Note | None:
    """Answer what the folder remembers of a job."""
    file = run.path / NOTE
    try:
        return Note.model_validate_json(file.read_text(encoding="utf-8"))
    except (FileNotFoundError, ValueError):
        return None


def _exit_code(job: Job, report: Report | None) -> int:
    if report and report.exit is not None:
        return report.exit
    if job.status == "SUCCEEDED":
        raise Away("a job that is done, and no report of it")
    if job.status == "STOPPED":
        return STOPPED
    raise Unavailable(
        "The Ray job broke off before the trainer ended: %(reason)s. What came back is safe: tried again, the run goes "
        "on from its newest checkpoint.",
        reason=(job.message.strip() or "no reason was given").splitlines()[-1][:300].rstrip("."),
    )
