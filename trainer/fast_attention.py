"""Causal attention for short texts on a CPU, as three matrix products each way.

torch's flash kernel walks a text in blocks, which pays from about a thousand tokens on; questions and answers are
shorter, and there it is two to four times slower than the plain formula, most of all in bfloat16.

Several texts may lie one behind the other in a single row, so that nothing is padded; then their lengths stand where a
mask would, as whole numbers of shape (1, 1, 1, texts), and each text attends to itself alone.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, TypeGuard

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable
from transformers.integrations.sdpa_attention import sdpa_attention_forward
from transformers.masking_utils import AttentionMaskInterface, sdpa_mask
from transformers.modeling_utils import AttentionInterface

ATTENTION = "curator_short"
LONGEST = 512  # tokens; beyond, the table of weights costs more than the blocks


class _Attention(torch.autograd.Function):
    """softmax(s·QKᵀ)V over all earlier positions. Q is (batch, heads, tokens, size); K and V may have fewer heads."""

    @staticmethod
    def forward(ctx: Any, query: Tensor, key: Tensor, value: Tensor, scale: float) -> Tensor:  # type: ignore[override]  # Any: torch's context has no public type
        batch, heads, tokens, size = query.shape
        shared = key.shape[1]
        rows = query.reshape(batch, shared, -1, size)  # the heads that share a key, one under the other
        scores = torch.matmul(rows, key.transpose(-1, -2)).view(batch, heads, tokens, tokens).float().mul_(scale)
        weights = scores.add_(_later(tokens, scores.device)).softmax(-1).to(query.dtype).view(batch, shared, -1, tokens)
        ctx.save_for_backward(rows, key, value, weights)
        ctx.shape, ctx.scale = query.shape, scale
        return torch.matmul(weights, value).view(query.shape)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, dy: Tensor) -> tuple[Tensor | None, ...]:  # type: ignore[override]  # Any: as above
        rows, key, value, weights = ctx.saved_tensors
        dy = dy.reshape(rows.shape)
        d_value = torch.matmul(weights.transpose(-1, -2), dy)
        d_weights = torch.matmul(dy, value.transpose(-1, -2))
        d_scores = torch.ops.aten._softmax_backward_data(d_weights, weights, -1, weights.dtype).mul_(ctx.scale)
        d_query = torch.matmul(d_scores, key).view(ctx.shape)
        return d_query, torch.matmul(d_scores.transpose(-1, -2), rows), d_value, None


def short_attention(query: Tensor, key: Tensor, value: Tensor, scale: float) -> Tensor:
    """Attend causally; shapes (batch, heads, tokens, size), answer as the query's."""
    return _Attention.apply(query, key, value, scale)  # type: ignore[no-any-return]


def _later(tokens: int, device: torch.device) -> Tensor:
    """Answer a table that forbids every position to look at later ones."""
    return torch.full((tokens, tokens), float("-inf"), device=device).triu_(1)


def _attend(
    module: torch.nn.Module,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attention_mask: Tensor | None,
    dropout: float = 0.0,
    scaling: float | None = None,
    **options: Any,  # Any: whatever a model passes on
) -> tuple[Tensor, None]:
    """Attend as transformers' sdpa does; short texts without a mask, a window or a cache go the fast way."""
    if is_lengths(attention_mask):
        split = attention_mask.flatten().tolist()
        texts = zip(query.split(split, 2), key.split(split, 2), value.split(split, 2), strict=True)
        found = [_attend(module, *text, None, dropout, scaling, **options)[0] for text in texts]
        return torch.cat(found, 1), None
    plain = (
        attention_mask is None and not dropout and query.shape[2] == key.shape[2] and query.shape[-1] == value.shape[-1]
    )
    if not plain or not 1 < query.shape[2] <= LONGEST:
        return sdpa_attention_forward(module, query, key, value, attention_mask, dropout, scaling, **options)
    found = short_attention(query, key, value, scaling or query.shape[-1] ** -0.5)
    return found.transpose(1, 2).contiguous(), None


def takes_one_row(model: Any) -> bool:  # Any: any causal model
    """Tell whether texts may lie in a single row: where attention is ours, and nothing else looks at other tokens."""
    config = model.config
    return config._attn_implementation == ATTENTION and not getattr(config, "sliding_window", None)


def one_row(lengths: Sequence[int], device: torch.device) -> dict[str, Tensor]:
    """Answer what a model is told of texts that lie in a single row: where each begins anew."""
    places = torch.cat([torch.arange(length, device=device) for length in lengths])
    return {"position_ids": places[None], "attention_mask": torch.tensor(lengths, device=device).view(1, 1, 1, -1)}


def is_lengths(mask: Tensor | None) -> TypeGuard[Tensor]:
    return mask is not None and mask.dtype == torch.long


AttentionInterface.register(ATTENTION, _attend)
AttentionMaskInterface.register(ATTENTION, sdpa_mask)
