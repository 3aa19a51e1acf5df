"""Same prompt, same tokens, same likelihoods: what was trained against what is served.

Most complaints about taught models ("good in the trainer, garbage in use") are a difference of one of these. A
mistake and rounding are told apart: with every weight in F32 a runtime rounds nothing that matters, so what still
differs there is a mistake, and what the served files differ by beyond it is the price of their types.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import zip_longest
from typing import Any, NamedTuple, Protocol

import torch
from peft import PeftModel
from transformers import PreTrainedModel

from trainer.data import Encoder
from trainer.evaluation import Check, Difference
from trainer.spec import Message

PROMPTS = 3  # whose next token is compared; their tokens are compared for more
TOKENIZED = 40
UNROUNDED_TOLERANCE = 0.01  # nats, for every prompt and for the likeliest token; measured with SmolLM2: 0.001 and 0.002
TOLERANCE = 0.05  # nats; measured with a Q4_1 base: 0.02, most of it llama.cpp's rounding of activations to 8 bits
MERGED_TOLERANCE = 0.1  # nats; the merged tensors are rounded once more; measured: 0.03
WORST_BY = 2  # times the limit of the mean, for one prompt
ROUNDED_TOLERANCE = 0.3  # nats; full-precision weights against the file rounded from them; measured with Q4_0: 0.16
MOVED = 0.001  # nats; the same model asked twice differs by less
SHOWN = 12  # tokens on each side of the first that differs


class Probe(Protocol):
    """What a runtime must answer to be compared."""

    def apply_template(self, tag: str, messages: Sequence[Message]) -> str:
        """Answer the prompt as text."""
        ...

    def tokenize(self, tag: str, text: str) -> list[int]:
        """Answer the prompt's tokens."""
        ...

    def next_token_logprobs(self, tag: str, prompt: str | Sequence[int], top: int = 10) -> dict[int, float]:
        """Answer the most likely next tokens with their log probabilities."""
        ...


class Tags(NamedTuple):
    """The names under which a runtime serves what is compared with the trainer's model."""

    served: str
    merged: str | None = None
    unrounded: str | None = None  # the same with every weight in F32
    untaught: str | None = None


@dataclass(frozen=True)
class Parity:
    """How far trainer and runtime agree.

    `gap` is the mean difference of the next token's log probability, weighted by probability (the divergence of the
    two distributions over the runtime's likeliest tokens), over the prompts, and `worst_gap` that of one: rounding
    makes single ones differ by up to 0.05 where nothing is wrong, so one may reach twice the mean's limit. `top_gap`
    is that of the likeliest token alone, at the worst prompt; with a quantised base it reaches 0.1 even without any
    adapter, so it is told and not judged. `unrounded_gap` is the worst of both with every weight in F32, None where
    that was not asked. `merged_gap` is as `gap`, and judged unless `coarse`: a type of few bits is a choice whose
    price the held-out questions tell. `moved` is how far the taught model's likelihoods are from the untaught one's,
    both as served. `exact`: both use the same weights; otherwise the trainer's are the full-precision ones that the
    served file was rounded from.
    """

    prompts: int
    same_tokens: int
    gap: float
    worst_gap: float = 0.0
    top_gap: float = 0.0
    merged_gap: float | None = None
    unrounded_gap: float | None = None
    moved: float | None = None
    exact: bool = True
    coarse: bool = False
    difference: Difference | None = None

    @property
    def agrees(self) -> bool:
        """Tell whether what is trained is what is served, up to rounding."""
        near = self.gap <= self.tolerance and self.worst_gap <= WORST_BY * self.tolerance
        faithful = self.unrounded_gap is None or self.unrounded_gap <= UNROUNDED_TOLERANCE
        return self.prompts > 0 and self.same_tokens == self.prompts and near and faithful

    @property
    def tolerance(self) -> float:
        return TOLERANCE if self.exact else ROUNDED_TOLERANCE

    @property
    def merged_tolerance(self) -> float:
        return math.inf if self.coarse else MERGED_TOLERANCE if self.exact else ROUNDED_TOLERANCE

    def check(self) -> Check:
        """Answer the gate's line."""
        merged_ok = self.merged_gap is None or self.merged_gap <= self.merged_tolerance
        words = [f"{self.same_tokens} of {self.prompts} prompts become the same tokens in training and in use."]
        if self.unrounded_gap is not None:
            words.append(
                f"With no weight rounded, what comes next differs by {self.unrounded_gap:.4f} nats at most "
                f"({UNROUNDED_TOLERANCE} is allowed)."
            )
        else:
            words.append("It was not compared with no weight rounded.")
        words.append(
            f"As it is served, rounding included, it differs by {self.gap:.3f} ({self.tolerance} is allowed), for the "
            f"likeliest word alone by {self.top_gap:.3f}."
        )
        if self.merged_gap is not None and self.coarse:
            words.append(f"The merged file differs by {self.merged_gap:.3f}.")
        elif self.merged_gap is not None:
            words.append(f"The merged file differs by {self.merged_gap:.3f} ({self.merged_tolerance} is allowed).")
        return Check(
            name="parity", passed=self.agrees and merged_ok, detail=" ".join(words), difference=self.difference
        )


