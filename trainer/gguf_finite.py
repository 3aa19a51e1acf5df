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
PLAIN = {"F32": ("<u4", 0x7F800000), "F16": HALF, "BF16": ("<u2", 0x7F80)}

# Where the half-precision scales lie in a block, in bytes. Left out: IQ1_M, whose scale is spread over single bits,
# and types whose scales cannot be other than finite.
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


def check_finite(file: BinaryIO, path: Path, tensors: Iterable[TensorInfo]) -> None:
    """Read tensors in pieces, and raise BadGguf at the first weight that is NaN or infinity."""
    for tensor in tensors:
        code, exponent = PLAIN.get(tensor.type.name, HALF)
        places = (0,) if tensor.type.name in PLAIN else SCALES.get(tensor.type.name, ())
        if any(_any_at(file, path, tensor, place, code, exponent) for place in places):
            raise BadGguf(
                f"{path.name} holds weights that are no numbers (NaN or infinity) in {tensor.name}. "
                "Such a model answers nonsense: train or convert it again."
            )


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
