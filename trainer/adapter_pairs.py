"""Match an adapter GGUF with the base that it was trained on."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from trainer.gguf_summary import GgufSummary, TensorInfo
from trainer.lora_gguf import CannotConvert, check_fits
from trainer.quantize import can_decode


@dataclass(frozen=True)
class Halves:
    """Where an adapter's update of one tensor lies in its file: scale · B·A."""

    a: TensorInfo
    b: TensorInfo
    scale: float


def adapter_pairs(adapter: GgufSummary, base: GgufSummary) -> dict[str, Halves]:
    """Match an adapter GGUF with its base, or raise CannotConvert; llama.cpp would end the process on some of these."""
    name = adapter.path.name
    if adapter.general_type != "adapter" or adapter.text("adapter.type") != "lora":
        raise CannotConvert(f"{name} is not a LoRA adapter. Choose the file that a training run wrote.")
    if adapter.architecture != base.architecture:
        raise CannotConvert(
            f"The adapter is for the architecture {adapter.architecture!r} and the base is "
            f"{base.architecture!r}. Choose the base it was trained on."
        )
    pairs: dict[str, Halves] = {}
    alpha = adapter.values.get("adapter.lora.alpha", 0.0)
    if not isinstance(alpha, int | float) or not np.isfinite(alpha):
        raise CannotConvert(f"{name} has no usable alpha. Convert the adapter again.")
    for tensor in adapter.tensors.values():
        stem, _, half = tensor.name.rpartition(".lora_")
        other = adapter.tensors.get(f"{stem}.lora_{'b' if half == 'a' else 'a'}")
        if half not in ("a", "b") or other is None:
            raise CannotConvert(f"{name} has the unexpected tensor {tensor.name}. Convert the adapter again.")
        if tensor.type.name == "F64" or not can_decode(tensor.type):
            raise CannotConvert(f"{tensor.name} is of type {tensor.type.name}. Convert the adapter again to F32.")
        if half == "a":
            check_fits(stem, tensor.shape[::-1], other.shape[::-1], base)
            rank = tensor.shape[1]
            pairs[stem] = Halves(tensor, other, alpha / rank if alpha else 1.0)  # llama.cpp src/llama-adapter.h
    return pairs
