"""What an Ollama reads in its blobs: what /api/show tells of them, and whether an engine would run an adapter on one.

Read with the gguf package, so that a mistake of our own reader shows.
"""

from __future__ import annotations

import tempfile
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import gguf

NEW_ENGINE = {"gemma3": (0, 6, 0), "mistral3": (0, 6, 5), "qwen3": (0, 12, 0), "olmo3": (0, 14, 0), "lfm2": (0, 15, 0)}
"""From which version on the engine without adapters was used, on which architecture; until 0.30 swept it away."""


@dataclass(frozen=True)
class Blob:
    """A GGUF file, as its header tells it. Tensors are (name, shape as in the file, type)."""

    values: dict[str, Any]  # Any: settings of every type
    tensors: tuple[tuple[str, tuple[int, ...], str], ...]

    @property
    def architecture(self) -> str:
        return str(self.values.get("general.architecture", ""))

    @property
    def is_adapter(self) -> bool:
        return self.values.get("general.type") == "adapter"

    def model_info(self) -> dict[str, Any]:
        left_out = ("general.name", "tokenizer.chat_template")
        return {key: None if isinstance(value, list) and len(value) > 5 else value for key, value in self.values.items()
                if key not in left_out}  # fmt: skip

    def listed(self) -> list[dict[str, Any]]:
        return [{"name": name, "type": kind, "shape": list(shape)} for name, shape, kind in self.tensors]


@lru_cache(maxsize=64)
def read(content: bytes) -> Blob:
    """Read a file's header; an empty one for what is no GGUF."""
    with tempfile.NamedTemporaryFile(suffix=".gguf") as file:
        file.write(content)
        file.flush()
        try:
            reader = gguf.GGUFReader(file.name)
        except (ValueError, IndexError, KeyError):
            return Blob({}, ())
        values = {name: field.contents() for name, field in reader.fields.items() if not name.startswith("GGUF.")}
        tensors = tuple((t.name, tuple(int(side) for side in t.shape), t.tensor_type.name) for t in reader.tensors)
    return Blob(values, tensors)


def refused_by_engine(weights: bytes, adapters: list[bytes], version: tuple[int, ...]) -> str:
    """Answer the error of a chat with these files, as llama.cpp's loader decides; empty where it runs."""
    model = read(weights)
    if not adapters:
        return ""
    if NEW_ENGINE.get(model.architecture, version) < version < (0, 30, 0):
        return "failed to initialize model: loras are not yet implemented"
    shapes = {name: shape for name, shape, _ in model.tensors}
    for adapter in map(read, adapters):
        halves = {name: shape for name, shape, _ in adapter.tensors}
        stems = {name.rpartition(".lora_")[0] for name in halves}
        fits = all(
            stem in shapes
            and halves.get(f"{stem}.lora_a", (0,))[0] == shapes[stem][0]
            and halves.get(f"{stem}.lora_b", (0, 0))[1] == shapes[stem][1]
            for stem in stems
        )
        lora = adapter.is_adapter and adapter.values.get("adapter.type") == "lora"
        if not lora or adapter.architecture != model.architecture or not fits:
            return "llama-server process has terminated: exit status 1"
    return ""
