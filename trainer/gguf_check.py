"""Validate any GGUF file before anything native opens it.

llama.cpp and the gguf package trust a file's own numbers: a damaged one ends the process or fills the
memory. This parser reads the header as a bounded stream, believes no count before it has seen the bytes
behind it, and imports nothing beyond the standard library (numpy only to look for NaN).
Format: https://github.com/ggml-org/ggml/blob/master/docs/gguf.md; limits: llama.cpp's ggml/src/gguf.cpp.
"""

from __future__ import annotations

import stat
import struct
from collections.abc import Mapping
from math import prod
from pathlib import Path
from typing import BinaryIO, Never

from trainer.ggml_types import BY_NUMBER
from trainer.gguf_summary import BadGguf, GgufSummary, Number, TensorInfo, Value

__all__ = ["BadGguf", "GgufSummary", "TensorInfo", "check"]

MAX_HEADER = 128 << 20  # the largest vocabularies of today need 15 MB
MAX_VALUES = 4 << 20  # elements of all arrays together; 256 k tokens and their merges are below 1 M
MAX_COUNT = 1 << 16  # tensors, and settings; the largest models of today list a few thousand
MAX_KEPT = 1024  # numbers of an array that is kept in the summary
MAX_KEY = 65535
MAX_NAME = 63  # GGML_MAX_NAME less its NUL
MAX_ALIGNMENT = 1 << 16
MAX_TENSOR_BYTES = (1 << 63) - 1
CHUNK = 1 << 20

STRING, ARRAY = 8, 9
NUMBERS = {0: "<B", 1: "<b", 2: "<H", 3: "<h", 4: "<I", 5: "<i", 6: "<f", 7: "<?", 10: "<Q", 11: "<q", 12: "<d"}
SMALLEST_ENTRY = 8 + 1 + 4 + 1  # a KV pair: key length, one letter, type, one byte
SMALLEST_TENSOR = 8 + 1 + 4 + 8 + 4 + 8  # name length, one letter, dimensions, one of them, type, offset


def check(path: Path, *, whole: bool = False, finite: bool = False) -> GgufSummary:
    """Read a GGUF file's header and answer its summary, or raise BadGguf.

    Time and memory are bounded by the header's true size (at most 128 MB), whatever the file claims.
    `whole` refuses one part of a split model; `finite` also reads every weight for NaN and infinity.
    """
    try:
        mode = path.stat().st_mode
    except (FileNotFoundError, NotADirectoryError):
        raise BadGguf(f"There is no file {path.name}. Choose another one.") from None
    if not stat.S_ISREG(mode):  # a pipe would block for ever
        raise BadGguf(f"{path.name} is not a file but a folder or a device. Choose the .gguf file itself.")
    with path.open("rb") as file:
        summary = _Header(file, path).summary()
        if whole and summary.split_count > 1:
            raise BadGguf(
                f"{path.name} is one part of a model split into {summary.split_count} files. "
                "Join them first with llama-gguf-split --merge, then use the joined file."
            )
        if finite:
            from trainer.gguf_finite import check_finite  # here: it needs numpy, which the web app has no use for

            check_finite(file, path, summary.tensors.values())
    return summary


