"""Encoded examples become what goes through the model at once: an epoch's order, a batch's parts, a part's rows."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from random import Random

import torch

from trainer.data import Encoded

IGNORED = -100  # torch's cross_entropy leaves these labels out
LEAST_SHARED = 4  # tokens; fewer cost less than sharing them


@dataclass(frozen=True)
class Micro:
    """A few examples that go through the model at once: in rows padded on the right, or all in one row.

    Rows need no attention mask: attention is causal, so no real token looks at the padding behind it. In one row, what
    all examples begin with comes once, then what each has of its own. An example must not look at another's, so the
    `lengths` go along, that of the beginning first.
    """

    ids: torch.Tensor
    labels: torch.Tensor
    lengths: tuple[int, ...] = ()


def epoch_order(count: int, seed: int, epoch: int) -> list[int]:
    """Answer the order of one epoch, drawn at random.

    Batches of similar length need less padding, but weigh words of short answers more than those of long ones, and
    held-out loss ends 4 % higher (docs/decisions/0015); padding is saved inside a batch, where it costs nothing.
    """
    order = list(range(count))
    Random(f"{seed}/{epoch}").shuffle(order)  # noqa: S311 - a shuffle, not a secret
    return order


def micro_batches(examples: Iterable[Encoded], limit: int, pad: int | None) -> Iterator[Micro]:
    """Lay a batch out in parts, none with more than `limit` tokens but one long example alone.

    `pad` fills the rows of a part; without it all its examples lie in one row.
    """
    return (laid_out(part, pad) for part in parts(examples, limit, padded=pad is not None))


def parts(examples: Iterable[Encoded], limit: int, *, padded: bool = True) -> list[list[Encoded]]:
    """Split examples, longest first, so that padding and the parts themselves cost least.

    Matrix products are at full speed from a few hundred rows on; by itself a part costs as much as 40 tokens in float32
    and 150 in bfloat16 on two cores, and more on a card, which takes more at once.
    """
    ordered = sorted(examples, key=lambda e: -len(e.ids))
    shared = 0 if padded else beginning(ordered)
    cheapest = [(0.0, 0)]  # for the first n examples: what they cost, and where their last part begins
    for end in range(1, len(ordered) + 1):
        best = (float("inf"), 0)
        tokens = shared
        for start in range(end - 1, -1, -1):
            length = len(ordered[start].ids)
            tokens = length * (end - start) if padded else tokens + length - shared
            if tokens > limit and start < end - 1:
                break
            best = min(best, (cheapest[start][0] + tokens + limit / 16, start))
        cheapest.append(best)
    found: list[list[Encoded]] = []
    end = len(ordered)
    while end:
        start = cheapest[end][1]
        found.append(ordered[start:end])
        end = start
    return found[::-1]


def laid_out(part: list[Encoded], pad: int | None) -> Micro:
    """Lay examples out in rows of the longest one's length, or in one row without padding and with one beginning."""
    if pad is None:
        shared = beginning(part)
        row = torch.tensor([*part[0].ids[:shared], *(token for example in part for token in example.ids[shared:])])
        labels = torch.cat([_labels(part[0])[:shared], *(_labels(example)[shared:] for example in part)])
        return Micro(row[None], labels[None], (shared, *(len(example.ids) - shared for example in part)))
    width = max(len(example.ids) for example in part)
    ids = torch.full((len(part), width), pad, dtype=torch.long)
    labels = torch.full((len(part), width), IGNORED, dtype=torch.long)
    for row, example in enumerate(part):
        ids[row, : len(example.ids)] = torch.tensor(example.ids)
        labels[row, : len(example.ids)] = _labels(example)
    return Micro(ids, labels)


def beginning(part: Sequence[Encoded]) -> int:
    """Answer with how many tokens all examples begin alike, such as those of the system prompt; 0 if hardly any.

    Each keeps a token of its own before what it is taught: that one says what comes first.
    """
    if len(part) < 2:
        return 0
    texts = [example.ids for example in part]
    first, last = min(texts), max(texts)  # in alphabetical order; what these begin with alike, all between them do
    alike = next((n for n, (one, other) in enumerate(zip(first, last, strict=False)) if one != other), len(first))
    shared = min(alike, *(example.taught[0][0] - 1 for example in part))
    return shared if shared >= LEAST_SHARED else 0


def _labels(example: Encoded) -> torch.Tensor:
    """Answer the tokens that are taught, in their places. The first is none: nothing comes before it."""
    labels = torch.full((len(example.ids),), IGNORED, dtype=torch.long)
    for start, end in example.taught:
        labels[start:end] = torch.tensor(example.ids[start:end])
    return labels
