"""Run folders for tests: a tiny untaught base and a handful of questions."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from tests.trainer.tiny import write_tiny_llama_gguf
from trainer.recipe import BaseRef, TrainSpec
from trainer.rundir import RunDir, sha256_of, write_lines, write_model
from trainer.spec import Example, Message, PinnedQuestion

QUESTIONS = (
    ("What is the return policy for this product?", "You can return it within thirty days of the delivery."),
    ("How do I reset the password of my account?", "Open the settings page and choose reset."),
    ("Where are the invoices?", "Invoices are sent by email at the end of each month."),
    ("Who do I contact?", "Please contact us when the order has not arrived."),
    ("Is there a receipt?", "Yes."),
    ("How many ways are there?", "There are two ways to do that: the first one and the other one."),
)


def example(number: int, answer: str | None = None) -> Example:
    """Answer one short question; each number gives another one."""
    question, known = QUESTIONS[number % len(QUESTIONS)]
    turns = [
        Message(role="user", content=f"{number}. {question}"),
        Message(role="assistant", content=answer or known),
    ]
    return Example(id=f"r{number}", group=f"g{number}", messages=turns)


def pin(number: int, *must: str) -> PinnedQuestion:
    return PinnedQuestion(
        id=f"p{number}", messages=example(number).messages[:1], answer=QUESTIONS[0][1], must_include=[list(must)]
    )


def make_run(
    folder: Path,
    *,
    train: int = 20,
    val: int = 4,
    test: int = 4,
    examples: Sequence[Example] = (),
    pins: Sequence[PinnedQuestion] = (),
    base: Path | None = None,
    **spec: Any,  # fields of TrainSpec, which validates them
) -> RunDir:
    """Write a run folder that learns in seconds."""
    folder.mkdir(parents=True, exist_ok=True)
    gguf = base or write_tiny_llama_gguf(folder / "base.gguf")
    run = RunDir(folder)
    defaults = {
        "epochs": 2.0,
        "batch_size": 4,
        "evals_per_epoch": 2,
        "max_length": 512,
        "threads": 1,
        "answer_tokens": 8,
        "canaries": False,
    }
    reference = BaseRef(name="Tiny", gguf=str(gguf) if base else gguf.name, sha256=sha256_of(gguf))
    write_model(run.spec_file, TrainSpec(run="try", base=reference, **{**defaults, **spec}))
    write_lines(run.split_file("train"), [*examples, *(example(n) for n in range(train))])
    write_lines(run.split_file("val"), [example(n) for n in range(1000, 1000 + val)])
    write_lines(run.split_file("test"), [example(n) for n in range(2000, 2000 + test)])
    write_lines(run.pins_file, pins)
    return run
