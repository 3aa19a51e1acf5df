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

from trainer.fast_attention import ATTENTION

NORMS = ("LlamaRMSNorm", "MistralRMSNorm", "Qwen2RMSNorm", "Qwen3RMSNorm")
MLPS = ("LlamaMLP", "MistralMLP", "Qwen2MLP", "Qwen3MLP")
ATTENTIONS = ("LlamaForCausalLM", "MistralForCausalLM", "Qwen2ForCausalLM", "Qwen3ForCausalLM")


class _AddLora(torch.autograd.Function):
    """y = xWᵀ + b + s·(x(A∘m)ᵀ)Bᵀ with W and b frozen."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor, bias: Tensor | None, a: Tensor, b: Tensor, scale: float) -> Tensor:  # type: ignore[override]  # Any: torch's context has no public type
        rows, a, b = x.reshape(-1, x.shape[-1]), a.to(x.dtype), b.to(x.dtype)
        inner = rows @ a.t()
        y = torch.addmm(bias, rows, weight.t()) if bias is not None else rows @ weight.t()
        y.addmm_(inner, b.t(), alpha=scale)
        ctx.save_for_backward(x, weight, a, b, inner)
        ctx.scale = scale
        return y.view(*x.shape[:-1], -1)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, dy: Tensor) -> tuple[Tensor | None, ...]:  # type: ignore[override]  # Any: as above
        x, weight, a, b, inner = ctx.saved_tensors
        rows, dy = x.reshape(-1, x.shape[-1]), dy.reshape(-1, dy.shape[-1])
        d_inner = (dy @ b).mul_(ctx.scale)
        d_b = (dy.t() @ inner).float().mul_(ctx.scale)
        d_a = _outer(d_inner, rows)
        d_x = (dy @ weight).addmm_(d_inner, a).view(x.shape) if ctx.needs_input_grad[0] else None
        return d_x, None, None, d_a, d_b, None


class _SwiGlu(torch.autograd.Function):
    """down(silu(gate(x)) · up(x)), each of the three with its LoRA update; keeps x, gate and up, and not their product.

    `adapters` are A and B of gate, up and down, in this order.
    """

    @staticmethod
    def forward(ctx: Any, x: Tensor, weights: tuple[Tensor, Tensor, Tensor], scale: float, *adapters: Tensor) -> Tensor:  # type: ignore[override]  # Any: as above
        rows = x.reshape(-1, x.shape[-1])
        a_gate, b_gate, a_up, b_up, a_down, b_down = (part.to(x.dtype) for part in adapters)
        rank, a_both = len(a_gate), torch.cat([a_gate, a_up])
        inner = rows @ a_both.t()
        gate = (rows @ weights[0].t()).addmm_(inner[:, :rank], b_gate.t(), alpha=scale)
        up = (rows @ weights[1].t()).addmm_(inner[:, rank:], b_up.t(), alpha=scale)
        both = nn.functional.silu(gate).mul_(up)
        inner_down = both @ a_down.t()
        y = (both @ weights[2].t()).addmm_(inner_down, b_down.t(), alpha=scale)
        ctx.save_for_backward(x, gate, up, inner, inner_down, *weights, a_both, b_gate, b_up, a_down, b_down)
        ctx.scale = scale
        return y.view(x.shape)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, dy: Tensor) -> tuple[Tensor | None, ...]:  # type: ignore[override]  # Any: as above
        x, gate, up, inner, inner_down, w_gate, w_up, w_down, a_both, b_gate, b_up, a_down, b_down = ctx.saved_tensors
        rows, dy, rank, scale = x.reshape(-1, x.shape[-1]), dy.reshape(-1, dy.shape[-1]), b_gate.shape[1], ctx.scale
        d_inner_down = (dy @ b_down).mul_(scale)
        d_both = (dy @ w_down).addmm_(d_inner_down, a_down)
        d_b_down = (dy.t() @ inner_down).float().mul_(scale)
        d_up = nn.functional.silu(gate)
        d_a_down = _outer(d_inner_down, d_up * up)
        d_gate = torch.ops.aten.silu_backward(d_both * up, gate)
        d_up.mul_(d_both)
        d_inner = torch.cat([d_gate @ b_gate, d_up @ b_up], dim=1).mul_(scale)
        d_b_gate = (d_gate.t() @ inner[:, :rank]).float().mul_(scale)
        d_b_up = (d_up.t() @ inner[:, rank:]).float().mul_(scale)
        d_a = _outer(d_inner, rows)
        d_x = (d_gate @ w_gate).addmm_(d_up, w_up).addmm_(d_inner, a_both).view(x.shape)
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
        return (scaled * inverse).addcmul_(x, share).to(x.dtype), None, None


def _outer(d_inner: Tensor, rows: Tensor) -> Tensor:
    """Answer d_innerᵀ·rows as float32; written the other way round because narrow results are slow on a CPU."""
    return (rows.t() @ d_inner).t().float()


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
    if any(type(module).__name__ in ATTENTIONS for module in model.modules()):
        cast(Any, model).config._attn_implementation = ATTENTION  # Any: every transformers model has a config
    return changed


def slow_down(model: nn.Module) -> None:
    """Take the fast forms away again."""
    for module in model.modules():
        if isinstance(module.__dict__.get("forward"), _FastLinear | _FastMlp | _FastNorm):
            del module.forward
    if getattr(cast(Any, model).config, "_attn_implementation", "") == ATTENTION:  # Any: as above
        cast(Any, model).config._attn_implementation = "sdpa"


def release(model: PeftModel) -> None:
    """Give the base back as it was before it got an adapter and fast layers."""
    slow_down(model)
    model.unload()


def _fast_form(module: nn.Module) -> _FastLinear | _FastMlp | _FastNorm | None:
    name = type(module).__name__
    if isinstance(module, Linear):
        return _FastLinear(module) if _is_plain(module) else None
    if name in NORMS:
        return _FastNorm(module)
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


class _FastLinear:
    """Calls the fast product while the adapter is active, PEFT's own code otherwise."""

    def __init__(self, layer: Linear) -> None:
        self.layer = layer
        self.slow = layer.forward

    def __call__(self, x: Tensor, *args: Any, **kwargs: Any) -> Tensor:  # Any: PEFT's own signature
        layer = self.layer
        if not _is_taught(layer) or args or kwargs:
            return self.slow(x, *args, **kwargs)
        base: Any = layer.base_layer  # Any: nn.Linear, which _is_plain has seen
        return _AddLora.apply(x, base.weight, base.bias, *_adapter(layer), layer.scaling["default"])  # type: ignore[no-any-return]


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


class _FastNorm:
    def __init__(self, norm: Any) -> None:  # Any: one of several generated classes with the same two fields
        self.norm = norm

    def __call__(self, x: Tensor) -> Tensor:
        return _RmsNorm.apply(x, self.norm.weight, self.norm.variance_epsilon)  # type: ignore[no-any-return]
