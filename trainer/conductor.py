"""Start a process for each graphics card, and answer for all of them.

`accelerate launch` starts and watches them; this adds what a run needs: an exit code that says how it ended, a sentence
when nobody was left to write one, and no process that outlives the rest.
"""

from __future__ import annotations

import os
import signal
import sys

from accelerate.commands.launch import launch_command, launch_command_parser
from torch.distributed.elastic.multiprocessing.api import SignalException
from torch.distributed.elastic.multiprocessing.errors import ChildFailedError

from trainer.failures import CANCELLED, FAILED, KILLED, Cancelled, Told
from trainer.progress import Journal
from trainer.rundir import RunDir
from trainer.team import LOST

SAVING_SECONDS = 50  # a little less than the worker's patience
HANDLED = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGQUIT)
LOOPBACK = {"GLOO_SOCKET_IFNAME": "lo", "NCCL_SOCKET_IFNAME": "lo"} if sys.platform == "linux" else {}
"""They talk to each other, and to nobody else."""


def conduct(run: RunDir, processes: int, journal: Journal) -> None:
    """Teach in several processes and wait; raises Told or Cancelled when they did not come to the end."""
    before, killed, asked = len(run.events()), False, False
    handlers = {number: signal.getsignal(number) for number in HANDLED}
    os.environ |= {"TORCH_ELASTIC_SHUTDOWN_TIMEOUT": str(SAVING_SECONDS)} | LOOPBACK
    line = ["--multi_gpu", "--num_processes", str(processes), "--num_machines", "1", "--main_process_port", "0"]
    plain = ["--mixed_precision", "no", "--dynamo_backend", "no", "--num_cpu_threads_per_process", "1"]
    try:
        launch_command(launch_command_parser().parse_args([*line, *plain, "-m", "trainer", "train", str(run.path)]))
    except ChildFailedError as error:
        killed = any(failure.exitcode == -signal.SIGKILL for failure in error.failures.values())
    except SignalException:
        asked = True
    finally:
        for number, handler in handlers.items():
            signal.signal(number, handler)
    if run.did("train"):
        return
    said = [event.kind for event in run.events()[before:] if event.kind in ("cancelled", "failed")]
    if asked and not said:
        raise Cancelled
    if not said:
        journal.failed("internal", LOST.format(size=processes))
    raise Told(CANCELLED if "cancelled" in said else KILLED if killed else FAILED)
