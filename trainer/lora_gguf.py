"""Convert a PEFT adapter into an adapter GGUF for llama.cpp.

llama.cpp's own converter ignores rank-stabilised scaling and alpha patterns without a word, needs the base's
Hugging Face folder, and writes local paths into the file. This one needs only the base GGUF's summary, checks
every tensor against it, and refuses what an adapter GGUF cannot say.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np
from gguf import MODEL_ARCH, MODEL_ARCH_NAMES, TensorNameMap, get_tensor_name_map

from trainer.archs import PARTS, PERMUTES, permute
from trainer.ggml_types import BY_NAME
from trainer.gguf_summary import GgufSummary
from trainer.gguf_write import NewTensor, setting, write_header, write_tensor
from trainer.peft_files import CannotConvert, Floats, PeftConfig, read_config, read_halves
from trainer.quantize import encode
from trainer.rundir import written_whole

__all__ = [
    "CannotConvert",
    "Pair",
    "check_fits",
    "checked_metadata",
    "convert_adapter",
    "permuted_heads",
    "read_peft",
    "tensors_of",
]

Dtype = Literal["F32", "F16"]

ALIGNMENT = 32
OWN_LAYER = re.compile(r"model\.layers\.(?P<block>\d+)\.(?P<layer>.+)")


@dataclass(frozen=True)
class Pair:
    """One layer's update, scale · B·A, with B's rows in GGUF order: A is (r, in), B is (out, r)."""

    name: str
    a: Floats
    b: Floats
    scale: float


def convert_adapter(
    adapter_dir: Path,
    base: GgufSummary,
    out: Path,
    dtype: Dtype = "F32",
    metadata: Mapping[str, str] | None = None,
) -> None:
    """Write the PEFT adapter in `adapter_dir` as an adapter GGUF for this base.

    `metadata` may hold general.name and curator.* texts; nothing else about this machine gets into the file.
    Raises CannotConvert with a sentence, and leaves no file then.
    """
    metadata = checked_metadata(metadata)
    pairs = read_peft(adapter_dir, base)
    alpha = _common_alpha(pairs)
    if not alpha:  # llama.cpp takes alpha 0 as "scale 1", so each B carries its own scale
        pairs = [Pair(p.name, p.a, p.b * np.float32(p.scale), 1.0) for p in pairs]
    kind = BY_NAME[dtype]
    settings = [
        setting("general.architecture", base.architecture),
        setting("general.type", "adapter"),
        setting("adapter.type", "lora"),
        setting("adapter.lora.alpha", float(alpha)),
        *(setting(key, value) for key, value in metadata.items()),
    ]
    halves = [(f"{p.name}.lora_{half}", array) for p in pairs for half, array in (("a", p.a), ("b", p.b))]
    tensors = [NewTensor(name, array.shape[::-1], kind) for name, array in halves]
    with written_whole(out) as draft, draft.open("wb") as file:
        write_header(file, settings, tensors, version=3, alignment=ALIGNMENT)
        for tensor, (_, array) in zip(tensors, halves, strict=True):
            data = encode(array, kind)
            if dtype == "F16" and not np.isfinite(data.view(np.float16)).all():
                raise CannotConvert(f"The update of {tensor.name} is too large for F16. Convert it to F32.")
            write_tensor(file, tensor, [data.data], ALIGNMENT)


def read_peft(adapter_dir: Path, base: GgufSummary) -> list[Pair]:
    """Read and check a PEFT adapter folder; answer its pairs in the base's tensor order."""
    if base.general_type != "model":
        raise CannotConvert(f"{base.path.name} is not a model but of type {base.general_type!r}. Choose the base.")
    if base.architecture not in PERMUTES:
        raise CannotConvert(
            f"Adapters for the architecture {base.architecture!r} cannot be converted yet. "
            f"Choose a base of one of these: {', '.join(PERMUTES)}."
        )
    config = read_config(adapter_dir)
    halves = read_halves(adapter_dir)
    names = _name_map(base)
    listed = [pair for module, found in halves for pair in _pairs(module, found, config, names, base)]
    pairs = {pair.name: pair for pair in listed}
    if len(pairs) != len(listed):
        raise CannotConvert("Two layers of the adapter have the same name in the GGUF file. Train it again.")
    return [pairs[name] for name in base.tensors if name in pairs]


