"""Make a run fit into memory: what it needs, and what is given up for it, the cheapest first."""

from __future__ import annotations

from dataclasses import dataclass

from transformers import PreTrainedModel

from trainer.hardware import Hardware
from trainer.recipe import TrainSpec
from trainer.shards import bytes_held

KEPT_PER_TOKEN = 20  # times the hidden size: numbers kept of one token in one layer, with what the allocator wastes
PROGRAM = 600 << 20  # Python, torch and its libraries
SCORES = 512 * 3 * 4  # bytes per word of the vocabulary: a piece of scores, its gradient and one copy
CHOICES = {"off": (False,), "auto": (False, True), "on": (True,)}


@dataclass(frozen=True)
class Way:
    """A way to teach, and the bytes it needs: of a card, or of the computer where its processor teaches."""

    checkpointing: bool
    sharded: bool
    memory: int


def fit(model: PreTrainedModel, spec: TrainSpec, tokens: int, processes: int, hardware: Hardware) -> Way:
    """Answer the quickest way that the recipe allows and memory suffices for, else the most sparing one.

    Computing activations twice costs a third of the time. What a spread base costs depends on how fast the cards talk.
    """
    on_one = processes if hardware.device == "cpu" else 1  # a card is one process's, a processor all of theirs
    spreads = CHOICES[spec.sharding] if processes > 1 and spec.base_bits == 16 else (False,)
    ways = [
        Way(twice, spread, on_one * memory_needed(model, tokens, twice, processes if spread else 1))
        for spread in spreads
        for twice in CHOICES[spec.checkpointing]
    ]
    return next((way for way in ways if way.memory <= hardware.free_memory), ways[-1])


def memory_needed(model: PreTrainedModel, tokens: int, checkpointing: bool, processes: int = 1) -> int:
    """Estimate the bytes of training with `tokens` at once: weights, activations, a piece of scores and the program.

    With checkpointing one number per layer stays, and one layer's activations at a time. `processes` is over how many
    the base is spread.
    """
    config = model.config.get_text_config()
    each = model.dtype.itemsize
    layers = KEPT_PER_TOKEN + config.num_hidden_layers if checkpointing else KEPT_PER_TOKEN * config.num_hidden_layers
    return (
        bytes_held(model, processes)
        + config.hidden_size * tokens * layers * each
        + config.vocab_size * SCORES
        + PROGRAM
    )
