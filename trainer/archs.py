"""What each architecture's converter does to layers on their way into a GGUF file.

llama.cpp rotates neighbouring pairs where Hugging Face rotates halves, so for llama-like models the converter
reorders the rows of q and k, head by head, and LoRA's B has those same rows. Leaving it out gives
plausible but different text. Source: llama.cpp's conversion/llama.py `permute` and its subclasses.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:  # the web app reads the table below, and has no use for numpy
    import numpy as np
    from numpy.typing import NDArray

# True: rows of q and k are permuted. Only architectures whose result is tested here against PEFT.
PERMUTES: dict[str, bool] = {
    "llama": True,
    "smollm3": True,
    "granite": True,
    "granitehybrid": True,
    "mistral3": True,
    "olmo": True,
    "arcee": True,
    "qwen2": False,
    "qwen3": False,
    "gemma": False,
    "gemma2": False,
    "gemma3": False,
    "phi3": False,
    "olmo2": False,
    "exaone4": False,
    "command-r": False,
    "cohere2": False,
    "stablelm": False,
    "lfm2": False,
    "apertus": False,
    "starcoder2": False,
    "nemotron": False,
    "glm4": False,
    "ernie4_5": False,
    "hunyuan-dense": False,
    "seed_oss": False,
    "gpt2": False,
}

# Layers of a block that gguf's table of names lacks or knows otherwise: the tensors each becomes, one above the other.
# Dense Granite 4 has the two halves of an MLP in one layer; with attention alone its files call themselves granite.
# Source: llama.cpp's conversion/granite.py.
_DENSE_GRANITE_4 = {"shared_mlp.input_linear": ("ffn_gate", "ffn_up"), "shared_mlp.output_linear": ("ffn_down",)}
PARTS: dict[str, dict[str, tuple[str, ...]]] = {"granite": _DENSE_GRANITE_4, "granitehybrid": _DENSE_GRANITE_4}


def permute(rows: NDArray[np.float32], heads: int) -> NDArray[np.float32]:
    """Interleave the two rotary halves of each head: (heads × 2 × half, …) → (heads × half × 2, …)."""
    half = len(rows) // heads // 2
    return rows.reshape(heads, 2, half, -1).swapaxes(1, 2).reshape(rows.shape)


def unpermute(rows: NDArray[np.float32], heads: int) -> NDArray[np.float32]:
    """Undo `permute`: (heads × half × 2, …) → (heads × 2 × half, …)."""
    half = len(rows) // heads // 2
    return rows.reshape(heads, half, 2, -1).swapaxes(1, 2).reshape(rows.shape)
