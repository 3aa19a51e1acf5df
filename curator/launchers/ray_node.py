"""Do one stage of a run on a node of a Ray cluster: python -m curator.launchers.ray_node JOB RUN

This is the entry point of the Ray job that launchers/ray.py submits. It makes a copy of the run folder on this node,
asking for the files it lacks, runs `python -m trainer` in it and reports. Whatever it reports can be read from outside
through the node's log folder, which the cluster's own address serves. docs/decisions/0011-ray-jobs.md says why.
"""

from __future__ import annotations

import fcntl
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import IO

from ray._raylet import GcsClient  # pyright: ignore[reportAttributeAccessIssue]  compiled, so its names are not known

from curator.launchers.environment import scrubbed_environment
from curator.launchers.parcel import (
    GROWING,
    REPORT,
    Content,
    Contents,
    Lack,
    Order,
    Report,
    finished,
    order_name,
    piece_name,
)  # fmt: skip
from trainer.rundir import RunDir, sha256_of, write_model, written_whole

LOOK_SECONDS = 0.05
REPORT_SECONDS = 0.3
PATIENCE_SECONDS = 900.0
KEPT_SECONDS = 7 * 24 * 3600.0
STOPPED = 143


class Stopped(Exception):  # noqa: N818 - a turn of events, not a mistake
    """Somebody asked for the end before the trainer was there to hear it."""


class Node:
    """One job at work on this node."""

    def __init__(self, job: str, run: RunDir, home: Path) -> None:
        self.job = job
        self.run = run
        self.home = home
        self.head = GcsClient(address=os.environ["RAY_ADDRESS"])
        self.contents = Contents()
        self.brought: dict[str, Path] = {}
        self.last: Report | None = None

    def report(self, code: int | None = None) -> None:
        """Say where the trainer stands, when that is news."""
        grown = {name: (self.run.path / name).stat().st_size for name in GROWING if (self.run.path / name).exists()}
        self._tell(Report(growing=grown, finished=finished(self.run, self.contents), exit=code))

    def stopped(self) -> None:
        """Say that the end came before the trainer began. A folder half prepared is no news of the run."""
        self._tell(Report(growing={}, finished={}, exit=STOPPED))

    def _tell(self, report: Report) -> None:
        if report != self.last:
            write_model(self.run.path / REPORT, report)
            self.last = report

    def prepare(self) -> Order:
        """Make the run folder equal to the one at Curator's side."""
        order = Order.model_validate_json(self._taken(order_name(self.job)))
        for path in sorted(self.run.path.rglob("*"), reverse=True):
            name = str(path.relative_to(self.run.path))
            if path.is_dir() and not any(path.iterdir()):
                path.rmdir()
            elif path.is_file() and name != REPORT and order.files.get(name) != self.contents.of(path):
                path.unlink()
        for name, content in order.files.items():
            self._bring(content, self.run.path / name)
        base = self.home / "bases" / f"{order.base.sha256}.gguf"
        self._bring(order.base, base)
        spec = self.run.spec()
        folder = base.with_suffix("")
        for name, content in order.folder.items():
            self._bring(content, folder / name)
        here = spec.base.model_copy(update={"gguf": str(base), "folder": str(folder) if order.folder else ""})
        write_model(self.run.spec_file, spec.model_copy(update={"base": here}))
        return order

    def _bring(self, content: Content, target: Path) -> None:
        """Ask for a file piece by piece, unless it is here; one that broke off goes on where it stopped."""
        twin = self.brought.setdefault(content.sha256, target)
        if target.exists():
            return
        target.parent.mkdir(parents=True, exist_ok=True)
        if twin != target:  # to ask for the same again would be no news, and nobody would answer
            with written_whole(target) as copy:
                shutil.copyfile(twin, copy)
            return
        draft = self.home / "incoming" / content.sha256
        with draft.open("ab") as file:
            fcntl.flock(file, fcntl.LOCK_EX)  # another run on this node may be waiting for the same base
            if target.exists():
                return
            while file.tell() < content.size:
                lack = Lack(sha256=content.sha256, offset=file.tell())
                self._tell(Report(lacks=lack, growing={}, finished={}))
                file.write(self._taken(piece_name(self.job, lack)))
        if sha256_of(draft) != content.sha256:
            draft.unlink()
            raise SystemExit(f"{target.name} did not arrive as it was sent. Start the run again.")
        draft.replace(target)

    def _taken(self, name: str) -> bytes:
        """Take something out of the head's store, waiting until Curator has put it there."""
        key, end = f"gcs://{name}".encode(), time.monotonic() + PATIENCE_SECONDS
        while (value := self.head.internal_kv_get(key, None)) is None:
            if time.monotonic() > end:
                raise SystemExit("Curator sent nothing for a quarter of an hour. Start the run again when it is back.")
            time.sleep(LOOK_SECONDS)
        self.head.internal_kv_del(key, False, None)
        return value

    def train(self, order: Order, lock: IO[str]) -> int:
        """Run the trainer and report until it ends. It holds the lock too, in case this program is killed."""
        signal.signal(signal.SIGTERM, _leave_it_to_the_trainer)
        with self.run.log_file.open("ab") as log:
            trainer = subprocess.Popen(  # noqa: S603  an argument list of ours, no shell
                [sys.executable, "-m", "trainer", order.stage, str(self.run.path)],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                env=scrubbed_environment(),
                pass_fds=[lock.fileno()],
            )
        while (code := trainer.poll()) is None:
            self.report()
            time.sleep(REPORT_SECONDS)
        self.report(code)
        return code


def main() -> int:
    """Do the stage that the order names, and answer the trainer's exit code."""
    signal.signal(signal.SIGTERM, _stop)
    job, run_key = sys.argv[1:]
    home = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "curator-ray"
    run = RunDir(home / "runs" / run_key)
    for folder in (run.path, home / "incoming", home / "bases"):
        folder.mkdir(parents=True, exist_ok=True, mode=0o700)
    forget_old(home / "runs")
    with alone(run) as lock:
        (run.path / REPORT).unlink(missing_ok=True)
        (_log_folder() / job).symlink_to(run.path)
        node = Node(job, run, home)
        try:
            code = node.train(node.prepare(), lock)
        except Stopped:
            node.stopped()
            return STOPPED
    return code if code >= 0 else 128 - code


def alone(run: RunDir) -> IO[str]:
    """Take the run folder for this job; one that was left at work in it, as after the head was lost, is ended."""
    lock = run.path.with_suffix(".lock").open("a+")
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        lock.seek(0)
        os.killpg(int(lock.read()), signal.SIGKILL)  # Ray gives each job a process group, named by this program's pid
        fcntl.flock(lock, fcntl.LOCK_EX)
    lock.truncate(0)
    lock.write(str(os.getpid()))
    lock.flush()
    return lock


def forget_old(runs: Path) -> None:
    """Remove run folders that nobody has used for a week; bases stay."""
    for folder in runs.iterdir():
        if folder.is_dir() and time.time() - folder.stat().st_mtime > KEPT_SECONDS:
            shutil.rmtree(folder)


def _log_folder() -> Path:
    """Answer the folder of this node's logs: where Ray sends what this program prints."""
    return Path("/proc/self/fd/1").readlink().parent


def _stop(_number: int, _frame: object) -> None:
    raise Stopped


def _leave_it_to_the_trainer(_number: int, _frame: object) -> None:
    """Do nothing: Ray tells every process of a job to stop, and told twice a trainer ends without saving."""


if __name__ == "__main__":
    sys.exit(main())
