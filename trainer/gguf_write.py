"""Write a GGUF file tensor by tensor, so that memory does not grow with the model.

The gguf package's writer holds the whole output, and cannot carry another file's settings over byte for byte.
"""

from __future__ import annotations

import struct
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from math import prod
from typing import BinaryIO

from trainer.ggml_types import TensorType
from trainer.gguf_summary import TensorInfo

Piece = bytes | memoryview

UINT32, FLOAT32, STRING = 4, 6, 8


@dataclass(frozen=True)
class NewTensor:
    """One tensor to be written. `shape` is in GGUF order: the row's width first."""

    name: str
    shape: tuple[int, ...]
    type: TensorType

    @property
    def size(self) -> int:
        return self.type.row_bytes(self.shape[0]) * prod(self.shape[1:])


def text(value: str) -> bytes:
    """Pack text as its length and its bytes."""
    data = value.encode("utf-8")
    return struct.pack("<Q", len(data)) + data


def setting(key: str, value: str | int | float) -> bytes:
    """Pack one KV pair: text as STRING, int as UINT32, float as FLOAT32."""
    if isinstance(value, str):
        return text(key) + struct.pack("<I", STRING) + text(value)
    if isinstance(value, int):
        return text(key) + struct.pack("<II", UINT32, value)
    return text(key) + struct.pack("<If", FLOAT32, value)


def write_header(
    file: BinaryIO, settings: Sequence[bytes], tensors: Sequence[NewTensor | TensorInfo], version: int, alignment: int
) -> None:
    """Write everything before the first tensor's bytes, padding included."""
    file.write(b"GGUF" + struct.pack("<IQQ", version, len(tensors), len(settings)))
    file.writelines(settings)
    offset = 0
    for tensor in tensors:
        file.write(text(tensor.name))
        file.write(
            struct.pack(f"<I{len(tensor.shape)}QIQ", len(tensor.shape), *tensor.shape, tensor.type.number, offset)
        )
        offset += tensor.size + padding(tensor.size, alignment)
    file.write(bytes(padding(file.tell(), alignment)))


def write_tensor(file: BinaryIO, tensor: NewTensor | TensorInfo, pieces: Iterable[Piece], alignment: int) -> None:
    """Write one tensor's bytes piece by piece, then the padding; the pieces must add up to its size."""
    written = 0
    for piece in pieces:
        written += file.write(piece)
    if written != tensor.size:
        raise AssertionError(f"{tensor.name}: {written} bytes written, {tensor.size} announced")
    file.write(bytes(padding(written, alignment)))


def padding(size: int, alignment: int) -> int:
    """Give the bytes missing to the next multiple."""
    return -size % alignment
