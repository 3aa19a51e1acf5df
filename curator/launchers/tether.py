"""Start a program that cannot outlive the process that asked for it.

    python -m curator.launchers.tether PARENT_PID OOM_SCORE PROGRAM ARGUMENT…

A small program instead of a preexec function: that would run between fork and exec of a process with threads,
where a lock may be held for ever. The wish to die with the parent survives exec (Linux prctl(2), PR_SET_PDEATHSIG).
Elsewhere than on Linux only the exec happens.
"""

from __future__ import annotations

import ctypes
import os
import signal
import sys
from collections.abc import Sequence
from pathlib import Path

if sys.platform == "linux":
    import resource

PR_SET_PDEATHSIG = 1
SCORE = Path("/proc/self/oom_score_adj")


def tethered(argv: Sequence[str], oom_score: int = 0) -> list[str]:
    """Answer the argument list that starts `argv` tied to this process.

    The kernel watches the thread that starts it, so that thread must live as long as the process.
    """
    return [sys.executable, "-m", "curator.launchers.tether", str(os.getpid()), str(oom_score), *argv]


def main() -> None:
    """Tie this process to its parent, then become the program."""
    parent, oom_score, argv = int(sys.argv[1]), sys.argv[2], sys.argv[3:]
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, int(signal.SIGKILL), 0, 0, 0)
        if oom_score != "0":  # raising needs no rights; the web app must outlive a training that eats all memory
            SCORE.write_text(oom_score)
        resource.setrlimit(resource.RLIMIT_CORE, (0, 0))  # a core file holds people's questions, and gigabytes
    if os.getppid() != parent:  # it died before the wish was heard
        sys.exit(1)
    os.execvp(argv[0], argv)  # noqa: S606  an argument list of ours, no shell


if __name__ == "__main__":
    main()
