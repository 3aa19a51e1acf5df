"""python -m trainer {plan,train,convert,evaluate,all} RUN_DIR [--config FILE.yaml] [--PARAMETER VALUE …]
python -m trainer types RUN_DIR, for what a finished run would keep in files of other number types
python -m trainer show RUN_DIR, for the command, the recipe as YAML, and LLaMA-Factory's
python -m trainer admit FOLDER, for a base

Each stage leaves its files in the run folder and is skipped when they are there. Ends with
0 when the stage is done, 1 when it failed (the sentence is in events.jsonl, the traceback on standard error),
2 when it was called wrongly, 137 when one of several processes was killed, 143 when it was asked to stop and saved a
checkpoint.

With several graphics cards `train` starts a process for each; `accelerate launch -m trainer train RUN_DIR` works too.
"""

from __future__ import annotations

import os
import signal
import sys
import traceback
from pathlib import Path
from typing import TYPE_CHECKING

from trainer.failures import CANCELLED, DONE, FAILED, MISUSED, Cancelled, Told, TrainerFailure, explain
from trainer.flags import STAGES, Misuse, prepare, read, wanted
from trainer.progress import Journal
from trainer.ranks import Rank, rank_of_this_process
from trainer.rundir import RunDir
from trainer.spec import Stage

if TYPE_CHECKING:
    from trainer.recipe import TrainSpec

QUIET = {"HF_HUB_OFFLINE": "1", "HF_HUB_DISABLE_TELEMETRY": "1", "TQDM_DISABLE": "1", "TOKENIZERS_PARALLELISM": "false"}
BRIEF = {"GOMP_SPINCOUNT": "1000"}  # threads that wait by spinning for long halve the speed of a machine in use


class StopRequest:
    """Becomes true at SIGTERM or Ctrl-C. A second one ends the process at once.

    One of several processes is `patient`: it may be told twice, by whoever started them and by Ray.
    """

    def __init__(self, *, patient: bool) -> None:
        self.asked = False
        self.patient = patient
        signal.signal(signal.SIGTERM, self._ask)
        signal.signal(signal.SIGINT, self._ask)

    def _ask(self, number: int, _frame: object) -> None:
        self.asked = True
        if not self.patient:
            signal.signal(number, signal.SIG_DFL)

    def __call__(self) -> bool:
        return self.asked


def main(arguments: list[str] | None = None) -> int:
    """Run one stage, or all, and answer the exit code."""
    try:
        asked = read(arguments)
        if asked.stage == "admit":
            return _admit(asked.run_dir.resolve())
        run, rank = RunDir(asked.run_dir.resolve()), rank_of_this_process()
        if asked.stage == "show":
            return _show(run, wanted(run, asked))
        if rank.leads:
            prepare(run, asked)
    except (Misuse, TrainerFailure) as error:
        print(error, file=sys.stderr)
        return MISUSED
    os.environ.update(QUIET | BRIEF)  # before any library looks: nothing reaches out, progress goes to events.jsonl
    stop = StopRequest(patient=rank.of > 1)
    stages = STAGES if asked.stage == "all" else (asked.stage,)
    for stage in stages:
        if not rank.leads and stage != "train":
            continue  # one of several does what only one can; the others wait for it where they meet
        code = _run(run, stage, stop, rank)
        if code:
            return code
    return DONE


def _admit(folder: Path) -> int:
    """Test a base; a base that fails the test is an answer, not a failure."""
    os.environ.update(QUIET | BRIEF)
    from trainer.admission import admit

    admit(folder)
    return DONE


def _show(run: RunDir, spec: TrainSpec) -> int:
    """Say how a run is done by hand; the folder stays as it is."""
    from trainer.command import by_hand
    from trainer.lessons import lessons

    train, val = ([*lessons(run, spec.method, split)] for split in ("train", "val"))
    bad = sum(not example.good for example in train)
    shown = by_hand(spec, str(run.path), "NAME", len(train), len(val), bad)
    print(
        f"{shown.command}\n\n# recipe.yaml, for --config\n{shown.recipe}\n# LLaMA-Factory\n{shown.llama_factory}",
        end="",
    )
    return DONE


def _run(run: RunDir, stage: Stage, stop: StopRequest, rank: Rank) -> int:
    journal = Journal(run, stage, silent=not rank.leads)
    try:
        if stop():
            raise Cancelled
        if not run.did(stage):
            _STAGES[stage](run, stop, rank)
    except Told as told:
        return told.code
    except Cancelled:
        journal.cancelled()
        print("Stopped as asked. Start the run again to go on from here.", file=sys.stderr)
        return CANCELLED
    except Exception as error:  # the edge of the program: everything becomes a sentence and an exit code
        failure, sentence = explain(error)
        traceback.print_exc()
        print(sentence, file=sys.stderr)
        _report(journal, failure, sentence)
        return FAILED
    return DONE


def _report(journal: Journal, failure: str, sentence: str) -> None:
    try:
        journal.write("failed", sentence, failure=failure)
    except OSError:  # on a full disk not even this line fits; the exit code and standard error remain
        traceback.print_exc()


def _plan(run: RunDir, _stop: StopRequest, _rank: Rank) -> None:
    from trainer.plan import plan

    _verify(run)
    plan(run)


def _train(run: RunDir, stop: StopRequest, rank: Rank) -> None:
    from trainer.conductor import conduct
    from trainer.encoded import encode
    from trainer.hardware import processes_for
    from trainer.loading import load_base
    from trainer.sft import train
    from trainer.shards import load_sharded, wants_shards
    from trainer.team import joined

    processes = processes_for(run.spec()) if rank.of == 1 else 1
    if processes > 1:
        conduct(run, processes, Journal(run, "train"))
        return
    with joined(rank, stop) as team:
        team.lead("verify", lambda: _verify(run))
        data = team.together("examples", lambda: encode(run))
        if team.together("sharding", lambda: wants_shards(run, rank)):
            base = load_sharded(run, team)
        else:
            base = team.together(
                "base", lambda: load_base(run.base_gguf(), run.precision(), run.base_folder(), run.spec().base_bits)
            )
        train(run, base, data, team)


def _convert(run: RunDir, _stop: StopRequest, _rank: Rank) -> None:
    from trainer.convert import convert

    _verify(run)
    convert(run)


def _evaluate(run: RunDir, stop: StopRequest, _rank: Rank) -> None:
    from trainer.evaluate import evaluate

    _verify(run)
    evaluate(run, stop)


def _types(run: RunDir, stop: StopRequest, _rank: Rank) -> None:
    from trainer.number_types import measure_types

    _verify(run)
    measure_types(run, stop)


def _verify(run: RunDir) -> None:
    """Refuse a base that is not the one the spec names."""
    from trainer.bases import digest
    from trainer.gguf_check import check

    path, spec = run.base_gguf(), run.spec()
    check(path, whole=True)
    if digest(path) != spec.base.sha256:
        raise TrainerFailure(
            "base",
            f"{path.name} is not the base this run was made for: its content has changed. "
            "Put the right file back, or start a new run with this one.",
        )


_STAGES = {"plan": _plan, "train": _train, "convert": _convert, "evaluate": _evaluate, "types": _types}

if __name__ == "__main__":
    sys.exit(main())
