"""What a launcher does: start one stage of a run somewhere, look after it, end it."""

from __future__ import annotations

from typing import Literal, Protocol

from trainer.rundir import RunDir
from trainer.spec import Stage

Command = Stage | Literal["admit"]  # the last one tests a base, in a folder that is no run's


class Child(Protocol):
    """One stage at work."""

    def poll(self) -> int | None:
        """Answer the exit code, or None while it runs; negative means ended by that signal."""
        ...

    def cancel(self) -> None:
        """End it and all it started, and wait: politely first, so that it saves, then by force."""
        ...


class Launcher(Protocol):
    """A place where training runs."""

    def start(self, stage: Command, run: RunDir) -> Child:
        """Start a stage; its output is appended to the run's log file."""
        ...
