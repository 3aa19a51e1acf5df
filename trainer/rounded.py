"""What a merged file keeps of the lesson: its weights, put into the model that was taught, on the held-out questions.

Types of few bits can round a small update away, and nothing fails then: the model only answers as it did before.
"""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from peft import PeftModel

from trainer.archs import unpermute
from trainer.data import Encoded
from trainer.encoded import EncodedRun
from trainer.evaluation import Check, Rounded, share_kept
from trainer.gguf_check import check
from trainer.gguf_summary import GgufSummary
from trainer.loading import load_base
from trainer.lora_gguf import permuted_heads, tensors_of
from trainer.loss import example_losses, mean_loss
from trainer.merge_gguf import Planned
from trainer.quantize import decode
from trainer.rundir import RunDir

KEPT_AT_LEAST = 0.9  # of what the held-out loss fell by
TOO_SMALL = 0.01  # nats per answer token; what is lost below that is no loss anybody notices

Weights = Callable[[str], NDArray[np.float32]]
"""Answers a tensor's weights (rows, width) by its name."""


def measure(run: RunDir, model: PeftModel, questions: list[Encoded], data: EncodedRun) -> Rounded:
    """Answer the held-out loss of model.gguf. The taught model loses its own weights, so this comes last."""
    merged, types = check(run.model_gguf, whole=True), Counter[str]()
    with run.model_gguf.open("rb") as file:

        def stored(name: str) -> NDArray[np.float32]:
            tensor = merged.tensors[name]
            types[tensor.type.name] += tensor.rows * tensor.shape[0]
            file.seek(tensor.start)
            rows = np.frombuffer(bytearray(file.read(tensor.size)), np.uint8).reshape(tensor.rows, -1)
            return decode(rows, tensor.type)

        begin = time.monotonic()
        loss = loss_with(stored, model, merged, questions, data)
    seconds = time.monotonic() - begin
    return Rounded(type=types.most_common(1)[0][0], loss=loss, size=merged.size, seconds=seconds)


def foretold(planned: Planned, model: PeftModel, questions: list[Encoded], data: EncodedRun) -> Rounded:
    """Answer what `measure` would of a file that is not written. The taught model loses its own weights."""
    begin = time.monotonic()
    loss = loss_with(planned.weights, model, planned.base, questions, data)
    return Rounded(type=planned.type, loss=loss, size=planned.size, seconds=time.monotonic() - begin)


def loss_with(
    weights: Weights, model: PeftModel, file: GgufSummary, questions: list[Encoded], data: EncodedRun
) -> float:
    """Answer the held-out loss with other weights in the taught layers, one at a time. `file` names its tensors."""
    prefix = "base_model.model."
    layers: dict[str, Any] = {  # Any: PEFT's layers share no public type
        name.removeprefix(prefix): layer for name, layer in model.named_modules() if hasattr(layer, "lora_A")
    }
    load_base.cache_clear()  # nobody else may get the weights that are put in here
    for module, names in tensors_of(layers, file).items():
        found = np.concatenate([_as_taught(weights(name), name, file) for name in names])
        layer = layers[module]
        layer.get_base_layer().weight.data.copy_(torch.from_numpy(found.T if layer.fan_in_fan_out else found))
    return mean_loss(example_losses(model, questions, data.pad, base=True), questions)


def _as_taught(weights: NDArray[np.float32], name: str, file: GgufSummary) -> NDArray[np.float32]:
    """Answer a tensor's weights with rows as the model that is taught has them."""
    heads = permuted_heads(name, file)
    return unpermute(weights, heads) if heads else weights


def judged(found: Rounded, old_loss: float, new_loss: float) -> Check:
    """Answer the gate's line: a warning where a part of the lesson was rounded away, a bar where nothing is left."""
    kept = share_kept(found.loss, old_loss, new_loss)
    passed = found.loss - new_loss <= TOO_SMALL or kept >= KEPT_AT_LEAST
    words = [
        f"The merged file's taught layers are of type {found.type}: held-out loss {found.loss:.3f}, against "
        f"{new_loss:.3f} before rounding and {old_loss:.3f} untaught; {min(kept, 1):.0%} of what was learnt is left."
    ]
    if not passed:
        words.append("A version of a type with more bits, made from the same run, keeps more; nothing is taught again.")
    return Check(name="rounding", passed=passed, warning=kept > 0, detail=" ".join(words))