def compare(
    model: PeftModel | PreTrainedModel,
    encoder: Encoder,
    runtime: Probe,
    tags: Tags,
    conversations: Sequence[Sequence[Message]],
    *,
    exact: bool = True,
    coarse: bool = False,
) -> Parity:
    """Compare conversations that wait for an answer: their tokens, and for the first few what comes next."""
    asked = conversations[:TOKENIZED]
    prompts = [encoder.prompt(messages) for messages in asked]
    theirs = [runtime.tokenize(tags.served, runtime.apply_template(tags.served, messages)) for messages in asked]
    differing = [at for at, ids in enumerate(prompts) if ids != theirs[at]]
    gaps = _Gaps(model, runtime, prompts[:PROMPTS])
    served = gaps.of(tags.served)
    unrounded = gaps.of(tags.unrounded) if tags.unrounded else []
    return Parity(
        prompts=len(asked),
        same_tokens=len(asked) - len(differing),
        gap=_mean([gap for gap, _ in served]),
        worst_gap=max((gap for gap, _ in served), default=0.0),
        top_gap=max((top for _, top in served), default=0.0),
        merged_gap=_mean([gap for gap, _ in gaps.of(tags.merged)]) if tags.merged else None,
        unrounded_gap=max((max(pair) for pair in unrounded), default=None),
        moved=gaps.between(tags.served, tags.untaught) if tags.untaught else None,
        exact=exact,
        coarse=coarse,
        difference=_difference(encoder, asked[differing[0]], prompts[differing[0]], theirs[differing[0]])
        if differing
        else None,
    )


class _Gaps:
    """Next-token likelihoods after a few prompts, in the trainer and under a runtime's names."""

    def __init__(self, model: PeftModel | PreTrainedModel, runtime: Probe, prompts: Sequence[Sequence[int]]) -> None:
        self.runtime = runtime
        self.prompts = prompts
        self.ours = [next_logprobs(model, ids) for ids in prompts]

    def of(self, tag: str) -> list[tuple[float, float]]:
        """Answer for each prompt how far a served model is from the trainer's: all likely tokens, the likeliest."""
        theirs = [self.runtime.next_token_logprobs(tag, ids) for ids in self.prompts]
        return [(divergence(mine, his), _top_gap(mine, his)) for mine, his in zip(self.ours, theirs, strict=True)]

    def between(self, tag: str, other: str) -> float:
        """Answer the largest difference of a token's log probability between two served models."""
        pairs = [[self.runtime.next_token_logprobs(name, ids) for name in (tag, other)] for ids in self.prompts]
        return max((_largest(*pair) for pair in pairs), default=0.0)


def _largest(one: dict[int, float], other: dict[int, float]) -> float:
    """Compare tokens that are likely to both; where there is none, the two have nothing in common."""
    return max((abs(one[token] - other[token]) for token in one.keys() & other.keys()), default=math.inf)


def _difference(
    encoder: Encoder, messages: Sequence[Message], ours: Sequence[int], theirs: Sequence[int]
) -> Difference:
    place = next(at for at, (mine, his) in enumerate(zip_longest(ours, theirs)) if mine != his)

    def words(ids: Sequence[int]) -> str:
        return str(encoder.tokenizer.decode(list(ids)))

    end = place + SHOWN
    return Difference(
        question=messages[-1].content,
        place=place,
        before=words(ours[max(0, place - SHOWN) : place]),
        taught=words(ours[place:end]),
        served=words(theirs[place:end]),
    )


def _mean(gaps: Sequence[float]) -> float:
    return sum(gaps) / max(1, len(gaps))


@torch.no_grad()
def next_logprobs(model: PeftModel | PreTrainedModel, ids: Sequence[int]) -> torch.Tensor:
    """Answer the log probability of every possible next token, in nats."""
    model.eval()
    output: Any = model(input_ids=torch.tensor([list(ids)], device=model.device), use_cache=False)  # Any: any model
    return output.logits[0, -1].float().log_softmax(-1).cpu()


def divergence(ours: torch.Tensor, theirs: dict[int, float]) -> float:
    """Answer how far apart two distributions are, in nats, over the tokens of `theirs`."""
    if _top_gap(ours, theirs) == math.inf:
        return math.inf
    shares = {token: math.exp(float(ours[token])) for token in theirs}
    apart = sum(share * (float(ours[token]) - theirs[token]) for token, share in shares.items())
    return abs(apart) / sum(shares.values())


def _top_gap(ours: torch.Tensor, theirs: dict[int, float]) -> float:
    """A token that is not even among the runtime's likeliest is infinitely far away."""
    token = int(ours.argmax())
    return abs(float(ours[token]) - theirs[token]) if token in theirs else math.inf
