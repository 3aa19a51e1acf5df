"""Read a PEFT adapter folder, and refuse what an adapter GGUF cannot say."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from math import sqrt
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, Field, ValidationError

Floats = NDArray[np.float32]

KEY = re.compile(r"base_model\.model\.(?P<module>.+)\.lora_(?P<half>[AB])\.weight")

# Options that change nothing about how A and B are used.
HARMLESS = frozenset(
    (
        "alpha_pattern",
        "auto_mapping",
        "base_model_name_or_path",
        "bias",
        "eva_config",
        "exclude_modules",
        "fan_in_fan_out",  # of layers that hold their weights across, as GPT-2's; A and B lie as ever
        "inference_mode",
        "init_lora_weights",
        "layers_pattern",
        "layers_to_transform",
        "lora_alpha",
        "lora_dropout",
        "megatron_core",
        "peft_type",
        "peft_version",
        "qalora_group_size",
        "r",
        "rank_pattern",
        "revision",
        "target_modules",
        "task_type",
        "use_rslora",
    )
)
REFUSED = {
    "use_dora": "DoRA",
    "lora_bias": "biases in the adapter (lora_bias)",
    "modules_to_save": "whole layers beside the adapter (modules_to_save)",
    "trainable_token_indices": "retrained tokens (trainable_token_indices)",
    "target_parameters": "updates of bare parameters (target_parameters)",
    "alora_invocation_tokens": "activated LoRA (alora_invocation_tokens)",
    "layer_replication": "replicated layers (layer_replication)",
}
KEPT_INITS = (True, False, "gaussian", "eva", "orthogonal")  # the others (PiSSA, OLoRA, LoftQ …) change the base

# Parts of tensor names that only these kinds of adapter have.
FOREIGN = {
    "lora_magnitude_vector": "DoRA",
    "lora_embedding_": "updates of the embedding",
    "modules_to_save": "whole layers beside the adapter",
    "token_adapter": "retrained tokens",
    "lora_B.bias": "biases in the adapter",
    "lm_head": "a retrained output layer",
    "embed_tokens": "a retrained embedding",
}


class CannotConvert(Exception):  # noqa: N818 - named as people say it, like curator.errors
    """An adapter that cannot be converted or merged faithfully; the text is a sentence for people."""


class PeftConfig(BaseModel):
    """The part of adapter_config.json that decides how large the update is."""

    peft_type: str
    r: int
    lora_alpha: float = Field(allow_inf_nan=False)
    use_rslora: bool = False
    rank_pattern: dict[str, int] = {}
    alpha_pattern: dict[str, float] = {}

    def rank_of(self, module: str) -> int:
        return self.rank_pattern.get(_matching(self.rank_pattern, module), self.r)

    def scale_of(self, module: str) -> float:
        """Give the factor of B·A: alpha / r, or alpha / √r when rank-stabilised (peft tuners/lora/layer.py)."""
        alpha = self.alpha_pattern.get(_matching(self.alpha_pattern, module), self.lora_alpha)
        rank = self.rank_of(module)
        return alpha / sqrt(rank) if self.use_rslora else alpha / rank


def read_config(adapter_dir: Path) -> PeftConfig:
    try:
        text = (adapter_dir / "adapter_config.json").read_text(encoding="utf-8")
        config = PeftConfig.model_validate_json(text)
    except FileNotFoundError:
        raise CannotConvert(
            f"The folder {adapter_dir.name} has no adapter_config.json. Choose a PEFT adapter."
        ) from None
    except (ValidationError, UnicodeDecodeError):
        raise CannotConvert("The adapter's adapter_config.json is not readable. Train or copy it again.") from None
    if config.peft_type != "LORA":
        raise CannotConvert(
            f"The adapter is of type {config.peft_type}, and only LORA can be converted. Train it again."
        )
    if min(config.r, *config.rank_pattern.values(), 1) < 1:
        raise CannotConvert("The adapter's rank is below 1. Train it again.")
    for key, value in _options(text).items():
        if key in REFUSED and value not in (None, False, [], {}):  # token index 0 is inside a list, so it counts
            raise CannotConvert(_inexpressible(REFUSED[key]))
        if key not in HARMLESS and key not in REFUSED and value:
            raise CannotConvert(f"The adapter uses the option {key}, which is not known here. Train it again without.")
    return config


def _options(text: str) -> dict[str, Any]:  # Any: whatever PEFT wrote
    """Read all options, and refuse the two whose value decides."""
    options: dict[str, Any] = json.loads(text)
    if options.get("bias", "none") != "none":
        raise CannotConvert(_inexpressible(f"retrained biases (bias={options['bias']!r})"))
    init = options.get("init_lora_weights", True)
    if init not in KEPT_INITS:
        raise CannotConvert(f"The adapter was started with {init!r}, which changes the base. Train it again without.")
    return options


def read_halves(adapter_dir: Path) -> list[tuple[str, dict[str, Floats]]]:
    """Read A and B of every module, as float32; refuse anything else in the file."""
    from safetensors import SafetensorError, deserialize

    path = adapter_dir / "adapter_model.safetensors"
    try:
        entries = deserialize(path.read_bytes())
    except FileNotFoundError:
        raise CannotConvert(f"The folder {adapter_dir.name} has no {path.name}. Choose a PEFT adapter.") from None
    except SafetensorError:
        raise CannotConvert(f"The adapter's {path.name} is damaged. Train or copy it again.") from None
    halves: dict[str, dict[str, Floats]] = {}
    for key, entry in entries:
        match = KEY.fullmatch(key)
        foreign = next((what for part, what in FOREIGN.items() if part in key), None)
        if foreign or not match:
            raise CannotConvert(_inexpressible(foreign or f"the unexpected tensor {key}"))
        array = _floats(key, entry)
        if not np.isfinite(array).all():
            raise CannotConvert(f"The adapter's {key} holds NaN or infinity: the training diverged. Train it again.")
        halves.setdefault(match["module"], {})[match["half"]] = array
    if not halves:
        raise CannotConvert("The adapter is empty. Train it again.")
    for module, found in halves.items():
        if len(found) != 2:
            raise CannotConvert(f"The adapter has only one half of the pair for {module}. Train or copy it again.")
    return list(halves.items())


def _floats(key: str, entry: Mapping[str, Any]) -> Floats:  # Any: safetensors' untyped dict
    data, shape = entry["data"], entry["shape"]
    if entry["dtype"] == "BF16":  # numpy has none: the upper half of a float32
        return (np.frombuffer(data, "<u2").astype("<u4") << 16).view("<f4").reshape(shape)
    code = {"F32": "<f4", "F16": "<f2", "F64": "<f8"}.get(entry["dtype"])
    if code is None:
        raise CannotConvert(f"The adapter's {key} is of type {entry['dtype']}. Save it as F32, F16 or BF16.")
    return np.frombuffer(data, code).astype(np.float32).reshape(shape)  # float32 at once: llama.cpp crashes on F64


def _matching(patterns: Mapping[str, object], module: str) -> str:
    """Find the pattern that names this module, exactly as peft.utils.other.get_pattern_key."""
    found: Iterator[str] = (key for key in patterns if re.match(rf"(.*\.)?({key})$", module))
    return next(found, module)


def _inexpressible(what: str) -> str:
    return f"The adapter uses {what}, which an adapter GGUF cannot express. Train it again without."
