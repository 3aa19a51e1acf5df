"""LoRA layers, norms and attention that compute what PEFT's and transformers' do, in fewer passes over memory.

PEFT writes y = Wx + s·B(A(dropout(x))) as six operations, each reading and writing whole activations, and its
dropout keeps a copy and a mask of x for every layer. On a CPU that is a quarter of the time and half of the memory.
Here the update is added into Wx by the matrix product itself, and dropout zeroes input columns of A instead: the
same columns for all tokens of a micro-batch, scaled by 1/(1-p), so the expected update is unchanged.

Weights may be bfloat16; the adapter's are float32, and are rounded for each product.
"""

from __future__ import annotations

from typing import Any, cast

import torch
from peft import PeftModel
from peft.tuners.lora import Linear
from torch import Tensor, nn
from torch.autograd.function import once_differentiable

from trainer.fast_attention import attend, is_lengths, rotate
from trainer.products import times

NORMS = ("LlamaRMSNorm", "MistralRMSNorm", "Qwen2RMSNorm", "Qwen3RMSNorm")
MLPS = ("LlamaMLP", "MistralMLP", "Qwen2MLP", "Qwen3MLP")
ATTENTIONS = ("LlamaAttention", "MistralAttention", "Qwen2Attention", "Qwen3Attention")


class _AddLora(torch.autograd.Function):
    """y = xWᵀ + b + s·(x(A∘m)ᵀ)Bᵀ of each of several layers that read the same x, with W and b frozen.

    `frozen` are W, b and s of each layer, `adapters` A and B of each.
    """

    @staticmethod
    def forward(ctx: Any, x: Tensor, frozen: tuple[tuple[Tensor, Tensor | None, float], ...], *adapters: Tensor) -> Any:  # type: ignore[override]  # Any: torch's context has no public type
        rows, taught = x.reshape(-1, x.shape[-1]), [part.to(x.dtype) for part in adapters]
        a, bs = torch.cat(taught[::2]), taught[1::2]
        inner = times(rows, a.t())
        ys: list[Tensor] = []
        for (weight, bias, scale), b, part in zip(frozen, bs, inner.split(_ranks(bs), 1), strict=True):
            y = times(rows, weight.t())
            if bias is not None:
                y += bias
            ys.append(y.addmm_(part, b.t(), alpha=scale).view(*x.shape[:-1], -1))
        ctx.save_for_backward(x, a, inner, *bs, *(weight for weight, _, _ in frozen))
        ctx.scales = [scale for _, _, scale in frozen]
        return tuple(ys)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *d_ys: Tensor) -> tuple[Tensor | None, ...]:  # type: ignore[override]  # Any: as above
        x, a, inner, *rest = ctx.saved_tensors
        bs, weights = rest[: len(d_ys)], rest[len(d_ys) :]
        rows, d_ys = x.reshape(-1, x.shape[-1]), tuple(dy.reshape(-1, dy.shape[-1]) for dy in d_ys)
        d_inner = torch.cat([(dy @ b).mul_(scale) for dy, b, scale in zip(d_ys, bs, ctx.scales, strict=True)], 1)
        parts = zip(d_ys, inner.split(_ranks(bs), 1), ctx.scales, strict=True)
        d_bs = [_outer(part, dy).t().mul_(scale) for dy, part, scale in parts]
        d_adapters = zip(_outer(d_inner, rows).split(_ranks(bs)), d_bs, strict=True)
        d_x = None
        if ctx.needs_input_grad[0]:
            d_x = d_inner @ a
            for dy, weight in zip(d_ys, weights, strict=True):
                d_x = times(dy, weight, d_x)
            d_x = d_x.view(x.shape)
        return d_x, None, *(part for both in d_adapters for part in both)


