"""Stands in for `python -m trainer`: same folder, same signals, no model.

    python fake_trainer.py MODE STAGE RUN_DIR

good: does everything at once. poor: the same, but the gate fails. slow: `train` takes steps until the file `go`
appears, counts them in a checkpoint, and on SIGTERM saves and ends with 143. crash: `train` exits with code 3.
killed: `train` dies as by the out-of-memory killer; killed once: only until it takes less
at once. refuses: `train` says in an event what is wrong.
deaf: like slow, but does not hear SIGTERM.
"""

from __future__ import annotations

import os
import signal
import sys
import time
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from trainer.bases import refusals
from trainer.evaluation import (
    Answered,
    CanaryResult,
    Check,
    Evaluation,
    Measures,
    NoOffer,
    Offer,
    PinResult,
    Totals,
    Types,
)
from trainer.rundir import RunDir, now, sha256_of, write_model
from trainer.spec import Admission, Event, Plan, RunResult, TokenSpan

STEPS = 10
WAITING = ("slow", "deaf")


def main() -> None:
    mode, stage, folder = sys.argv[1], sys.argv[2], RunDir(Path(sys.argv[3]))
    print(f"{stage} begins", flush=True)
    if stage == "admit":
        admit(mode, folder.path)
    else:
        do(mode, stage, folder)


def do(mode: str, stage: Any, folder: RunDir) -> None:
    folder.append(Event(at=now(), kind="stage", stage=stage))
    {"plan": plan, "train": train, "convert": convert, "evaluate": evaluate, "types": types}[stage](folder, mode)


def admit(mode: str, folder: Path) -> None:
    if mode == "crash":
        sys.exit(3)
    if mode in WAITING:
        time.sleep(60)
    state: Any = "failed" if mode == "poor" else "passed"
    sentence = refusals.ROPE if mode == "poor" else ""
    write_model(folder / "admission.json", Admission(state=state, sentence=sentence, detail="3 of 3"))


def plan(folder: RunDir, _mode: str) -> None:
    sizes: dict[Any, int] = {split: len(folder.examples(split)) for split in ("train", "val", "test")}
    write_model(
        folder.plan_file,
        Plan(
            examples=sizes, too_long=["1", "2"], shortened=["3"], answer_tokens=100, total_tokens=200, longest=96,
            histogram=[(32, 10), (64, 17), (96, 3)], steps=STEPS, estimated_seconds=1, end_of_turn="<|im_end|>",
            tokens_per_second=270.0, memory=3 << 30, free_memory=12 << 30,
            example=[
                TokenSpan(text="<|im_start|>user\nAre dogs free?<|im_end|>\n<|im_start|>assistant\n", trained=False),
                TokenSpan(text="Yes, ", trained=True),
                TokenSpan(text="they are.<|im_end|>", trained=True),
            ],
        ),
    )  # fmt: skip


def train(folder: RunDir, mode: str) -> None:
    if mode == "crash":
        print("RuntimeError: the moon is made of cheese", file=sys.stderr, flush=True)
        sys.exit(3)
    if mode == "killed" or (mode == "killed once" and not folder.limits()):
        os.kill(os.getpid(), signal.SIGKILL)
    if mode == "refuses":
        words = "The loss ran away. Teach slower."
        folder.append(Event(at=now(), kind="failed", stage="train", message=words, failure="diverged"))
        sys.exit(1)
    stopping: list[int] = []
    if mode in WAITING:
        deaf = signal.SIG_IGN if mode == "deaf" else lambda number, _frame: stopping.append(number)
        signal.signal(signal.SIGTERM, deaf)
    folder.checkpoints.mkdir(exist_ok=True)
    saved = folder.checkpoints / "step"
    step = int(saved.read_text()) if saved.exists() else 0
    if step:
        folder.append(Event(at=now(), kind="warning", stage="train", message=f"goes on from step {step}"))
    while (mode in WAITING and not (folder.path / "go").exists()) or step < STEPS:
        if stopping:
            folder.append(Event(at=now(), kind="cancelled", stage="train", message="Stopped as asked."))
            sys.exit(143)
        step += 1
        draft = folder.checkpoints / "draft"
        draft.write_text(str(step))
        draft.replace(saved)
        folder.append(
            Event(
                at=now(), kind="step", stage="train", step=step, steps=max(step, STEPS), loss=2 / step,
                eta_seconds=1.5, tokens_per_second=100,
            )
        )  # fmt: skip
        if step % 5 == 0:
            folder.append(Event(at=now(), kind="eval", stage="train", step=step, eval_loss=1 + 1 / step))
        time.sleep(0.02 if mode in WAITING else 0)
    folder.adapter.mkdir(exist_ok=True)


