"""Rotary positions and causal attention of texts that lie one behind the other, as few products and passes as it takes.

torch's flash kernel walks a text in blocks, which pays from about a thousand tokens on; questions and answers are
shorter, and there it is two to four times slower than the plain formula, most of all in bfloat16. Each text attends to
itself alone, so nothing is padded. To a model their lengths are told where a mask would stand, as whole numbers of
shape (1, 1, 1, texts).
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any, TypeGuard

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable
from torch.nn.functional import scaled_dot_product_attention

LONGEST = 512  # tokens; beyond, the table of weights costs more than the blocks


class _Rotate(torch.autograd.Function):
    """Turn the two halves of every head by the angles of its position; the way back is the same by minus the angle.

    x is (tokens, heads, size); cos and sin are (tokens, size / 2).
    """

    @staticmethod
    def forward(ctx: Any, x: Tensor, cos: Tensor, sin: Tensor) -> Tensor:  # type: ignore[override]  # Any: torch's context has no public type
        ctx.save_for_backward(cos, sin)
        return _turned(x, cos, sin, 1)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, dy: Tensor) -> tuple[Tensor | None, ...]:  # type: ignore[override]  # Any: as above
        cos, sin = ctx.saved_tensors
        return _turned(dy, cos, sin, -1), None, None


class _Attention(torch.autograd.Function):
    """softmax(s·QKᵀ)V of each text over all its earlier positions. K and V may have fewer heads than Q."""

    @staticmethod
    def forward(ctx: Any, query: Tensor, key: Tensor, value: Tensor, lengths: list[int], scale: float) -> Tensor:  # type: ignore[override]  # Any: as above
        query, found, tables = query * scale, torch.empty_like(query), list[Tensor]()
        later = torch.full((max(lengths), max(lengths)), float("-inf"), device=query.device).triu_(1)
        for *sides, out in _texts(lengths, query, key, value, found):
            q, k, v = map(_rows, sides)
            scores, tokens = q @ k.mT, k.shape[1]
            allowed = scores.view(-1, tokens, tokens).float().add_(later[:tokens, :tokens])
            table = allowed.softmax(-1).to(q.dtype).view(scores.shape)
            out.copy_((table @ v).view(out.shape))
            tables.append(table)
        ctx.save_for_backward(query, key, value, *tables)
        ctx.lengths, ctx.scale = lengths, scale
        return found

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, dy: Tensor) -> tuple[Tensor | None, ...]:  # type: ignore[override]  # Any: as above
        query, key, value, *tables = ctx.saved_tensors
        found = [torch.empty_like(side) for side in (query, key, value)]
        texts = _texts(ctx.lengths, *found, query, key, value, dy)
        for table, (dq, dk, dv, *sides) in zip(tables, texts, strict=True):
            q, k, v, d = map(_rows, sides)
            d_scores = torch.ops.aten._softmax_backward_data(d @ v.mT, table, -1, table.dtype)
            dq.copy_((d_scores @ k).view(dq.shape))
            dk.copy_((d_scores.mT @ q).view(dk.shape))
            dv.copy_((table.mT @ d).view(dv.shape))
        found[0].mul_(ctx.scale)
        return *found, None, None


def rotate(x: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
    """Give every token its rotary position; x is (tokens, heads, size), cos and sin are (tokens, size)."""
    half = x.shape[-1] // 2
    return _Rotate.apply(x, cos[:, :half], sin[:, :half])  # type: ignore[no-any-return]


def attend(query: Tensor, key: Tensor, value: Tensor, lengths: Sequence[int], scale: float) -> Tensor:
    """Attend causally in each text; shapes (tokens, heads, size), answer as the query's."""
    if max(lengths) <= LONGEST:
        return _Attention.apply(query, key, value, list(lengths), scale)  # type: ignore[no-any-return]
    found = list[Tensor]()
    for q, k, v in zip(*(side.split(list(lengths)) for side in (query, key, value)), strict=True):
        found.append(attend(q, k, v, [len(q)], scale) if len(q) <= LONGEST else _in_blocks(q, k, v, scale))
    return torch.cat(found)


def one_row(lengths: Sequence[int], device: torch.device) -> dict[str, Tensor]:
    """Answer what a model is told of texts that lie in a single row: where each begins anew."""
    places = torch.cat([torch.arange(length, device=device) for length in lengths])
    return {"position_ids": places[None], "attention_mask": torch.tensor(lengths, device=device).view(1, 1, 1, -1)}


def is_lengths(mask: Tensor | None) -> TypeGuard[Tensor]:
    return mask is not None and mask.dtype == torch.long


def _turned(x: Tensor, cos: Tensor, sin: Tensor, way: int) -> Tensor:
    turned, (first, second) = torch.empty_like(x, memory_format=torch.contiguous_format), x.chunk(2, -1)
    cos, sin = cos[:, None], sin[:, None]
    begin, end = turned.chunk(2, -1)
    torch.mul(first, cos, out=begin).addcmul_(second, sin, value=-way)
    torch.mul(second, cos, out=end).addcmul_(first, sin, value=way)
    return turned


def _texts(lengths: list[int], query: Tensor, key: Tensor, *sides: Tensor) -> Iterator[tuple[Tensor, ...]]:
    """Cut each side into texts, as views (heads of the key, heads that share one, tokens, size)."""
    shared = min(query.shape[1], key.shape[1])
    views = [side.view(len(side), shared, -1, side.shape[-1]).permute(1, 2, 0, 3) for side in (query, key, *sides)]
    return zip(*(view.split(lengths, 2) for view in views), strict=True)


def _rows(text: Tensor) -> Tensor:
    """Lay the heads that share a key one under the other: (heads of the key, heads that share it · tokens, size)."""
    return text.reshape(len(text), -1, text.shape[-1])


def _in_blocks(query: Tensor, key: Tensor, value: Tensor, scale: float) -> Tensor:
    q, k, v = (side.transpose(0, 1)[None] for side in (query, key, value))
    return scaled_dot_product_attention(q, k, v, is_causal=True, scale=scale, enable_gqa=True)[0].transpose(0, 1)
