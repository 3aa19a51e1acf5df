"""Same prompt, same tokens, near-same logits: what was trained against what is served.

Most complaints about taught models ("good in the trainer, garbage in use") are a difference of one of these.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import torch
from peft import PeftModel
from transformers import PreTrainedModel

from trainer.data import Encoder
from trainer.spec import Check, Message

PROMPTS = 3
TOLERANCE = 0.05  # nats; measured with a Q4_1 base: 0.02, most of it llama.cpp's rounding of activations to 8 bits
MERGED_TOLERANCE = 0.1  # nats; the merged tensors are rounded once more; measured: 0.03
WORST_BY = 2  # times the limit of the mean, for one prompt
ROUNDED_TOLERANCE = 0.3  # nats; full-precision weights against the file rounded from them; measured with Q4_0: 0.16


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


@dataclass(frozen=True)
class Parity:
    """How far trainer and runtime agree.

    `gap` is the mean difference of the next token's log probability, weighted by probability (the divergence of the
    two distributions over the runtime's likeliest tokens), over the prompts, and `worst_gap` that of one: rounding
    makes single ones differ by up to 0.05 where nothing is wrong, so one may reach twice the mean's limit. `top_gap`
    is that of the likeliest token alone, at the worst prompt; with a quantised base it reaches 0.1 even without any
    adapter, so it is told and not judged. `exact`: both use the same weights; otherwise the trainer's are the
    full-precision ones that the served file was rounded from.
    """

    prompts: int
    same_tokens: int
    gap: float
    worst_gap: float = 0.0
    top_gap: float = 0.0
    merged_gap: float | None = None
    exact: bool = True

    @property
    def agrees(self) -> bool:
        """Tell whether what is trained is what is served, up to rounding."""
        near = self.gap <= self.tolerance and self.worst_gap <= WORST_BY * self.tolerance
        return self.prompts > 0 and self.same_tokens == self.prompts and near

    @property
    def tolerance(self) -> float:
        return TOLERANCE if self.exact else ROUNDED_TOLERANCE

    @property
    def merged_tolerance(self) -> float:
        return MERGED_TOLERANCE if self.exact else ROUNDED_TOLERANCE

    def check(self) -> Check:
        """Answer the gate's line."""
        merged_ok = self.merged_gap is None or self.merged_gap <= self.merged_tolerance
        merged = "" if self.merged_gap is None else f"; the merged file {self.merged_gap:.3f}"
        return Check(
            name="parity",
            passed=self.agrees and merged_ok,
            detail=f"{self.same_tokens} of {self.prompts} prompts become the same tokens in training and in use; "
            f"what comes next differs by {self.gap:.3f} nats{merged} (at most {self.tolerance} and "
            f"{self.merged_tolerance} are allowed), for the likeliest word alone by {self.top_gap:.3f}.",
        )


def compare(
    model: PeftModel | PreTrainedModel,
    encoder: Encoder,
    runtime: Probe,
    tag: str,
    conversations: Sequence[Sequence[Message]],
    merged_tag: str | None = None,
    *,
    exact: bool = True,
) -> Parity:
    """Ask trainer and runtime for the next token of up to three conversations that wait for an answer."""
    same, top_gap, gaps, merged_gaps = 0, 0.0, list[float](), list[float]()
    asked = conversations[:PROMPTS]
    for messages in asked:
        ids = encoder.prompt(messages)
        same += ids == runtime.tokenize(tag, runtime.apply_template(tag, messages))
        ours = next_logprobs(model, ids)
        theirs = runtime.next_token_logprobs(tag, ids)
        gaps.append(divergence(ours, theirs))
        top_gap = max(top_gap, _top_gap(ours, theirs))
        if merged_tag:
            merged_gaps.append(divergence(ours, runtime.next_token_logprobs(merged_tag, ids)))
    worst = max(gaps, default=0.0)
    return Parity(len(asked), same, _mean(gaps), worst, top_gap, _mean(merged_gaps) if merged_tag else None, exact)


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