def convert(folder: RunDir, _mode: str) -> None:
    from tests.trainer.tiny_lora import write_adapter  # here: the other stages do without numpy

    taught = bytearray(folder.base_gguf().read_bytes())
    number = int(folder.path.name) if folder.path.name.isdigit() else 0
    taught[-4] ^= 1 + number % 250  # the last bits of a weight: another model after each run
    folder.model_gguf.write_bytes(taught)
    if not folder.adapter_gguf.exists():  # as the real one; the file may be a version's as well
        write_adapter(folder.base_gguf(), folder.adapter_gguf, seed=number)


def types(folder: RunDir, mode: str) -> None:
    if mode == "refuses":
        words = "There is no adapter to measure yet. Train and convert first."
        folder.append(Event(at=now(), kind="failed", stage="types", message=words, failure="input"))
        sys.exit(1)
    while mode in WAITING and not (folder.path / "go").exists():
        folder.append(Event(at=now(), kind="step", stage="types", step=1, steps=4, eta_seconds=90))
        time.sleep(0.02)
    measured: list[tuple[Any, float, int]] = [
        ("F16", 1.0, 400),
        ("Q8_0", 1.002, 300),
        ("Q4_0", 1.2, 100),
        ("same", 1.9, 90),
    ]
    offers = [
        Offer(merged_type=kind, type="Q4_1" if kind == "same" else kind, loss=loss, size=size * 1_000_000, seconds=2)
        for kind, loss, size in measured
    ]
    why = "The rows of 3 of its 14 taught layers do not divide into blocks of this type."
    write_model(folder.types_file, Types(offers=offers, left_out=[NoOffer(merged_type="Q6_K", why=why)]))


def evaluate(folder: RunDir, mode: str) -> None:
    good = mode != "poor"
    test = folder.examples("test")
    answered = [
        Answered(
            id=one.id, question=one.messages[-2].content, approved=one.messages[-1].content,
            old="Sorry, I do not know.", new=one.messages[-1].content.replace("Answer", "Reply"),
            old_loss=2, new_loss=1, outcome="better",
            old_measures=Measures(overlap=10, refuses=True, characters=21, tokens=6, stops=False, language_kept=True),
            new_measures=Measures(overlap=60, characters=9, tokens=3, stops=good, language_kept=good),
        )
        for one in test
    ]  # fmt: skip
    asked = [
        PinResult(
            id=pin.id, question=pin.messages[-1].content, approved=pin.answer, old="?", new="!", old_right=False,
            new_right=good,
        )
        for pin in folder.pins()
    ]  # fmt: skip
    canaries = [
        CanaryResult(
            id=str(number), question=f"What is {number} plus 1?", accepted=[str(number + 1)], old=str(number + 1),
            new=str(number + 1) if good else "Dogs travel free.", old_right=True, new_right=good or number > 3,
        )
        for number in range(9)
    ]  # fmt: skip
    checks = [
        Check(name="held_out", passed=good, detail="2.00 before, 1.00 now"),
        Check(name="canaries", passed=good, warning=True, detail="4 of 9 were lost"),
    ]
    write_model(
        folder.evaluation_file,
        Evaluation(
            old_loss=2, new_loss=1, questions=answered, pins=asked, better=len(test), same=0, worse=0, old_pins=0,
            new_pins=len(asked) if good else 0, stops=4, stops_asked=4, checks=checks, canaries=canaries,
            old=_totals(len(test), overlap=10, refusals=len(test), characters=21),
            new=_totals(len(test), overlap=60 if good else 40, refusals=0, characters=9),
            approved=_totals(len(test), overlap=100, refusals=0, characters=10),
        ),
    )  # fmt: skip
    examples = len(folder.examples("train"))
    files = {"model.gguf": sha256_of(folder.model_gguf)}
    write_model(
        folder.result_file,
        RunResult(status="finished", examples=examples, steps=STEPS, train_seconds=150, files=files),
    )


def _totals(answers: int, **measured: Any) -> Totals:
    return Totals(answers=answers, tokens=5, stops=answers, language_kept=answers, language_told=answers, **measured)


if __name__ == "__main__":
    main()
