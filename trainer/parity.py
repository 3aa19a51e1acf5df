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

from trainer.data import Encoder
from trainer.spec import Check, Message

PROMPTS = 3
TOLERANCE = 0.05  # nats; measured with a Q4_1 base: 0.02, most of it llama.cpp's rounding of activations to 8 bits
MERGED_TOLERANCE = 0.1  # nats; the merged tensors are rounded once more; measured: 0.03


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
    """How far trainer and runtime agree, as the worst of the prompts.

    `gap` is the mean difference of the next token's log probability, weighted by probability (the divergence of the
    two distributions over the runtime's likeliest tokens). `top_gap` is that of the likeliest token alone; with a
    quantised base it reaches 0.1 even without any adapter, so it is told and not judged.
    """

    prompts: int
    same_tokens: int
    gap: float
    top_gap: float = 0.0
    merged_gap: float | None = None

    def check(self) -> Check:
        """Answer the gate's line."""
        merged_ok = self.merged_gap is None or self.merged_gap <= MERGED_TOLERANCE
        merged = "" if self.merged_gap is None else f"; the merged file {self.merged_gap:.3f}"
        return Check(
            name="parity",
            passed=self.prompts > 0 and self.same_tokens == self.prompts and self.gap <= TOLERANCE and merged_ok,
            detail=f"{self.same_tokens} of {self.prompts} prompts become the same tokens in training and in use; "
            f"what comes next differs by {self.gap:.3f} nats{merged} (at most {TOLERANCE} and {MERGED_TOLERANCE} are "
            f"allowed), for the likeliest word alone by {self.top_gap:.3f}.",
        )


def compare(
    model: PeftModel,
    encoder: Encoder,
    runtime: Probe,
    tag: str,
    conversations: Sequence[Sequence[Message]],
    merged_tag: str | None = None,
) -> Parity:
    """Ask trainer and runtime for the next token of up to three conversations that wait for an answer."""
    same, gap, top_gap, merged_gap = 0, 0.0, 0.0, 0.0
    asked = conversations[:PROMPTS]
    for messages in asked:
        ids = encoder.prompt(messages)
        same += ids == runtime.tokenize(tag, runtime.apply_template(tag, messages))
        ours = next_logprobs(model, ids)
        theirs = runtime.next_token_logprobs(tag, ids)
        gap, top_gap = max(gap, divergence(ours, theirs)), max(top_gap, _top_gap(ours, theirs))
        if merged_tag:
            merged_gap = max(merged_gap, divergence(ours, runtime.next_token_logprobs(merged_tag, ids)))
    return Parity(len(asked), same, gap, top_gap, merged_gap if merged_tag else None)


@torch.no_grad()
def next_logprobs(model: PeftModel, ids: Sequence[int]) -> torch.Tensor:
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
