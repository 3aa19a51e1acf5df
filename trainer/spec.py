"""The contract between curator and the trainer: what a run is asked, what it reports, what it ends with.

Imports no torch, so the web app can read and write these without loading a model.
"""

from __future__ import annotations

from datetime import datetime
from typing import Literal

from pydantic import BaseModel, ConfigDict, Field

Role = Literal["system", "user", "assistant"]
Split = Literal["train", "val", "test"]
Stage = Literal["plan", "train", "convert", "evaluate"]
MergedType = Literal["Q8_0", "F16", "F32", "same"]  # same: the type each tensor has in the base

LINEAR_LAYERS = ("q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj")


class Frozen(BaseModel):
    """A value that is validated once and then never changes."""

    model_config = ConfigDict(extra="forbid", frozen=True)


class Message(Frozen):
    """One turn of a conversation."""

    role: Role
    content: str


class Example(Frozen):
    """One line of train, val or test: a conversation whose last turn is the approved answer."""

    id: str
    group: str
    messages: list[Message] = Field(min_length=2)


class PinnedQuestion(Frozen):
    """One line of pins.jsonl: a past correction that every new version is asked again.

    An answer is right when each inner list of `must_include` has an alternative that occurs in it,
    and nothing of `must_not_include` does (case and white space do not count).
    """

    id: str
    messages: list[Message] = Field(min_length=1)
    answer: str
    must_include: list[list[str]] = Field(min_length=1)
    must_not_include: list[str] = []


class BaseRef(Frozen):
    """The base as one GGUF file, known by its content."""

    name: str
    gguf: str = Field(description="path of the GGUF file; relative paths start at the run folder")
    sha256: str = Field(pattern=r"^[0-9a-f]{64}$")
    folder: str = Field(default="", description="full-precision folder to teach from; empty: the GGUF's own weights")


class Admission(Frozen):
    """What the admission test of a base found. Written as admission.json."""

    state: Literal["passed", "failed", "not checked"]
    sentence: str = Field(default="", description="why it is not passed, for people")
    detail: str = Field(default="", description="what was measured, for engineers")


class LoraSpec(Frozen):
    """Shape of the adapter."""

    rank: int = Field(16, ge=1, le=256, description="Rank of the update matrices.")
    alpha: int = Field(32, ge=1, le=1024, description="Scale of the update; the factor is alpha / rank.")
    dropout: float = Field(0.05, ge=0, lt=1, description="Share of adapter inputs dropped while training.")
    target_modules: tuple[str, ...] = Field(LINEAR_LAYERS, description="Linear layers that get an adapter.")


class TrainSpec(Frozen):
    """Everything a run needs to know besides its examples. Written as spec.json.

    Defaults: Thinking Machines, "LoRA Without Regret" (2025): all linear layers, a rate about ten times
    that of full fine-tuning, batches below 32.
    """

    run: str = Field(description="Name of the run, for people.")
    base: BaseRef
    snapshot_sha256: str = Field("", description="Content hash of the snapshot the examples came from.")
    method: Literal["sft"] = Field("sft", description="How the model is taught.")
    epochs: float = Field(3.0, gt=0, le=50, description="Passes over the training examples.")
    max_steps: int | None = Field(None, ge=1, description="Stop after this many steps, whatever the epochs.")
    learning_rate: float = Field(2e-4, gt=0, le=1e-1, description="Peak of the cosine schedule.")
    warmup_ratio: float = Field(0.1, ge=0, le=1, description="Share of the steps in which the rate rises.")
    batch_size: int = Field(8, ge=1, le=512, description="Examples per optimiser step.")
    max_length: int = Field(
        1024, ge=16, le=131072, description="Longest example in tokens; longer ones are listed, not cut."
    )
    evals_per_epoch: int = Field(4, ge=1, le=100, description="How often held-out loss is measured.")
    patience: int = Field(3, ge=1, le=100, description="Evaluations without improvement before training stops early.")
    seed: int = Field(17, ge=0, description="Seed of every random choice.")
    threads: int | None = Field(None, ge=1, description="CPU threads; all cores when empty.")
    lora: LoraSpec = Field(default_factory=lambda: LoraSpec.model_validate({}))
    merged_type: MergedType = Field("Q8_0", description="Type of the merged tensors that LoRA touched.")
    answer_tokens: int = Field(128, ge=8, le=4096, description="Longest answer when questions are asked again.")


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


class Plan(Frozen):
    """What `plan` found out before any training. Written as plan.json."""

    examples: dict[Split, int]
    too_long: list[str] = Field(description="ids of examples longer than max_length; they are left out")
    answer_tokens: int
    total_tokens: int
    longest: int
    histogram: list[tuple[int, int]] = Field(description="(upper edge in tokens, examples) per bin")
    steps: int
    estimated_seconds: float
    end_of_turn: str = Field(description="the token that ends an answer; asserted to be trained")
    example: list[TokenSpan]


class Answered(Frozen):
    """One held-out question, asked to the base and to the new model.

    Losses are measured for every question; answers are written only for the first few, and are empty for the others.
    """

    id: str
    question: str
    approved: str
    old: str
    new: str
    old_loss: float | None = None
    new_loss: float | None = None
    outcome: Literal["better", "same", "worse"] | None = None


class PinResult(Frozen):
    """One pin, asked to the base and to the new model."""

    id: str
    question: str
    approved: str
    old: str
    new: str
    old_right: bool
    new_right: bool


class Check(Frozen):
    """One line of the gate."""

    name: Literal["held_out", "pins", "stops", "parity"]
    passed: bool
    detail: str


class Evaluation(Frozen):
    """Base against new. Written as evaluation.json. Losses are nats per answer token on the test split."""

    old_loss: float
    new_loss: float
    questions: list[Answered]
    pins: list[PinResult]
    better: int
    same: int
    worse: int
    old_pins: int
    new_pins: int
    stops: int
    stops_asked: int
    checks: list[Check]

    @property
    def passed(self) -> bool:
        """Tell whether every check of the gate passed."""
        return all(check.passed for check in self.checks)


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
