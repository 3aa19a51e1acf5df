"""What a GGUF file says about itself, as plain values."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from math import prod
from pathlib import Path

from trainer.ggml_types import TensorType

Number = int | float | bool
Value = Number | str | tuple[Number, ...]


class BadGguf(Exception):  # noqa: N818 - named as people say it, like curator.errors
    """A file that must not be loaded; the text is a sentence for people."""


@dataclass(frozen=True)
class TensorInfo:
    """Where one tensor lies. `shape` is in GGUF order: the row's width first. `start` counts from the file's begin."""

    name: str
    shape: tuple[int, ...]
    type: TensorType
    start: int
    size: int

    @property
    def rows(self) -> int:
        return prod(self.shape[1:])


@dataclass(frozen=True)
class GgufSummary:
    """What a valid GGUF file says about itself. Tensors keep the file's order."""

    path: Path
    size: int
    version: int
    alignment: int
    values: Mapping[str, Value] = field(repr=False)  # text, numbers and short lists of numbers
    entries: Mapping[str, tuple[int, int]] = field(repr=False)  # key → byte span of the whole KV pair
    tensors: Mapping[str, TensorInfo] = field(repr=False)
    data_start: int

    @property
    def architecture(self) -> str:
        return self.text("general.architecture")

    @property
    def general_type(self) -> str:
        return self.text("general.type") or "model"

    @property
    def name(self) -> str:
        return self.text("general.name")

    @property
    def file_type(self) -> int | None:
        return self.integer("general.file_type")

    @property
    def block_count(self) -> int | None:
        return self.integer(f"{self.architecture}.block_count")

    @property
    def head_count(self) -> int | None:
        return self.integer(f"{self.architecture}.attention.head_count")

    @property
    def head_count_kv(self) -> int | None:
        """Give the key/value heads; a file that does not say has as many as query heads."""
        key = f"{self.architecture}.attention.head_count_kv"
        return self.integer(key) if key in self.entries else self.head_count

    def heads(self, tensor: str) -> int | None:
        """Give by how many heads the rows of a block's attn_q or attn_k are divided; None where the file is silent."""
        if tensor.endswith(".attn_q.weight"):
            return self.head_count
        listed = self.values.get(f"{self.architecture}.attention.head_count_kv")
        if not isinstance(listed, tuple):
            return self.head_count_kv
        block = int(tensor.split(".")[1])
        return int(listed[block]) if block < len(listed) else None

    @property
    def context_length(self) -> int | None:
        return self.integer(f"{self.architecture}.context_length")

    @property
    def parameters(self) -> int:
        """Count the weights."""
        return sum(prod(tensor.shape) for tensor in self.tensors.values())

    @property
    def chat_template(self) -> str | None:
        return self.text("tokenizer.chat_template") or None

    @property
    def tied(self) -> bool:
        """Tell whether the output layer is the input embedding."""
        return "token_embd.weight" in self.tensors and "output.weight" not in self.tensors

    @property
    def split_count(self) -> int:
        return self.integer("split.count") or 1

    def text(self, key: str) -> str:
        """Give a text value; empty when it is missing or no text."""
        value = self.values.get(key)
        return value if isinstance(value, str) else ""

    def integer(self, key: str) -> int | None:
        """Give a whole number; None when it is missing or something else, such as one number a layer."""
        value = self.values.get(key)
        return value if isinstance(value, int) and not isinstance(value, bool) else None
