"""Rotary positions and causal attention of texts that lie one behind the other, as few products and passes as it takes.

torch's flash kernel walks a text in blocks, which pays from about a thousand tokens on; questions and answers are
shorter, and there it is two to four times slower than the plain formula, most of all in bfloat16. Each text attends to
itself and to what all of them begin with, which goes through the model once, so nothing is padded and nothing computed
twice. To a model their lengths are told where a mask would stand, as whole numbers of shape (1, 1, 1, 1 + texts), that
of the common beginning first.
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
    """softmax(s·QKᵀ)V of each text over all its earlier positions. K and V may have fewer heads than Q.

    Rows that K and V have more than Q come first, and belong to every text.
    """

    @staticmethod
    def forward(ctx: Any, query: Tensor, key: Tensor, value: Tensor, lengths: list[int], scale: float) -> Tensor:  # type: ignore[override]  # Any: as above
        query, found, tables = query * scale, torch.empty_like(query), list[Tensor]()
        shared, longest, heads = len(key) - len(query), max(lengths), key.shape[1]
        later = torch.full((longest, shared + longest), float("-inf"), device=query.device).triu_(shared + 1)
        for q, k, v, out in zip(
            _texts(query, heads, lengths),
            _going_on(key, shared, lengths),
            _going_on(value, shared, lengths),
            _texts(found, heads, lengths),
            strict=True,
        ):
            tokens, seen = q.shape[2], k.shape[1]
            scores = torch.bmm(_rows(q), k.mT)
            allowed = scores.view(-1, tokens, seen).float().add_(later[:tokens, :seen])
            table = allowed.softmax(-1).to(q.dtype).view(scores.shape)
            out.copy_(torch.bmm(table, v).view(out.shape))
            tables.append(table)
        ctx.save_for_backward(query, key, value, *tables)
        ctx.lengths, ctx.scale = lengths, scale
        return found

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, dy: Tensor) -> tuple[Tensor | None, ...]:  # type: ignore[override]  # Any: as above
        query, key, value, *tables = ctx.saved_tensors
        d_query, d_key, d_value = (torch.empty_like(side) for side in (query, key, value))
        shared, heads, lengths = len(key) - len(query), key.shape[1], ctx.lengths
        first_dk, *dks = _texts(d_key, heads, [shared, *lengths])
        first_dv, *dvs = _texts(d_value, heads, [shared, *lengths])
        sum_dk, sum_dv = (torch.zeros_like(first, dtype=torch.float32) for first in (first_dk, first_dv))
        for table, q, k, v, d, dq, dk, dv in zip(
            tables,
            _texts(query, heads, lengths),
            _going_on(key, shared, lengths),
            _going_on(value, shared, lengths),
            _texts(dy, heads, lengths),
            _texts(d_query, heads, lengths),
            dks,
            dvs,
            strict=True,
        ):
            q, d = _rows(q), _rows(d)
            d_scores = torch.ops.aten._softmax_backward_data(torch.bmm(d, v.mT), table, -1, table.dtype)
            dq.copy_(torch.bmm(d_scores, k).view(dq.shape))
            for product, total, own in (
                (torch.bmm(d_scores.mT, q), sum_dk, dk),
                (torch.bmm(table.mT, d), sum_dv, dv),
            ):
                before, mine = product[:, None].split([shared, own.shape[2]], 2)
                total += before
                own.copy_(mine)
        first_dk.copy_(sum_dk)
        first_dv.copy_(sum_dv)
        return d_query.mul_(ctx.scale), d_key, d_value, None, None


def rotate(x: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
    """Give every token its rotary position; x is (tokens, heads, size), cos and sin are (tokens, size)."""
    half = x.shape[-1] // 2
    return _Rotate.apply(x, cos[:, :half], sin[:, :half])  # type: ignore[no-any-return]


def attend(query: Tensor, key: Tensor, value: Tensor, lengths: Sequence[int], scale: float) -> Tensor:
    """Attend causally in each text; shapes (tokens, heads, size), answer as the query's.

    The first of the lengths is what all other texts go on from; it may be 0.
    """
    shared, *others = lengths
    if not shared:
        return _attend(query, key, value, others, scale)
    begin, own = query.split([shared, len(query) - shared])
    return torch.cat(
        [
            _attend(begin, key[:shared], value[:shared], [shared], scale),
            _attend(own, key, value, others, scale),
        ]
    )


def _attend(query: Tensor, key: Tensor, value: Tensor, lengths: list[int], scale: float) -> Tensor:
    shared = len(key) - len(query)
    if max(lengths) * (shared + max(lengths)) <= LONGEST**2:
        return _Attention.apply(query, key, value, lengths, scale)  # type: ignore[no-any-return]
    if len(lengths) == 1:
        return _in_blocks(query, key, value, scale)
    (first_key, *keys), (first_value, *values) = (side.split([shared, *lengths]) for side in (key, value))
    return torch.cat(
        [
            _attend(q, torch.cat([first_key, k]), torch.cat([first_value, v]), [len(q)], scale)
            for q, k, v in zip(query.split(lengths), keys, values, strict=True)
        ]
    )


def one_row(lengths: Sequence[int], device: torch.device) -> dict[str, Tensor]:
    """Answer what a model is told of texts that lie in a single row, all going on from the first."""
    shared, *others = lengths
    places = [torch.arange(shared), *(torch.arange(shared, shared + length) for length in others)]
    return {
        "position_ids": torch.cat(places)[None].to(device),
        "attention_mask": torch.tensor(lengths, device=device).view(1, 1, 1, -1),
    }


def is_lengths(mask: Tensor | None) -> TypeGuard[Tensor]:
    return mask is not None and mask.dtype == torch.long


def _turned(x: Tensor, cos: Tensor, sin: Tensor, way: int) -> Tensor:
    turned, (first, second) = torch.empty_like(x, memory_format=torch.contiguous_format), x.chunk(2, -1)
    cos, sin = cos[:, None], sin[:, None]
    begin, end = turned.chunk(2, -1)
    torch.mul(first, cos, out=begin).addcmul_(second, sin, value=-way)
    torch.mul(second, cos, out=end).addcmul_(first, sin, value=way)
    return turned


def _texts(side: Tensor, heads: int, lengths: list[int]) -> tuple[Tensor, ...]:
    """Cut a side into texts, as views (heads of the key, heads that share one, tokens, size)."""
    return side.view(len(side), heads, -1, side.shape[-1]).permute(1, 2, 0, 3).split(lengths, 2)


def _going_on(side: Tensor, shared: int, lengths: list[int]) -> Iterator[Tensor]:
    """Answer what each text sees of a side of the key: the shared rows and its own, (heads, tokens, size)."""
    first, *own = side.transpose(0, 1).split([shared, *lengths], 1)
    return (torch.cat([first, text], 1) if shared else text for text in own)


def _rows(text: Tensor) -> Tensor:
    """Lay the heads that share a key one under the other: (heads of the key, heads that share it · tokens, size)."""
    return text.reshape(len(text), -1, text.shape[-1])


def _in_blocks(query: Tensor, key: Tensor, value: Tensor, scale: float) -> Tensor:
    q, k, v = (side.transpose(0, 1)[None] for side in (query, key, value))
    before = len(key) - len(query)  # torch counts its causal positions from the first key
    seen = torch.ones(len(query), len(key), dtype=torch.bool, device=q.device).tril_(before) if before else None
    found = scaled_dot_product_attention(q, k, v, seen, is_causal=seen is None, scale=scale, enable_gqa=True)
    return found[0].transpose(0, 1)
