"""Full-precision folders as they lie on a hub, for the tiny models: config.json and model.safetensors."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from tests.trainer.tiny import Shape

LLAMA3_ROPE = {
    "rope_type": "llama3",
    "factor": 8.0,
    "low_freq_factor": 1.0,
    "high_freq_factor": 4.0,
    "original_max_position_embeddings": 64,
}


def write_original(
    folder: Path, weights: Mapping[str, np.ndarray], shape: Shape, **config: Any
) -> Path:  # Any: fields of config.json
    """Write the folder that a tiny GGUF file could have been made from."""
    from safetensors.numpy import save_file

    folder.mkdir(parents=True)
    settings = {
        "architectures": ["LlamaForCausalLM"],
        "model_type": shape.kind,
        "vocab_size": shape.vocab,
        "hidden_size": shape.hidden,
        "intermediate_size": shape.ffn,
        "num_hidden_layers": shape.layers,
        "num_attention_heads": shape.heads,
        "num_key_value_heads": shape.kv_heads,
        "max_position_embeddings": 1024,
        "rms_norm_eps": 1e-5,
        "rope_theta": 10000.0,
        "tie_word_embeddings": shape.tied,
        **config,
    }
    (folder / "config.json").write_text(json.dumps(settings), encoding="utf-8")
    save_file(dict(weights), folder / "model.safetensors", metadata={"format": "pt"})
    return folder


def llama3_rope_freqs(shape: Shape) -> np.ndarray:
    """Work out rope_freqs.weight as llama.cpp's converter does for Llama 3.1 and later (conversion/llama.py)."""
    old = LLAMA3_ROPE["original_max_position_embeddings"]
    low, high = old / LLAMA3_ROPE["low_freq_factor"], old / LLAMA3_ROPE["high_freq_factor"]
    factors: list[float] = []
    for place in range(0, shape.head, 2):
        wave = 2 * np.pi * 10000.0 ** (place / shape.head)
        smooth = (old / wave - 1.0) / (4.0 - 1.0)
        middle = 1 / ((1 - smooth) / LLAMA3_ROPE["factor"] + smooth)
        factors.append(1.0 if wave < high else LLAMA3_ROPE["factor"] if wave > low else middle)
    return np.array(factors, dtype=np.float32)
