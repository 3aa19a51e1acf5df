"""Refuse GGUF weights that are no numbers, in plain types and in the scales of quantised ones.

One NaN makes every answer nonsense, and a runtime says nothing. Layouts: ggml-common.h's block structures.
"""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import BinaryIO

import numpy as np

from trainer.ggml_types import TensorType
from trainer.gguf_summary import BadGguf, TensorInfo

CHUNK = 1 << 20
HALF = ("<u2", 0x7C00)  # an exponent of all ones is NaN or infinity
PLAIN = {"F64": ("<u8", 0x7FF0 << 48), "F32": ("<u4", 0x7F800000), "F16": HALF, "BF16": ("<u2", 0x7F80)}

# Where the half-precision scales lie in a block, in bytes.
SCALES: dict[str, tuple[int, ...]] = {
    "Q4_0": (0,),
    "Q4_1": (0, 2),
    "Q5_0": (0,),
    "Q5_1": (0, 2),
    "Q8_0": (0,),
    "Q2_K": (80, 82),
    "Q3_K": (108,),
    "Q4_K": (0, 2),
    "Q5_K": (0, 2),
    "Q6_K": (208,),
    "IQ2_XXS": (0,),
    "IQ2_XS": (0,),
    "IQ2_S": (0,),
    "IQ3_XXS": (0,),
    "IQ3_S": (0,),
    "IQ1_S": (0,),
    "IQ4_NL": (0,),
    "IQ4_XS": (0,),
    "TQ1_0": (52,),
    "TQ2_0": (64,),
    "Q1_0": (0,),
}
# Scales of other kinds: where each lies, as what it is read, and the bits that are all ones when it is no number.
# IQ1_M has a half in the upper four bits of four 16-bit words, its exponent in the last two of them. MXFP4 has a power
# of two (E8M0): 255 is NaN, 253 takes weights to infinity. NVFP4 has four of E4M3, whose one NaN is all ones.
OTHERS: dict[str, tuple[tuple[int, str, int], ...]] = {
    "IQ1_M": ((52, "<u4", 0x7000C000),),
    "MXFP4": ((0, "u1", 0xFC),),
    "NVFP4": tuple((place, "u1", 0x7F) for place in range(4)),
}


def check_finite(file: BinaryIO, path: Path, tensors: Iterable[TensorInfo]) -> None:
    """Read tensors in pieces, and raise BadGguf at the first weight that is NaN or infinity."""
    for tensor in tensors:
        if any(_any_at(file, path, tensor, *where) for where in _numbers_of(tensor.type)):
            raise BadGguf(
                f"{path.name} holds weights that are no numbers (NaN or infinity) in {tensor.name}. "
                "Such a model answers nonsense: train or convert it again."
            )


def _numbers_of(kind: TensorType) -> tuple[tuple[int, str, int], ...]:
    """Answer where a type's block holds what may be no number, as in OTHERS."""
    if kind.name in OTHERS:
        return OTHERS[kind.name]
    code, exponent = PLAIN.get(kind.name, HALF)
    places = (0,) if kind.name in PLAIN else SCALES.get(kind.name, ())
    return tuple((place, code, exponent) for place in places)


def _any_at(file: BinaryIO, path: Path, tensor: TensorInfo, place: int, code: str, exponent: int) -> bool:
    """Tell whether the number at one place of any block is NaN or infinity."""
    kind: TensorType = tensor.type
    number = np.dtype(code)
    file.seek(tensor.start)
    left = tensor.size
    while left:
        piece = file.read(min(CHUNK // kind.size * kind.size, left))
        if len(piece) % kind.size or not piece:
            raise BadGguf(f"{path.name} became shorter while it was read. Copy or download it again.")
        left -= len(piece)
        blocks = np.frombuffer(piece, np.uint8).reshape(-1, kind.size)[:, place : place + number.itemsize]
        bits = np.ascontiguousarray(blocks).view(number) & number.type(exponent)
        if bool((bits == exponent).any()):
            return True
    return False
