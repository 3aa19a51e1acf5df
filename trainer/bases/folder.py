"""The full-precision folder a base may have beside its GGUF: weights to teach from, never code.

Only safetensors are read, and only the header of each file. Format: 8 bytes of length, that much JSON, then data.
"""

from __future__ import annotations

import json
import struct
from pathlib import Path
from typing import Any

from trainer.failures import TrainerFailure
from trainer.gguf_summary import GgufSummary

MODEL_TYPES = {  # what config.json calls an architecture → its name in GGUF, or several
    "llama": "llama", "mistral": "llama", "internlm3": "llama", "smollm3": "smollm3", "qwen2": "qwen2",
    "qwen3": "qwen3", "gemma": "gemma", "gemma2": "gemma2", "gemma3_text": "gemma3", "phi3": "phi3",
    "granite": "granite", "granitemoehybrid": "granite granitehybrid", "olmo": "olmo", "olmo2": "olmo2",
    "olmo3": "olmo2", "exaone4": "exaone4", "cohere": "command-r", "cohere2": "cohere2", "stablelm": "stablelm",
    "lfm2": "lfm2", "ministral3": "mistral3", "apertus": "apertus", "arcee": "arcee", "starcoder2": "starcoder2",
    "nemotron": "nemotron", "glm4": "glm4", "ernie4_5": "ernie4_5", "hunyuan_v1_dense": "hunyuan-dense",
    "seed_oss": "seed_oss", "gpt2": "gpt2",
}  # fmt: skip
SIZES = {  # GGUF → config.json, under the first of these names that is there
    "embedding_length": ("hidden_size", "n_embd"),
    "block_count": ("num_hidden_layers", "n_layer"),
    "attention.head_count": ("num_attention_heads", "n_head"),
    "feed_forward_length": ("shared_intermediate_size", "intermediate_size"),
}
PICKLES = (".bin", ".pt", ".pth", ".pkl", ".ckpt")
MAX_JSON = 100 << 20

NO_FOLDER = "There is no such folder on this machine."
NO_CONFIG = "The folder has no readable config.json. Choose the folder that holds the model's original files."
HAS_PICKLES = (
    "The folder holds weights in a format that can carry programs (.bin, .pt or the like). Move these files away; "
    "only .safetensors files are read."
)
HAS_CODE = "The model wants to run program code of its own (auto_map). That is never done here; choose another model."
NO_WEIGHTS = "The folder has no weights: model.safetensors, or the files that model.safetensors.index.json names."
CUT_SHORT = "A .safetensors file in the folder is damaged or was not downloaded to its end. Download it again."
ANOTHER_MODEL = (
    "The folder is that of another model: its kind, layers, width or vocabulary is not the GGUF file's. "
    "Choose the folder that the GGUF file was made from."
)
SENTENCES = (NO_FOLDER, NO_CONFIG, HAS_PICKLES, HAS_CODE, NO_WEIGHTS, CUT_SHORT, ANOTHER_MODEL)


def check_folder(folder: Path, summary: GgufSummary) -> None:
    """Check that a folder holds the weights of the model in a GGUF file, or raise TrainerFailure with a sentence."""
    if not folder.is_dir():
        raise TrainerFailure("base", NO_FOLDER)
    if any(file.suffix.lower() in PICKLES for file in folder.iterdir()):
        raise TrainerFailure("base", HAS_PICKLES)
    config = _json(folder / "config.json")
    if config is None:
        raise TrainerFailure("base", NO_CONFIG)
    if "auto_map" in config or "auto_map" in (_json(folder / "tokenizer_config.json") or {}):
        raise TrainerFailure("base", HAS_CODE)
    _check_weights(folder)
    if not _is_of(config, summary):
        raise TrainerFailure("base", ANOTHER_MODEL)


def _is_of(config: dict[str, Any], summary: GgufSummary) -> bool:
    embedding, kind = summary.tensors.get("token_embd.weight"), summary.architecture
    if kind not in MODEL_TYPES.get(str(config.get("model_type")), "").split() or embedding is None:
        return False
    if config.get("vocab_size") != embedding.rows:
        return False
    sizes = {key: [config[name] for name in names if name in config] for key, names in SIZES.items()}
    if not sizes["feed_forward_length"] or config.get("block_auto_adjust_ff_dim"):  # GPT-2 and LFM2 work it out
        del sizes["feed_forward_length"]
    return all(found[:1] == [summary.integer(f"{kind}.{key}")] for key, found in sizes.items())


def _check_weights(folder: Path) -> None:
    index, single = _json(folder / "model.safetensors.index.json"), folder / "model.safetensors"
    names = {str(name) for name in index["weight_map"].values()} if index and _has_map(index) else {single.name}
    for name in sorted(names):
        file = folder / name
        if Path(name).name != name or not name.endswith(".safetensors") or not file.is_file():
            raise TrainerFailure("base", NO_WEIGHTS)
        if not _is_whole(file):
            raise TrainerFailure("base", CUT_SHORT)


def _has_map(index: dict[str, Any]) -> bool:
    return isinstance(index.get("weight_map"), dict) and bool(index["weight_map"])


def _is_whole(file: Path) -> bool:
    """Tell whether a safetensors file is as long as its header says."""
    size = file.stat().st_size
    with file.open("rb") as content:
        start = content.read(8)
        length = struct.unpack("<Q", start)[0] if len(start) == 8 else MAX_JSON
        if length >= min(MAX_JSON, size):
            return False
        try:
            header: Any = json.loads(content.read(length))  # Any: JSON from outside, checked below
            ends = [int(tensor["data_offsets"][1]) for name, tensor in header.items() if name != "__metadata__"]
        except (ValueError, KeyError, TypeError, IndexError, AttributeError, RecursionError):
            return False
    return bool(ends) and 8 + length + max(ends) == size


def _json(file: Path) -> dict[str, Any] | None:  # Any: JSON from outside
    """Read a JSON object; None when there is none that can be read."""
    try:
        with file.open("rb") as content:
            value = json.loads(content.read(MAX_JSON))
    except (OSError, ValueError, RecursionError):
        return None
    return value if isinstance(value, dict) else None