def checked_metadata(metadata: Mapping[str, str] | None) -> dict[str, str]:
    """Let through only general.name and our own keys."""
    metadata = dict(metadata or {})
    for key in metadata:
        if key != "general.name" and not key.startswith("curator."):
            raise ValueError(f"{key} is not ours to write")
    return metadata


def check_fits(name: str, a_shape: tuple[int, ...], b_shape: tuple[int, ...], base: GgufSummary) -> None:
    """Refuse a pair, A (r, in) and B (out, r), that does not fit the base's tensor."""
    tensor = base.tensors.get(name)
    if tensor is None or not name.startswith("blk."):
        raise CannotConvert(
            f"The adapter changes {name}, which {base.path.name} does not have or which cannot be changed. "
            "It was probably trained on another base: choose that one."
        )
    expected = tensor.shape[::-1]
    if len(a_shape) != 2 or len(b_shape) != 2 or a_shape[0] != b_shape[1] or (b_shape[0], a_shape[1]) != expected:
        raise CannotConvert(
            f"The adapter's update of {name}, {b_shape} by {a_shape}, does not fit the base's {expected}. "
            "It was trained on another base: choose that one."
        )


def _pairs(
    module: str, found: Mapping[str, Floats], config: PeftConfig, names: TensorNameMap, base: GgufSummary
) -> Iterator[Pair]:
    """Yield a layer's update, or that of each tensor it becomes: each has its own rows of B, and all of A."""
    a, b = found["A"], found["B"]
    try:
        rank, scale = config.rank_of(module), config.scale_of(module)
    except re.error:
        raise CannotConvert("The adapter's rank or alpha pattern is not readable. Train it again.") from None
    if len(a) != rank:
        raise CannotConvert(f"The adapter's {module} has rank {len(a)} and its settings say {rank}. Copy it again.")
    tensors = _tensors_of(module, names, base)
    for name, rows in zip(tensors, np.array_split(b, len(tensors)), strict=True):
        check_fits(name, a.shape, rows.shape, base)
        heads = permuted_heads(name, base)
        yield Pair(name, a, permute(rows, heads) if heads else rows, scale)


def tensors_of(modules: Iterable[str], base: GgufSummary) -> dict[str, tuple[str, ...]]:
    """Give the tensors in the base's GGUF file that each layer of the model became, by the layer's name."""
    names = _name_map(base)
    return {module: _tensors_of(module, names, base) for module in modules}


def permuted_heads(name: str, base: GgufSummary) -> int | None:
    """Give the number of heads by which a tensor's rows are permuted; None where they keep their order."""
    if not PERMUTES[base.architecture] or not name.endswith((".attn_q.weight", ".attn_k.weight")):
        return None
    count = base.heads(name)
    if not count or base.tensors[name].rows % (2 * count):
        raise CannotConvert(f"{base.path.name} does not say how many attention heads it has. Choose another base.")
    return count


def _tensors_of(module: str, names: TensorNameMap, base: GgufSummary) -> tuple[str, ...]:
    own = OWN_LAYER.fullmatch(module)
    if own and (parts := PARTS.get(base.architecture, {}).get(own["layer"])):
        return tuple(f"blk.{own['block']}.{part}.weight" for part in parts)
    name = names.get_name(f"{module.replace('language_model.', '')}.weight", (".weight",))
    if name is None:
        raise CannotConvert(
            f"The adapter changes the layer {module}, which is unknown for the architecture {base.architecture!r}. "
            "It was trained on another kind of model: choose that base."
        )
    return (name,)


def _name_map(base: GgufSummary) -> TensorNameMap:
    by_name = {name: arch for arch, name in MODEL_ARCH_NAMES.items()}
    arch: MODEL_ARCH = by_name[base.architecture]
    blocks = base.block_count
    if not blocks or blocks > len(base.tensors):
        raise CannotConvert(f"{base.path.name} does not say how many blocks it has. Choose another base.")
    return get_tensor_name_map(arch, blocks)


def _common_alpha(pairs: list[Pair]) -> float:
    """Give the one alpha for which alpha / r is every pair's scale; 0 when there is none."""
    alphas = {np.float32(pair.scale * len(pair.a)) for pair in pairs}
    return float(alphas.pop()) if len(alphas) == 1 else 0.0
