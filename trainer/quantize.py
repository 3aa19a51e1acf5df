"""Turn weights into any GGUF tensor type and back.

The gguf package encodes plain and 32-block types in numpy. K-quants it can only read; those go through
ggml's own C function, so a Q4_K_M base can become a Q4_K_M model of the same size.
"""

from __future__ import annotations

import ctypes
import sys
from functools import cache
from importlib.util import find_spec
from math import prod
from pathlib import Path
from typing import Any, Literal

import numpy as np
from gguf import GGMLQuantizationType
from gguf.quants import dequantize, quantize
from numpy.typing import NDArray

from trainer.ggml_types import BY_NAME, TensorType

Coder = Literal["gguf", "ggml"]
Bytes = NDArray[np.uint8]
Floats = NDArray[np.float32]

# Who encodes which type. What is missing can be read but not written: IQ1, IQ2 and IQ3 need an importance matrix
# to be any good, and nobody merges into ternary or integer types.
CODERS: dict[str, Coder] = {
    "F32": "gguf",
    "F16": "gguf",
    "BF16": "gguf",
    "Q8_0": "gguf",
    "Q4_0": "gguf",
    "Q4_1": "gguf",
    "Q5_0": "gguf",
    "Q5_1": "gguf",
    "Q2_K": "ggml",
    "Q3_K": "ggml",
    "Q4_K": "ggml",
    "Q5_K": "ggml",
    "Q6_K": "ggml",
    "IQ4_NL": "ggml",
    "IQ4_XS": "ggml",
}
LIBRARY = {"win32": "ggml-base.dll", "darwin": "libggml-base.dylib"}.get(sys.platform, "libggml-base.so")


class CannotEncode(Exception):  # noqa: N818 - named as people say it, like curator.errors
    """A type that cannot be written here; the text is a sentence for people."""


def type_named(name: str) -> TensorType:
    """Give the tensor type of that name, or raise CannotEncode."""
    if name not in BY_NAME:
        raise CannotEncode(f"There is no tensor type {name!r}. Choose one of {', '.join(CODERS)}.")
    return BY_NAME[name]


def check_can_encode(kind: TensorType) -> None:
    """Raise CannotEncode for a type that cannot be written on this machine, before any work is done."""
    if kind.name not in CODERS:
        raise CannotEncode(f"Weights of type {kind.name} can be read but not written. Choose Q8_0 or F16.")
    if CODERS[kind.name] == "ggml" and ggml() is None:
        raise CannotEncode(
            f"Writing weights of type {kind.name} needs the package libggml-python. "
            "Install it with pip install 'curator[llamacpp]', or choose Q8_0 or F16."
        )


def fits(kind: TensorType, width: int) -> bool:
    """Tell whether a row of `width` weights divides into the type's blocks."""
    return width % kind.block == 0


def encode(weights: Floats, kind: TensorType) -> Bytes:
    """Encode weights (…, width) as bytes (…, bytes a row); the width must fit the type's blocks."""
    check_can_encode(kind)
    if not fits(kind, weights.shape[-1]):
        raise CannotEncode(f"Rows of {weights.shape[-1]} weights do not divide into the blocks of {kind.name}.")
    if CODERS[kind.name] == "ggml":
        return _encode_with_ggml(weights, kind)
    with np.errstate(over="ignore"):  # an overflow to infinity is the caller's to find, with a sentence
        return np.ascontiguousarray(quantize(weights, GGMLQuantizationType(kind.number))).view(np.uint8)


def decode(data: Bytes, kind: TensorType) -> Floats:
    """Decode bytes (…, bytes a row) into float32 weights (…, width)."""
    return dequantize(data, GGMLQuantizationType(kind.number))


def can_decode(kind: TensorType) -> bool:
    """Tell whether `decode` knows the type."""
    try:
        decode(np.zeros((1, kind.size), np.uint8), kind)
    except NotImplementedError:
        return False
    return True


def _encode_with_ggml(weights: Floats, kind: TensorType) -> Bytes:
    library = ggml()
    assert library is not None  # noqa: S101 - check_can_encode has seen it
    source = np.ascontiguousarray(weights, np.float32)
    width = source.shape[-1]
    out = np.empty((*source.shape[:-1], kind.row_bytes(width)), np.uint8)
    rows = prod(source.shape[:-1])
    written = library.ggml_quantize_chunk(kind.number, source.ctypes.data, out.ctypes.data, 0, rows, width, None)
    if written != out.nbytes:
        raise CannotEncode(f"ggml wrote {written} bytes of type {kind.name} where {out.nbytes} were due.")
    return out


@cache
def ggml() -> Any:  # Any: a ctypes library has no types
    """Load ggml's quantisers from libggml-python; None when it is not installed.

    By path and not through its package: importing that would set up every backend.
    size_t ggml_quantize_chunk(type, src, dst, start, nrows, n_per_row, imatrix), ggml.h.
    """
    found = find_spec("libggml")
    for folder in (found.submodule_search_locations or ()) if found else ():
        for path in sorted(Path(folder).glob(f"*/{LIBRARY}")):
            library = ctypes.CDLL(str(path))
            library.ggml_quantize_chunk.restype = ctypes.c_size_t
            library.ggml_quantize_chunk.argtypes = [
                ctypes.c_int,
                ctypes.c_void_p,
                ctypes.c_void_p,
                ctypes.c_int64,
                ctypes.c_int64,
                ctypes.c_int64,
                ctypes.c_void_p,
            ]
            return library
    return None
