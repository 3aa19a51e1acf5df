"""Train on this machine, in a child process that owns its process group and dies with its worker."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path

from curator.launchers.base import Child, Command
from curator.launchers.environment import scrubbed_environment
from curator.launchers.tether import tethered
from trainer.rundir import RunDir

TRAINER = (sys.executable, "-m", "trainer")
GRACE_SECONDS = 60.0
OOM_SCORE = 500


class LocalLauncher:
    """Starts `python -m trainer STAGE RUN_DIR`; tests give another program."""

    def __init__(self, program: Sequence[str] = TRAINER, grace: float = GRACE_SECONDS) -> None:
        self.program = tuple(program)
        self.grace = grace

    def start(self, stage: Command, run: RunDir) -> Child:
        """Start a stage, after ending one that an earlier worker left at work in the same folder."""
        note = run.path / "child.json"
        end_leftover(note)
        with run.log_file.open("ab") as log:
            process = subprocess.Popen(  # noqa: S603  an argument list of ours, no shell
                tethered([*self.program, stage, str(run.path)], OOM_SCORE),
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                env=scrubbed_environment(),
                start_new_session=True,
            )
        note.write_text(json.dumps({"pid": process.pid, "started": start_time(process.pid)}))
        return LocalChild(process, self.grace)


class LocalChild:
    """A trainer process and its group."""

    def __init__(self, process: subprocess.Popen[bytes], grace: float) -> None:
        self.process = process
        self.grace = grace

    def poll(self) -> int | None:
        return self.process.poll()

    def cancel(self) -> None:
        if self.process.poll() is not None:
            return
        _signal_group(self.process.pid, signal.SIGTERM)
        end = time.monotonic() + self.grace
        while not self._ended() and time.monotonic() < end:
            time.sleep(0.02)
        _signal_group(self.process.pid, signal.SIGKILL)  # it, or whatever it started and left behind
        self.process.wait()

    def _ended(self) -> bool:
        """Tell whether it ended, without letting go of its pid: the group's name stays ours until then."""
        return os.waitid(os.P_PID, self.process.pid, os.WEXITED | os.WNOHANG | os.WNOWAIT) is not None


def start_time(pid: int) -> str:
    """Answer when a process began, in the kernel's clock; with the pid it names a process for good. "" if gone."""
    try:
        stat = Path(f"/proc/{pid}/stat").read_text()
    except OSError:
        return ""
    state, *rest = stat.rpartition(")")[2].split()
    return "" if state == "Z" else rest[18]  # field 22 of proc(5); field 3 is the state


def end_leftover(note: Path, patience: float = 5.0) -> None:
    """End the process that a note speaks of, if it still is that very process."""
    try:
        left = json.loads(note.read_text())
        pid, started = int(left["pid"]), str(left["started"])
    except (OSError, ValueError, KeyError, TypeError):
        return
    if not started or start_time(pid) != started:
        return
    _signal_group(pid, signal.SIGKILL)
    end = time.monotonic() + patience
    while start_time(pid) == started and time.monotonic() < end:
        time.sleep(0.02)


def _signal_group(pid: int, number: signal.Signals) -> None:
    try:
        os.killpg(pid, number)
    except (ProcessLookupError, PermissionError):
        return
