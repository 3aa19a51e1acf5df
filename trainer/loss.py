"""The loss of answers, computed where there are answers and nowhere else.

A vocabulary is the widest matrix of a small model: scoring the prompt's tokens as well costs time for numbers that
are thrown away. The product with the output layer runs in pieces whose gradient is taken at once, so the scores of
a long answer never lie in memory together.
"""

from __future__ import annotations

from collections.abc import Iterable
from contextlib import AbstractContextManager, nullcontext
from typing import Any

import torch
from peft import PeftModel
from torch import Tensor
from torch.autograd.function import once_differentiable
from transformers import PreTrainedModel

from trainer.batches import IGNORED, Micro, laid_out, parts
from trainer.data import Encoded
from trainer.fast_attention import one_row
from trainer.fast_layers import takes_one_row
from trainer.products import times
from trainer.rundir import MICRO_TOKENS

CHUNK = 512  # rows of scores at a time: 100 MB at a vocabulary of 49,152
RESCALED = ("logit_scale", "output_multiplier", "lm_head_multiplier", "logits_scaling")


class _HeadLoss(torch.autograd.Function):
    """Negative log-likelihood per row, cross_entropy(hidden Wᵀ + b), with W and b frozen."""

    @staticmethod
    def forward(  # type: ignore[override]
        ctx: Any,  # torch's context has no public type
        hidden: Tensor,
        weight: Tensor,
        bias: Tensor | None,
        targets: Tensor,
        cap: float | None,
    ) -> Tensor:
        losses = hidden.new_empty(len(hidden), dtype=torch.float32)
        gradient = torch.empty_like(hidden) if ctx.needs_input_grad[0] else None
        for at in range(0, len(hidden), CHUNK):
            rows = slice(at, at + CHUNK)
            scores = times(hidden[rows], weight.t())
            if bias is not None:
                scores += bias
            scores = scores.float()
            if cap is not None:
                scores = scores.div_(cap).tanh_().mul_(cap)
            target = targets[rows, None]
            slope = 1 - (scores / cap) ** 2 if cap is not None and gradient is not None else None
            scores.sub_(scores.amax(-1, keepdim=True))
            wanted = scores.gather(-1, target)
            total = scores.exp_().sum(-1, keepdim=True)
            losses[rows] = (total.log() - wanted)[:, 0]
            if gradient is not None:
                scores.div_(total)
                scores.scatter_add_(-1, target, scores.new_full((1, 1), -1.0).expand_as(target))
                if slope is not None:
                    scores *= slope
                gradient[rows] = times(scores.to(weight.dtype), weight)
        ctx.gradient = gradient
        return losses

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, d_losses: Tensor) -> tuple[Tensor | None, ...]:  # type: ignore[override]  # Any: as above
        return ctx.gradient * d_losses[:, None].to(ctx.gradient.dtype), None, None, None, None


def answer_losses(model: PreTrainedModel | PeftModel, micro: Micro) -> tuple[Tensor, Tensor]:
    """Answer the loss in nats of each answer token of a micro-batch, and the number of the example each belongs to."""
    causal: Any = model.get_base_model() if isinstance(model, PeftModel) else model  # Any: any causal model
    device = causal.get_input_embeddings().weight.device
    ids, labels = micro.ids.to(device), micro.labels.to(device)[:, 1:]
    wanted = labels != IGNORED
    layout = one_row(micro.lengths, device) if micro.lengths else {}
    config: Any = causal.config.get_text_config()  # Any: as many classes as models
    if any(getattr(config, name, None) not in (None, 1.0) for name in RESCALED):
        scores = causal(input_ids=ids, use_cache=False, **layout).logits[:, :-1][wanted]
        losses = torch.nn.functional.cross_entropy(scores.float(), labels[wanted], reduction="none")
    else:
        hidden = causal.base_model(input_ids=ids, use_cache=False, **layout).last_hidden_state[:, :-1][wanted]
        head = causal.get_output_embeddings()
        cap = getattr(config, "final_logit_softcapping", None)
        losses = _HeadLoss.apply(hidden, head.weight, head.bias, labels[wanted], cap)
    return losses, _owners(micro, device)[:, 1:][wanted]


def log_probs(model: PreTrainedModel | PeftModel, micro: Micro) -> Tensor:
    """Answer log π(answer) in nats of each example of a micro-batch."""
    losses, owners = answer_losses(model, micro)
    return -losses.new_zeros(len(micro.lengths[1:]) or len(micro.ids)).index_add(0, owners, losses)


def _owners(micro: Micro, device: torch.device) -> Tensor:
    """Answer which example each token belongs to; -1 is what all of them begin with."""
    if micro.lengths:
        lengths = torch.tensor(micro.lengths, device=device)
        return torch.arange(-1, len(lengths) - 1, device=device).repeat_interleave(lengths)[None]
    return torch.arange(len(micro.ids), device=device)[:, None].expand_as(micro.ids)


@torch.no_grad()
def example_losses(
    model: PreTrainedModel | PeftModel,
    examples: Iterable[Encoded],
    pad: int | None,
    *,
    base: bool = False,
    limit: int = MICRO_TOKENS,
) -> dict[str, float]:
    """Answer the mean loss per answer token of each example, in nats; `base` leaves the adapter out.

    At most `limit` tokens go through the model at once.
    """
    was_training = model.training
    model.eval()
    without: AbstractContextManager[Any] = nullcontext()
    if base and isinstance(model, PeftModel):
        without = model.disable_adapter()
    found: dict[str, float] = {}
    with without:
        pad = filler(model, pad)
        for part in parts(examples, limit, padded=pad is not None):
            losses, owners = answer_losses(model, laid_out(part, pad))
            sums = losses.new_zeros(len(part)).index_add_(0, owners, losses).tolist()
            found.update({e.id: total / e.answer_tokens for e, total in zip(part, sums, strict=True)})
    model.train(was_training)
    return found


def filler(model: PreTrainedModel | PeftModel, pad: int | None) -> int | None:
    """Answer what fills rows up: the padding token, or None where examples may lie in one row."""
    return None if takes_one_row(model) else pad


def mean_loss(losses: dict[str, float], examples: Iterable[Encoded]) -> float:
    """Answer the mean over all answer tokens: long answers count for more, as in training."""
    kept = [(losses[e.id] * e.answer_tokens, e.answer_tokens) for e in examples if e.id in losses]
    tokens = sum(count for _, count in kept)
    return sum(total for total, _ in kept) / tokens if tokens else 0.0