class _SwiGlu(torch.autograd.Function):
    """down(silu(gate(x)) · up(x)), each of the three with its LoRA update; keeps x, gate and up, and not their product.

    `adapters` are A and B of gate, up and down, in this order.
    """

    @staticmethod
    def forward(ctx: Any, x: Tensor, weights: tuple[Tensor, Tensor, Tensor], scale: float, *adapters: Tensor) -> Tensor:  # type: ignore[override]  # Any: as above
        rows = x.reshape(-1, x.shape[-1])
        a_gate, b_gate, a_up, b_up, a_down, b_down = (part.to(x.dtype) for part in adapters)
        rank, a_both = len(a_gate), torch.cat([a_gate, a_up])
        inner = times(rows, a_both.t())
        gate = times(rows, weights[0].t()).addmm_(inner[:, :rank], b_gate.t(), alpha=scale)
        up = times(rows, weights[1].t()).addmm_(inner[:, rank:], b_up.t(), alpha=scale)
        both = nn.functional.silu(gate).mul_(up)
        inner_down = times(both, a_down.t())
        y = times(both, weights[2].t()).addmm_(inner_down, b_down.t(), alpha=scale)
        ctx.save_for_backward(x, gate, up, inner, inner_down, *weights, a_both, b_gate, b_up, a_down, b_down)
        ctx.scale = scale
        return y.view(x.shape)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, dy: Tensor) -> tuple[Tensor | None, ...]:  # type: ignore[override]  # Any: as above
        x, gate, up, inner, inner_down, w_gate, w_up, w_down, a_both, b_gate, b_up, a_down, b_down = ctx.saved_tensors
        rows, dy, rank, scale = x.reshape(-1, x.shape[-1]), dy.reshape(-1, dy.shape[-1]), b_gate.shape[1], ctx.scale
        d_inner_down = (dy @ b_down).mul_(scale)
        d_both = times(dy, w_down).addmm_(d_inner_down, a_down)
        d_b_down = _outer(inner_down, dy).t().mul_(scale)
        d_up = nn.functional.silu(gate)
        d_a_down = _outer(d_inner_down, d_up * up)
        d_gate = torch.ops.aten.silu_backward(d_both * up, gate)
        d_up.mul_(d_both)
        d_inner = torch.cat([d_gate @ b_gate, d_up @ b_up], dim=1).mul_(scale)
        d_b_gate = _outer(inner[:, :rank], d_gate).t().mul_(scale)
        d_b_up = _outer(inner[:, rank:], d_up).t().mul_(scale)
        d_a = _outer(d_inner, rows)
        d_x = times(d_up, w_up, times(d_gate, w_gate)).addmm_(d_inner, a_both).view(x.shape)
        return d_x, None, None, d_a[:rank], d_b_gate, d_a[rank:], d_b_up, d_a_down, d_b_down


class _RmsNorm(torch.autograd.Function):
    """w · x / √(mean(x²) + ε), keeping x and one number per row."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor, epsilon: float) -> Tensor:  # type: ignore[override]  # Any: as above
        length = torch.linalg.vector_norm(x, dim=-1, keepdim=True, dtype=torch.float32)
        inverse = length.square_().div_(x.shape[-1]).add_(epsilon).rsqrt_()
        ctx.save_for_backward(x, weight, inverse)
        return (x * inverse).to(x.dtype).mul_(weight)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, dy: Tensor) -> tuple[Tensor | None, ...]:  # type: ignore[override]  # Any: as above
        x, weight, inverse = ctx.saved_tensors
        scaled = dy * weight
        share = torch.linalg.vecdot(scaled, x)[..., None].float().mul_(inverse.pow(3)).div_(-x.shape[-1])
        return scaled.mul_(inverse).addcmul_(x, share), None, None


def _ranks(bs: list[Tensor]) -> list[int]:
    return [b.shape[1] for b in bs]


def _outer(narrow: Tensor, rows: Tensor) -> Tensor:
    """Answer narrowᵀ·rows as float32; the other way round, a narrow result, is up to a third slower on a CPU."""
    return (narrow.t() @ rows).float()


def speed_up(model: nn.Module) -> int:
    """Give the layers of a model that are plain enough their fast forms, and answer how many were changed.

    DoRA, several adapters, biases in an MLP, other families and other variants keep PEFT's and transformers' own code.
    """
    changed = 0
    for module in model.modules():
        fast = _fast_form(module)
        if fast:
            module.forward = fast
            changed += 1
    return changed


def takes_one_row(model: nn.Module) -> bool:
    """Tell whether texts may lie in a single row: where attention is ours, and none looks further than it may."""
    fast = any(isinstance(module.__dict__.get("forward"), _FastAttention) for module in model.modules())
    return fast and not getattr(cast(Any, model).config, "sliding_window", None)  # Any: every model has a config


def slow_down(model: nn.Module) -> None:
    """Take the fast forms away again."""
    for module in model.modules():
        if isinstance(module.__dict__.get("forward"), _FastLinear | _FastMlp | _FastNorm | _FastAttention):
            del module.forward


def release(model: PeftModel) -> None:
    """Give the base back as it was before it got an adapter and fast layers."""
    slow_down(model)
    model.unload()


def _fast_form(module: nn.Module) -> _FastLinear | _FastMlp | _FastNorm | _FastAttention | None:
    name = type(module).__name__
    if isinstance(module, Linear):
        return _FastLinear(module) if _is_plain(module) else None
    if name in NORMS:
        return _FastNorm(module)
    if name in ATTENTIONS and not cast(Any, module).attention_dropout:  # Any: as in _FastAttention
        return _FastAttention(module)
    if name in MLPS and isinstance(getattr(module, "act_fn", None), nn.SiLU | _silu_type()):
        mlp: Any = module  # Any: one of several generated classes
        layers = [mlp.gate_proj, mlp.up_proj, mlp.down_proj]
        if all(isinstance(layer, Linear) and _is_plain(layer, biased=False) for layer in layers):
            return _FastMlp(module, layers)
    return None


def _silu_type() -> type[nn.Module]:
    from transformers.activations import ACT2FN

    return type(ACT2FN["silu"])


def _is_plain(layer: Linear, *, biased: bool = True) -> bool:
    base: Any = layer.base_layer  # Any: PEFT's type is wider than what it holds; 4-bit layers inherit from nn.Linear
    plain = type(base) is nn.Linear and list(layer.lora_A) == ["default"] and not layer.lora_variant
    return plain and (biased or base.bias is None)


def _is_taught(layer: Linear) -> bool:
    return not (layer.disable_adapters or layer.merged)


def _adapter(layer: Linear) -> tuple[Tensor, Tensor]:
    """Answer A with some input columns dropped, and B."""
    a, b = cast(Tensor, layer.lora_A["default"].weight), cast(Tensor, layer.lora_B["default"].weight)
    dropout = layer.lora_dropout["default"]
    p = dropout.p if isinstance(dropout, nn.Dropout) and layer.training else 0.0
    if p:
        kept = torch.rand(a.shape[1], device=a.device) >= p
        a = a * (kept / (1 - p))
    return a, b


def _taught(x: Tensor, *layers: Linear) -> tuple[Tensor, ...]:
    """Answer what several layers with adapters make of the same input."""
    bases = [cast(Any, layer.base_layer) for layer in layers]  # Any: nn.Linear, which _is_plain has seen
    scales = [layer.scaling["default"] for layer in layers]
    frozen = tuple((base.weight, base.bias, scale) for base, scale in zip(bases, scales, strict=True))
    return _AddLora.apply(x, frozen, *(part for layer in layers for part in _adapter(layer)))  # type: ignore[no-any-return]


class _FastLinear:
    """Calls the fast product while the adapter is active, PEFT's own code otherwise."""

    def __init__(self, layer: Linear) -> None:
        self.layer = layer
        self.slow = layer.forward

    def __call__(self, x: Tensor, *args: Any, **kwargs: Any) -> Tensor:  # Any: PEFT's own signature
        layer = self.layer
        if not _is_taught(layer) or args or kwargs:
            return self.slow(x, *args, **kwargs)
        return _taught(x, layer)[0]


