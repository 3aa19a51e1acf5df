"""A run folder's examples as tokens, and what was left out."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from trainer.data import Encoded, Encoder
from trainer.failures import TrainerFailure
from trainer.gguf_check import check
from trainer.loading import load_tokenizer
from trainer.rundir import RunDir
from trainer.spec import Split

SPLITS: tuple[Split, ...] = ("train", "val", "test")


@dataclass(frozen=True)
class EncodedRun:
    """All splits as tokens. Examples longer than the limit are in `too_long` and in no split."""

    encoder: Encoder
    splits: dict[Split, list[Encoded]]
    too_long: list[str]
    pad: int
    end: int

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
    encoder, limit = encoder_of(run), run.spec().max_length
    splits: dict[Split, list[Encoded]] = {}
    too_long: list[str] = []
    seen: set[str] = set()
    ends: set[int] = set()
    for split in SPLITS:
        splits[split] = []
        for example in run.examples(split):
            if example.id in seen:
                raise TrainerFailure("input", f"The example {example.id} is there twice. Freeze the dataset again.")
            seen.add(example.id)
            encoded = encoder.example(example)
            ends.add(encoded.ids[-1])
            if len(encoded.ids) > limit:
                too_long.append(example.id)
            else:
                splits[split].append(encoded)
    if not splits["train"]:
        raise TrainerFailure(
            "input",
            f"All {len(too_long)} examples are longer than {limit} tokens. Raise the longest length."
            if too_long
            else "There is no example to learn from. Approve some answers first.",
        )
    if len(ends) != 1:
        raise TrainerFailure("base", "The base's chat template ends answers in different ways. Choose another base.")
    pad = encoder.tokenizer.pad_token_id
    return EncodedRun(encoder, splits, too_long, pad if isinstance(pad, int) else ends.copy().pop(), ends.pop())