class _Header:
    """A cursor over the header that reads on only as far as it has to."""

    def __init__(self, file: BinaryIO, path: Path) -> None:
        self.file = file
        self.path = path
        self.size = file.seek(0, 2)
        file.seek(0)
        self.buffer = bytearray()
        self.at = 0
        self.array_values = 0

    def summary(self) -> GgufSummary:
        version = self._version()
        tensor_count, entry_count = self._integer("<Q"), self._integer("<Q")
        if max(tensor_count, entry_count) > MAX_COUNT:
            self._bad(f"it announces {tensor_count} tensors and {entry_count} settings, more than any model has")
        left = self.size - self.at
        if tensor_count * SMALLEST_TENSOR + entry_count * SMALLEST_ENTRY > left:
            self._bad(f"it announces {tensor_count} tensors and {entry_count} settings but is too short to hold them")
        values: dict[str, Value] = {}
        entries: dict[str, tuple[int, int]] = {}
        for _ in range(entry_count):
            start = self.at
            key = self._text(MAX_KEY, "the name of a setting")
            if key in entries:
                self._bad(f"it gives the setting {key!r} twice")
            value = self._value(self._integer("<I"), key)
            entries[key] = (start, self.at)
            if value is not None:
                values[key] = value
        if not isinstance(values.get("general.architecture"), str):
            self._bad("it does not name the model's architecture")
        alignment = self._alignment(values)
        listed = self._tensors(tensor_count, alignment)
        data_start = -(-self.at // alignment) * alignment
        tensors = {t.name: TensorInfo(t.name, t.shape, t.type, data_start + t.start, t.size) for t in listed}
        for tensor in tensors.values():
            if tensor.start + tensor.size > self.size:
                self._bad(f"it ends before the last byte of the tensor {tensor.name}, so it was cut short")
        return GgufSummary(self.path, self.size, version, alignment, values, entries, tensors, data_start)

    def _version(self) -> int:
        if self.size == 0:
            raise BadGguf(f"{self.path.name} is empty. Copy or download it again.")
        if bytes(self.buffer[self._take(min(4, self.size)) : self.at]) != b"GGUF":
            raise BadGguf(f"{self.path.name} is not a GGUF file. Choose a model file that ends in .gguf.")
        version = self._integer("<I")
        if version in (2 << 24, 3 << 24):
            raise BadGguf(
                f"{self.path.name} is a GGUF file for big-endian machines. Turn it round with gguf-convert-endian."
            )
        if version not in (2, 3):
            raise BadGguf(
                f"{self.path.name} is a GGUF file of version {version}; versions 2 and 3 are known. "
                "Convert the model again with a current llama.cpp."
            )
        return version

    def _alignment(self, values: Mapping[str, Value]) -> int:
        alignment = values.get("general.alignment", 32)
        if (
            not isinstance(alignment, int)
            or isinstance(alignment, bool)
            or not 0 < alignment <= MAX_ALIGNMENT
            or alignment & (alignment - 1)
        ):
            self._bad("its alignment is not a small power of two")
        return alignment

    def _tensors(self, count: int, alignment: int) -> list[TensorInfo]:
        """Read the tensor list; `start` still counts from the data's begin."""
        if count == 0:
            self._bad("it holds no weights")
        tensors: list[TensorInfo] = []
        names: set[str] = set()
        expected = 0
        for _ in range(count):
            name = self._text(MAX_NAME, "the name of a tensor")
            if name in names:
                self._bad(f"it lists the tensor {name!r} twice")
            names.add(name)
            dimensions = self._integer("<I")
            if not 1 <= dimensions <= 4:
                self._bad(f"the tensor {name!r} has {dimensions} dimensions instead of 1 to 4")
            shape = tuple(self._integer("<Q") for _ in range(dimensions))
            number = self._integer("<I")
            kind = BY_NUMBER.get(number)
            if kind is None:
                self._bad(f"the tensor {name!r} is of the unknown type {number}")
            if 0 in shape or shape[0] % kind.block:
                self._bad(f"the tensor {name!r} of type {kind.name} cannot have the shape {shape}")
            size = kind.row_bytes(shape[0]) * prod(shape[1:])
            if prod(shape) > MAX_TENSOR_BYTES or size > MAX_TENSOR_BYTES:
                self._bad(f"the tensor {name!r} has the impossible shape {shape}")
            offset = self._integer("<Q")
            if offset != expected:  # as llama.cpp: no gaps, no overlaps
                self._bad(f"the tensor {name!r} lies at {offset} and not at {expected}, where the one before it ends")
            tensors.append(TensorInfo(name, shape, kind, offset, size))
            expected = -(-(offset + size) // alignment) * alignment
        return tensors

    def _value(self, kind: int, key: str) -> Value | None:
        """Read one value; lists of text and long lists are passed over and give None."""
        if kind == STRING:
            return self._text(MAX_HEADER, f"the setting {key!r}", empty=True)
        if kind in NUMBERS:
            return self._number(NUMBERS[kind])
        if kind != ARRAY:
            self._bad(f"the setting {key!r} is of the unknown type {kind}")
        inner, count = self._integer("<I"), self._integer("<Q")
        self.array_values += count
        if self.array_values > MAX_VALUES:
            self._bad(f"its lists hold more than {MAX_VALUES} values up to the setting {key!r}")
        if inner == STRING:
            self._skip_texts(count)
            return None
        if inner not in NUMBERS:
            self._bad(f"the setting {key!r} is a list of the unknown type {inner}")
        width = struct.calcsize(NUMBERS[inner])
        start = self._take(width * count)
        if count > MAX_KEPT:
            return None
        return struct.unpack_from(f"<{count}{NUMBERS[inner][1]}", self.buffer, start)

    def _skip_texts(self, count: int) -> None:
        read = struct.Struct("<Q").unpack_from
        for _ in range(count):
            (length,) = read(self.buffer, self._take(8))
            self._take(length)

    def _text(self, longest: int, what: str, *, empty: bool = False) -> str:
        length = self._integer("<Q")
        if length > longest or (length == 0 and not empty):
            self._bad(f"{what} is {length} bytes long")
        start = self._take(length)
        try:
            return self.buffer[start : self.at].decode("utf-8")
        except UnicodeDecodeError:
            self._bad(f"{what} is not readable text")

    def _integer(self, code: str) -> int:
        (number,) = struct.unpack_from(code, self.buffer, self._take(struct.calcsize(code)))
        return number

    def _number(self, code: str) -> Number:
        (number,) = struct.unpack_from(code, self.buffer, self._take(struct.calcsize(code)))
        return number

    def _take(self, count: int) -> int:
        """Step over `count` bytes, which are then in the buffer, and answer where they start."""
        start, self.at = self.at, self.at + count
        if self.at > len(self.buffer):
            if self.at > self.size:
                self._bad("it ends in the middle of its header, so it was cut short")
            if self.at > MAX_HEADER:
                self._bad(f"its header is larger than {MAX_HEADER >> 20} MB")
            while len(self.buffer) < self.at:
                more = self.file.read(max(CHUNK, self.at - len(self.buffer)))
                if not more:
                    self._bad("it became shorter while it was read")
                self.buffer += more
        return start

    def _bad(self, what: str) -> Never:
        raise BadGguf(f"{self.path.name} is a damaged GGUF file: {what}. Copy or download it again.")
