"""Write an adapter GGUF by hand, without the trainer's converter."""

from __future__ import annotations

from pathlib import Path

import gguf
import numpy as np


def write_adapter(base: Path, path: Path, *, seed: int = 1, size: float = 0.3) -> Path:
    """Write an adapter that changes every attn_v and ffn_down of a llama base, by hand."""
    draw = np.random.default_rng(seed)
    reader = gguf.GGUFReader(base)
    writer = gguf.GGUFWriter(path, "llama")
    writer.add_type("adapter")
    writer.add_string("adapter.type", "lora")
    writer.add_float32("adapter.lora.alpha", 8.0)
    for tensor in reader.tensors:
        if tensor.name.endswith(("attn_v.weight", "ffn_down.weight")):
            width, rows = (int(side) for side in tensor.shape)
            a, b = draw.standard_normal((8, width)), draw.standard_normal((rows, 8))
            writer.add_tensor(f"{tensor.name}.lora_a", (a / np.sqrt(width)).astype(np.float32))
            writer.add_tensor(f"{tensor.name}.lora_b", (size * b).astype(np.float32))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return path
