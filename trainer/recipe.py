"""What a run is asked. Every parameter is one documented field, and by that a form's label, a flag and a YAML key.

Imports no torch, so that the web app and `--help` can read it.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Annotated, Any, Literal

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, model_validator
from pydantic.fields import FieldInfo

Method = Literal["sft", "dpo", "kto"]
MergedType = Literal[
    "Q8_0", "F16", "BF16", "F32", "Q6_K", "Q5_K", "Q4_K", "Q5_1", "Q5_0", "Q4_1", "Q4_0",
    "same",  # the type each tensor has in the base
]  # fmt: skip
Precision = Literal["float32", "bfloat16"]
Flat = dict[str, Any]  # values by setting, not yet validated; those of the adapter are called lora.rank and so on

LINEAR_LAYERS = (
    "q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj",
    "qkv_proj", "gate_up_proj", "in_proj", "out_proj", "w1", "w2", "w3",
    "input_linear", "output_linear", "c_attn", "c_fc", "c_proj",
)  # fmt: skip
PREFERENCE_METHODS: tuple[Method, ...] = ("dpo", "kto")
PREFERENCE_USUAL: Flat = {"learning_rate": 5e-6, "epochs": 1.0}  # of dpo and kto, where they differ from sft
GIVEN = ("run", "base", "snapshot_sha256")  # said by whoever makes the run folder, not by a recipe
PRESETS: Mapping[str, Flat] = {
    "quick": {"epochs": 1.0, "max_steps": 60, "evals_per_epoch": 2, "lora.rank": 8},
    "thorough": {},
}
GROUPS: Mapping[str, tuple[str, ...]] = {
    "What is taught": (
        "method", "continues", "replay", "turns", "overlong", "max_length", "beta", "sft_weight", "good_weight",
        "bad_weight",
    ),
    "How long": ("epochs", "max_steps", "evals_per_epoch", "patience"),
    "How carefully": (
        "learning_rate", "warmup_ratio", "batch_size", "lora.rank", "lora.alpha", "lora.dropout",
        "lora.target_modules", "seed",
    ),
    "Memory": ("precision", "base_bits", "micro_tokens", "checkpointing", "threads", "processes", "sharding"),
    "The finished model": ("merged_type", "answer_tokens", "canaries"),
}  # fmt: skip
FOLLOWERS: Mapping[str, tuple[str, ...]] = {"lora.rank": ("lora.alpha",), "method": tuple(PREFERENCE_USUAL)}


class Frozen(BaseModel):
    """A value that is validated once and then never changes."""

    model_config = ConfigDict(extra="forbid", frozen=True)


def _listed(value: Any) -> Any:  # Any: whatever is to be validated
    """Read a list as people type it: with commas."""
    return [part.strip() for part in value.split(",") if part.strip()] if isinstance(value, str) else value


def _switch(value: Any) -> Any:  # as above
    """Read what YAML makes of a bare on or off."""
    return {True: "on", False: "off"}[value] if isinstance(value, bool) else value


class BaseRef(Frozen):
    """The base as one GGUF file, known by its content."""

    name: str
    gguf: str = Field(description="path of the GGUF file; relative paths start at the run folder")
    sha256: str = Field(pattern=r"^[0-9a-f]{64}$")
    folder: str = Field(default="", description="full-precision folder to teach from; empty: the GGUF's own weights")


class LoraSpec(Frozen):
    """Shape of the adapter."""

    rank: int = Field(16, ge=1, le=256, title="LoRA rank", description="Rank of the update matrices.")
    alpha: int = Field(
        32, ge=1, le=1024, title="LoRA scale", description="Scale of the update; the factor is alpha / rank."
    )
    dropout: float = Field(
        0.05, ge=0, lt=1, title="LoRA dropout", description="Share of adapter inputs dropped while training."
    )
    target_modules: Annotated[tuple[str, ...], BeforeValidator(_listed)] = Field(
        LINEAR_LAYERS, min_length=1, title="Layers that learn", description="Linear layers that get an adapter."
    )

    @model_validator(mode="before")
    @classmethod
    def _scale_follows(cls, values: Any) -> Any:  # Any: whatever is to be validated
        """A smaller adapter does not learn more timidly, unless its scale is said."""
        if isinstance(values, dict) and "alpha" not in values and str(values.get("rank")).isdecimal():
            return {**values, "alpha": 2 * int(str(values["rank"]))}
        return values


class TrainSpec(Frozen):
    """Everything a run needs to know besides its examples. Written as spec.json.

    Defaults: Thinking Machines, "LoRA Without Regret" (2025): all linear layers, a rate about ten times
    that of full fine-tuning, batches below 32.
    """

    run: str = Field(description="Name of the run, for people.")
    base: BaseRef
    snapshot_sha256: str = Field("", description="Content hash of the snapshot the examples came from.")
    method: Method = Field(
        "sft",
        title="Method",
        description="How the model is taught: sft by approved answers, dpo by pairs of a better and a worse one, "
        "kto by single answers that people found good or bad.",
    )
    continues: int | None = Field(
        None,
        ge=1,
        title="Go on from version",
        description="Number of the version whose adapter it goes on from; empty starts from the base.",
    )
    replay: float = Field(
        0.2,
        ge=0,
        le=1,
        title="Share of old answers to repeat",
        description="Share of the answers taught before that is mixed in when going on from a version.",
    )
    beta: float = Field(
        0.1,
        gt=0,
        le=10,
        title="Closeness to what it was",
        description="dpo and kto: how closely the model stays to what it was before.",
    )
    sft_weight: float = Field(
        1.0,
        ge=0,
        le=100,
        title="Weight of the better answer",
        description="dpo: weight of learning the better answer itself, so that it does not fade.",
    )
    good_weight: float = Field(
        1.0, gt=0, le=100, title="Weight of a good answer", description="kto: how much an answer counts that is good."
    )
    bad_weight: float | None = Field(
        None,
        gt=0,
        le=100,
        title="Weight of a bad answer",
        description="kto: how much an answer counts that is bad; empty: all of them as much as all good ones.",
    )
    epochs: float = Field(
        3.0, gt=0, le=50, title="Times it reads every answer", description="Passes over the training examples."
    )
    max_steps: int | None = Field(
        None, ge=1, title="Most steps", description="Stop after this many steps, if it has not read everything before."
    )
    learning_rate: float = Field(2e-4, gt=0, le=1e-1, title="Learning rate", description="Peak of the cosine schedule.")
    warmup_ratio: float = Field(
        0.1, ge=0, le=1, title="Share of steps to warm up", description="Share of the steps in which the rate rises."
    )
    batch_size: int = Field(8, ge=1, le=512, title="Answers per step", description="Examples per optimiser step.")
    max_length: int = Field(
        1024,
        ge=16,
        le=131072,
        title="Longest example, in tokens",
        description="Longest example in tokens; longer ones are listed, not cut.",
    )
    overlong: Literal["drop", "fewer_passages", "refuse"] = Field(
        "drop",
        title="Examples that are too long",
        description="What happens to longer ones: leave them out, take passages away that the answer does not cite, "
        "or refuse to begin.",
    )
    turns: Literal["last", "all"] = Field(
        "last",
        title="Answers that are taught",
        description="Which answers of a conversation are taught: the approved last one, or earlier ones as well.",
    )
    evals_per_epoch: int = Field(
        4, ge=1, le=100, title="Checks per reading", description="How often held-out loss is measured."
    )
    patience: int = Field(
        3,
        ge=1,
        le=100,
        title="Checks without progress before it stops",
        description="Evaluations without improvement before training stops early.",
    )
    seed: int = Field(17, ge=0, title="Seed", description="Seed of every random choice.")
    threads: int | None = Field(None, ge=1, title="Processor threads", description="CPU threads; all cores when empty.")
    processes: int | None = Field(
        None,
        ge=1,
        le=64,
        title="Graphics cards that teach together",
        description="Processes that share each step, one for each graphics card; all cards when empty.",
    )
    precision: Literal["auto", "float32", "bfloat16"] = Field(
        "auto",
        title="Precision of the numbers",
        description="Numbers that the base is held in while it is taught; auto takes the faster on this machine.",
    )
    base_bits: Literal[4, 16] = Field(
        16,
        title="Bits of the base's weights",
        description="4 holds the base in 4-bit numbers while it is taught (QLoRA), for a quarter of the memory; needs "
        "bitsandbytes, and a graphics card to be quick.",
    )
    sharding: Annotated[Literal["auto", "on", "off"], BeforeValidator(_switch)] = Field(
        "auto",
        title="Spread the base over the cards",
        description="Each graphics card holds a share of the base instead of all of it (FSDP), for a base that is too "
        "big for one card; auto does so when memory would not suffice.",
    )
    micro_tokens: int | None = Field(
        None,
        ge=64,
        title="Tokens at once",
        description="Tokens that go through the model at once; a step is put together from such parts.",
    )
    checkpointing: Annotated[Literal["auto", "on", "off"], BeforeValidator(_switch)] = Field(
        "auto",
        title="Save memory by computing twice",
        description="Compute activations twice to save memory; auto does so when memory would not suffice.",
    )
    lora: LoraSpec = Field(default_factory=lambda: LoraSpec.model_validate({}))
    merged_type: MergedType = Field(
        "Q8_0", title="Number type of the finished model", description="Type of the merged tensors that LoRA touched."
    )
    answer_tokens: int = Field(
        128,
        ge=8,
        le=4096,
        title="Longest answer in the exam, in tokens",
        description="Longest answer when questions are asked again.",
    )
    canaries: bool = Field(
        True, title="Ask general questions too", description="Ask general questions too, to see what was forgotten."
    )

    @property
    def every_turn(self) -> bool:
        """Tell whether earlier answers of a conversation are taught as well; what people prefer is a last one."""
        return self.method == "sft" and self.turns == "all"

    def kto_weights(self, good: int, bad: int) -> tuple[float, float]:
        """Answer how much one good and one bad answer count, where there are so many to learn from."""
        return self.good_weight, self.bad_weight or self.good_weight * good / bad

    def steps_per_epoch(self, examples: int) -> int:
        """Answer the optimiser steps of one pass."""
        return math.ceil(examples / self.batch_size)

    def steps(self, examples: int) -> int:
        """Answer the optimiser steps of a whole run that is not stopped early."""
        whole = math.ceil(self.epochs * self.steps_per_epoch(examples))
        return min(whole, self.max_steps or whole)

    def steps_between_checks(self, examples: int) -> int:
        """Answer after how many steps held-out loss is measured again."""
        return max(1, round(self.steps_per_epoch(examples) / self.evals_per_epoch))

    @model_validator(mode="before")
    @classmethod
    def _usual_of_its_method(cls, values: Any) -> Any:  # Any: whatever is to be validated
        """Preferences are learnt in smaller steps: at the rate of sft the model ends in loops (facts: LF#7734)."""
        if isinstance(values, dict) and values.get("method") in PREFERENCE_METHODS:
            return PREFERENCE_USUAL | values
        return values


@dataclass(frozen=True)
class Setting:
    """One parameter of a recipe: its name as flag and YAML key, its field, and the group it is shown in."""

    name: str
    field: FieldInfo
    group: str

    @property
    def label(self) -> str:
        return self.field.title or self.name

    @property
    def sentence(self) -> str:
        return self.field.description or ""

    @property
    def usual(self) -> Any:  # Any: a value of the field
        return self.field.get_default(call_default_factory=True)


def settings() -> list[Setting]:
    """List every parameter of a recipe, group by group."""
    found = {f"lora.{name}": field for name, field in LoraSpec.model_fields.items()} | TrainSpec.model_fields
    return [Setting(name, found[name], group) for group, names in GROUPS.items() for name in names]


def flat(values: Mapping[str, Any], prefix: str = "") -> Flat:
    """Answer nested values by setting, without those that no recipe says."""
    return {name: value for name, value in _leaves(values, prefix) if name.split(".")[0] not in GIVEN}


def nested(values: Flat) -> Flat:
    """Answer values by setting as TrainSpec nests them."""
    lora = {name.removeprefix("lora."): value for name, value in values.items() if name.startswith("lora.")}
    top = {name: value for name, value in values.items() if not name.startswith("lora.")}
    return top | ({"lora": lora} if lora else {})


def over(below: Flat, above: Flat) -> Flat:
    """Let values win over others; what was below because of a value that changes goes with it."""
    gone = {follower for name in above if above[name] != below.get(name) for follower in FOLLOWERS.get(name, ())}
    return {name: value for name, value in below.items() if name not in gone} | above


def with_preset(below: Flat, preset: str) -> Flat:
    """Put a class of run in the place of another one's values."""
    other = {name for values in PRESETS.values() for name in values} | {"lora.alpha"}
    if preset == "thorough":
        return {name: value for name, value in below.items() if name not in other}
    return over(below, PRESETS[preset])


def _leaves(values: Mapping[str, Any], prefix: str) -> Iterator[tuple[str, Any]]:
    for name, value in values.items():
        if isinstance(value, Mapping):
            yield from _leaves(value, f"{prefix}{name}.")
        else:
            yield prefix + name, value
