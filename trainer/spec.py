"""The contract with curator: examples, what a run reports and what it ends with.

What it is asked is in recipe.py, and what it was measured to be in evaluation.py.

Imports no torch, so the web app can read and write these without loading a model.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from itertools import groupby
from typing import Literal

from pydantic import Field

from trainer.recipe import Frozen, Method, Precision

Role = Literal["system", "user", "assistant"]
Split = Literal["train", "val", "test"]
Stage = Literal["plan", "train", "convert", "evaluate", "types"]  # the last one is asked for, of a finished run

MATERIAL: Mapping[Method, str] = {"sft": "approved answers", "dpo": "pairs of answers", "kto": "judged answers"}


class Message(Frozen):
    """One turn of a conversation."""

    role: Role
    content: str


class Example(Frozen):
    """One line of train, val or test: a conversation whose last turn is the approved answer, or to kto a bad one."""

    id: str
    group: str
    messages: list[Message] = Field(min_length=2)
    rejected: str = Field("", description="the answer people did not prefer to the last turn; in preference runs only")
    good: bool = Field(
        default=True, description="whether people found the last turn good; what is bad is learnt by kto only"
    )
    passages: list[str] = Field(
        default_factory=list[str], description="blocks that stand above the last question, each as it is written there"
    )


class PinnedQuestion(Frozen):
    """One line of pins.jsonl: a past correction that every new version is asked again.

    An answer is right when each inner list of `must_include` has an alternative that occurs in it,
    and nothing of `must_not_include` does (case and white space do not count).
    """

    id: str
    messages: list[Message] = Field(min_length=1)
    answer: str
    must_include: list[list[str]] = Field(min_length=1)
    must_not_include: list[str] = Field(default_factory=list[str])


class Admission(Frozen):
    """What the admission test of a base found. Written as admission.json."""

    state: Literal["passed", "failed", "not checked"]
    sentence: str = Field(default="", description="why it is not passed, for people")
    detail: str = Field(default="", description="what was measured, for engineers")


EventKind = Literal["stage", "step", "eval", "checkpoint", "warning", "done", "cancelled", "failed"]
FailureClass = Literal["input", "disk", "memory", "diverged", "base", "runtime", "internal"]


class Event(Frozen):
    """One line of events.jsonl, in the order things happened."""

    at: datetime
    kind: EventKind
    stage: Stage
    message: str = ""
    failure: FailureClass | None = Field(None, description="set when kind is failed; message is then a full sentence")
    step: int | None = None
    steps: int | None = None
    epoch: float | None = None
    loss: float | None = Field(None, description="nats per answer token over the last step")
    eval_loss: float | None = Field(None, description="nats per answer token on the val split")
    learning_rate: float | None = None
    tokens_per_second: float | None = None
    eta_seconds: float | None = None


class TokenSpan(Frozen):
    """A piece of the one example that plan prints, and whether the loss counts it."""

    text: str
    trained: bool


class Limits(Frozen):
    """What a run learnt about memory the hard way. Written as limits.json after the machine ran out of it."""

    micro_tokens: int
    checkpointing: bool


class Plan(Frozen):
    """What `plan` found out before any training. Written as plan.json."""

    examples: dict[Split, int]
    too_long: list[str] = Field(description="ids of examples longer than max_length; they are left out")
    shortened: list[str] = Field(
        default_factory=list[str], description="ids of examples that lost passages to fit into max_length"
    )
    answer_tokens: int
    total_tokens: int
    longest: int
    histogram: list[tuple[int, int]] = Field(description="(upper edge in tokens, examples) per bin")
    steps: int
    estimated_seconds: float
    tokens_per_second: float = Field(0.0, description="measured on parts of a real batch")
    memory: int = Field(0, description="bytes that training needs at most, estimated")
    free_memory: int = 0
    checkpointing: bool = Field(False, description="whether activations are computed twice because memory is short")
    sharded: bool = Field(False, description="whether the base is spread over the cards because memory is short")
    precision: Precision = Field("float32", description="decided once, so that a resumed run goes on with the same")
    end_of_turn: str = Field(description="the token that ends an answer; asserted to be trained")
    example: list[TokenSpan]
    bad: int | None = Field(None, description="how many of the examples to learn from are bad answers; of kto runs")
    bad_example: list[TokenSpan] = Field(default_factory=list[TokenSpan], description="one that is bad, in kto runs")

    @property
    def painted(self) -> list[TokenSpan]:
        return painted(self.example)

    @property
    def painted_bad(self) -> list[TokenSpan]:
        return painted(self.bad_example)


def painted(example: list[TokenSpan]) -> list[TokenSpan]:
    """Answer an example in as few pieces as it has changes between what is taught and what is not."""
    pieces = groupby(example, lambda span: span.trained)
    return [TokenSpan(text="".join(span.text for span in spans), trained=trained) for trained, spans in pieces]


class RunResult(Frozen):
    """How a run ended. Written as result.json, last of all, so its existence means finished."""

    status: Literal["finished", "cancelled", "failed"]
    failure: FailureClass | None = None
    message: str = ""
    examples: int = 0
    steps: int = 0
    best_step: int | None = None
    best_val_loss: float | None = None
    train_seconds: float = 0.0
    tokens_per_second: float = 0.0
    files: dict[str, str] = Field(default_factory=dict, description="file name → sha256")
