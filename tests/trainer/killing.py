"""Kill a trainer at one exact moment: when Python is about to open, rename, copy or remove a certain file.

An audit hook sees these moments from inside the child; nothing of the trainer is changed.
"""

from __future__ import annotations

import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

from trainer.rundir import RunDir

ROOT = Path(__file__).resolve().parents[2]
CHILD = """
import os, signal, sys
event, ending, left, folder = sys.argv[1], sys.argv[2], int(sys.argv[3]), sys.argv[4]

def look(name, arguments):
    global left
    if name == event and str(arguments[0]).endswith(ending) and not (name == "open" and arguments[1] in ("r", "rb")):
        left -= 1
        if left == 0:
            os.kill(os.getpid(), signal.SIGKILL)

sys.addaudithook(look)
from trainer.__main__ import main
sys.exit(main(["all", folder]))
"""


@dataclass(frozen=True)
class Moment:
    """The `time`-th audit event of this name whose first argument ends like this (docs.python.org, audit events)."""

    name: str
    event: str
    ending: str
    time: int = 1

    def __str__(self) -> str:
        return self.name

    def kill(self, run: RunDir) -> int:
        """Teach in a child until the moment comes, and answer how the child ended."""
        arguments = [self.event, self.ending, str(self.time), str(run.path)]
        child = subprocess.run(  # noqa: S603  our own words
            [sys.executable, "-c", CHILD, *arguments], cwd=ROOT, capture_output=True, check=False
        )
        return child.returncode


MOMENTS = (
    Moment("the plan is written", "open", ".plan.json.part"),
    Moment("a step is reported", "open", "events.jsonl", 9),
    Moment("a checkpoint has weights and no optimiser", "open", "checkpoint-6/adapter_config.json"),
    Moment("a checkpoint has an optimiser and no course", "open", "checkpoint-6/trainer_state.json"),
    Moment("a checkpoint is whole and not marked so", "open", "checkpoint-6/.COMPLETE.part"),
    Moment("its mark is written and has another name", "os.rename", "checkpoint-6/.COMPLETE.part"),
    Moment("an old checkpoint is half removed", "os.remove", "trainer_state.json"),
    Moment("the adapter is half copied", "shutil.copyfile", "adapter_model.safetensors"),
    Moment("the adapter gets its name", "os.rename", ".adapter.part"),
    Moment("the model is written", "open", ".model.gguf.part"),
    Moment("the model gets its name", "os.rename", ".model.gguf.part"),
    Moment("the evaluation is written", "open", ".evaluation.json.part"),
    Moment("the result is written", "open", ".result.json.part"),
)