class _FastMlp:
    """Calls the fast block while its adapters are active, transformers' own code otherwise."""

    def __init__(self, mlp: Any, layers: list[Linear]) -> None:  # Any: one of several generated classes
        self.layers = layers
        self.slow = mlp.forward

    def __call__(self, x: Tensor) -> Tensor:
        scales = {layer.scaling["default"] for layer in self.layers}
        if not all(map(_is_taught, self.layers)) or len(scales) > 1:
            return self.slow(x)
        weights = tuple(cast(Any, layer.base_layer).weight for layer in self.layers)  # Any: as in _FastLinear
        adapters = [part for layer in self.layers for part in _adapter(layer)]
        return _SwiGlu.apply(x, weights, scales.pop(), *adapters)  # type: ignore[no-any-return]


class _FastAttention:
    """Calls the fast block for texts without a cache, a window or a mask, transformers' own code otherwise."""

    def __init__(self, attention: Any) -> None:  # Any: one of several generated classes
        self.attention = attention
        self.layers: list[nn.Module] = [attention.q_proj, attention.k_proj, attention.v_proj]
        self.slow = attention.forward

    def __call__(
        self,
        hidden_states: Tensor,
        position_embeddings: tuple[Tensor, Tensor],
        attention_mask: Tensor | None = None,
        past_key_values: Any = None,  # Any: a cache of whatever kind
        **options: Any,  # Any: whatever a model passes on
    ) -> tuple[Tensor, None]:
        told = is_lengths(attention_mask)
        if past_key_values is not None or not (told or attention_mask is None):
            return self.slow(hidden_states, position_embeddings, attention_mask, past_key_values, **options)
        batch, tokens, _ = hidden_states.shape
        lengths = attention_mask.flatten().tolist() if is_lengths(attention_mask) else [0] + [tokens] * batch
        attention = self.attention
        query, key, value = (
            side.view(batch * tokens, -1, attention.head_dim) for side in self._projected(hidden_states)
        )
        if hasattr(attention, "q_norm"):
            query, key = attention.q_norm(query), attention.k_norm(key)
        cos, sin = (table.expand(batch, -1, -1).flatten(0, 1) for table in position_embeddings)
        found = attend(rotate(query, cos, sin), rotate(key, cos, sin), value, lengths, attention.scaling)
        return attention.o_proj(found.view(batch, tokens, -1)), None

    def _projected(self, x: Tensor) -> tuple[Tensor, ...]:
        plain = [layer for layer in self.layers if isinstance(layer, Linear) and _is_plain(layer) and _is_taught(layer)]
        return _taught(x, *plain) if len(plain) == len(self.layers) else tuple(layer(x) for layer in self.layers)


class _FastNorm:
    def __init__(self, norm: Any) -> None:  # Any: one of several generated classes with the same two fields
        self.norm = norm

    def __call__(self, x: Tensor) -> Tensor:
        return _RmsNorm.apply(x, self.norm.weight, self.norm.variance_epsilon)  # type: ignore[no-any-return]
