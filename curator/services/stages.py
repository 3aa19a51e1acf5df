"""Do one stage of a run folder in a child process, and say why it failed."""

from __future__ import annotations

from curator.services.work import Work
from trainer.rundir import RunDir
from trainer.spec import FailureClass, Stage

POLL_SECONDS = 0.1
KILLED = (-9, 137)
ASKED_TO_STOP = (-15, 143)
OUTSIDE_SECONDS = 2.0  # a machine that shuts down stops trainer and worker in any order


def attempt(work: Work, stage: Stage, folder: RunDir) -> int | None:
    """Answer a stage's exit code, or None when it was ended because the work was called off."""
    child = work.launcher.start(stage, folder)
    try:
        while (code := child.poll()) is None and not work.halt.wait(POLL_SECONDS):
            pass
        if code in ASKED_TO_STOP and work.halt.wait(OUTSIDE_SECONDS):
            code = None
    finally:
        child.cancel()
    return code


def why(folder: RunDir, code: int) -> tuple[FailureClass, str]:
    """Say why a stage failed: the trainer's own words if it had time for them, else what the exit code tells."""
    for event in reversed(folder.events()):
        if event.kind == "stage":
            break
        if event.kind == "failed" and event.message:
            return event.failure or "internal", event.message
    if code in KILLED:
        return "memory", (
            "The machine ran out of memory while teaching. Close other programs, or teach with smaller batches "
            "(batch_size) or shorter examples (max_length). The model in service is unchanged."
        )
    return "internal", (
        f"The trainer stopped unexpectedly (exit code {code}). The model in service is unchanged. "
        "The last lines of its log say more."
    )
