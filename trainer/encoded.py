"""A run folder's examples as tokens, and what was left out."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

from trainer.data import Encoded, Encoder
from trainer.failures import TrainerFailure
from trainer.gguf_check import check
from trainer.lessons import lessons, with_rejected
from trainer.loading import load_tokenizer
from trainer.recipe import TrainSpec
from trainer.rundir import RunDir
from trainer.spec import Example, Message, Split

SPLITS: tuple[Split, ...] = ("train", "val", "test")


@dataclass(frozen=True)
class EncodedRun:
    """All splits as tokens. Examples longer than the limit are in `too_long` and in no split.

    `shortened` names those that lost passages to fit. `rejected` holds the worse answer by id, in dpo runs; `bad`
    the ids of those examples that are bad answers, in kto runs.
    """

    encoder: Encoder
    splits: dict[Split, list[Encoded]]
    too_long: list[str]
    shortened: list[str]
    pad: int
    end: int
    rejected: dict[str, Encoded] = field(default_factory=dict[str, Encoded])
    bad: frozenset[str] = frozenset()

    def length(self, example: Encoded) -> int:
        """Answer how many tokens an example costs, with its worse answer."""
        other = self.rejected.get(example.id)
        return len(example.ids) + (len(other.ids) if other else 0)

    @property
    def train(self) -> list[Encoded]:
        return self.splits["train"]


def encoder_of(run: RunDir) -> Encoder:
    """Load the tokenizer of a run's base."""
    return encoder_for(run.base_gguf())


def encoder_for(path: Path) -> Encoder:
    """Load the tokenizer of a GGUF file and learn from it whether texts begin with a token of their own."""
    add_bos = bool(check(path, whole=True).values.get("tokenizer.ggml.add_bos_token", False))
    return Encoder(load_tokenizer(path), add_bos=add_bos)


def encode(run: RunDir) -> EncodedRun:
    """Encode every split, or raise TrainerFailure; asserts that each answer's end-of-turn token is trained."""
    encoder, spec = encoder_of(run), run.spec()
    splits: dict[Split, list[Encoded]] = {}
    too_long: list[str] = []
    shortened: list[str] = []
    rejected: dict[str, Encoded] = {}
    bad: set[str] = set()
    seen: set[str] = set()
    ends: set[int] = set()
    for split in SPLITS:
        splits[split] = []
        for example in lessons(run, spec.method, split):
            if example.id in seen:
                raise TrainerFailure("input", f"The example {example.id} is there twice. Freeze the dataset again.")
            seen.add(example.id)
            encoded = encoder.example(example, every_turn=spec.every_turn)
            ends.add(encoded.ids[-1])
            if len(encoded.ids) > spec.max_length and spec.overlong == "fewer_passages":
                fitting = _fitting(encoder, example, spec)
                if fitting:
                    example, encoded = fitting
                    shortened.append(example.id)
            if spec.method == "dpo" and split != "test":  # the exam asks for answers
                rejected[example.id] = encoder.example(with_rejected(example))
            if max(len(encoded.ids), len(rejected.get(example.id, encoded).ids)) > spec.max_length:
                too_long.append(example.id)
            else:
                splits[split].append(encoded)
                bad |= set() if example.good else {example.id}
    if too_long and spec.overlong == "refuse":
        raise TrainerFailure(
            "input",
            f"{len(too_long)} examples are longer than {spec.max_length} tokens: {', '.join(too_long[:20])}. "
            "Shorten them, raise the longest length, or let them be left out.",
        )
    if not splits["train"]:
        raise TrainerFailure(
            "input",
            f"All {len(too_long)} examples are longer than {spec.max_length} tokens. Raise the longest length."
            if too_long
            else "There is no example to learn from. Approve some answers first.",
        )
    if spec.method == "kto":
        _check_kinds(spec, len(splits["train"]), sum(example.id in bad for example in splits["train"]))
    if len(ends) != 1:
        raise TrainerFailure("base", "The base's chat template ends answers in different ways. Choose another base.")
    end = ends.pop()
    pad = encoder.tokenizer.pad_token_id if isinstance(encoder.tokenizer.pad_token_id, int) else end
    return EncodedRun(encoder, splits, too_long, shortened, pad, end, rejected, frozenset(bad))


def _check_kinds(spec: TrainSpec, all_: int, bad: int) -> None:
    """Say so when kto cannot learn from these examples, or not in steps of this size."""
    if not 0 < bad < all_:
        raise TrainerFailure(
            "input",
            f"There are {all_ - bad} good and {bad} bad answers to learn from, and kto needs both. "
            "Judge more of the missing kind, then freeze the preferences again.",
        )
    if spec.batch_size < 2:
        raise TrainerFailure(
            "input",
            "kto measures an answer against the others of its step, so a step needs 2 answers or more. "
            "Raise batch_size.",
        )


def _fitting(encoder: Encoder, example: Example, spec: TrainSpec) -> tuple[Example, Encoded] | None:
    """Take passages away, the last first, until an example fits; those that its answer cites as [n] stay."""
    answer, left = example.messages[-1].content, example
    for number in range(len(example.passages), 0, -1):
        if f"[{number}]" in answer:
            continue
        left = without_passage(left, example.passages[number - 1])
        encoded = encoder.example(left, every_turn=spec.every_turn)
        if len(encoded.ids) <= spec.max_length:
            return left, encoded
    return None


def without_passage(example: Example, passage: str) -> Example:
    """Answer an example whose last question has lost one of the passages above it."""
    at = max(i for i, message in enumerate(example.messages) if message.role == "user")
    text = example.messages[at].content.replace(passage + "\n\n", "", 1)
    messages = [*example.messages]
    messages[at] = Message(role="user", content=text)
    return example.model_copy(update={"messages": messages})
