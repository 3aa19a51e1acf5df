"""What the merged file kept of the lesson: its weights, put into the model that was taught, on the held-out questions.

Types of few bits can round a small update away, and nothing fails then: the model only answers as it did before.
"""

from __future__ import annotations

from collections import Counter
from typing import Any, BinaryIO

import numpy as np
import torch
from numpy.typing import NDArray
from peft import PeftModel

from trainer.archs import unpermute
from trainer.data import Encoded
from trainer.encoded import EncodedRun
from trainer.gguf_check import check
from trainer.gguf_summary import GgufSummary
from trainer.loading import load_base
from trainer.lora_gguf import permuted_heads, tensors_of
from trainer.loss import example_losses, mean_loss
from trainer.quantize import decode
from trainer.rundir import RunDir
from trainer.spec import Check, Rounded

KEPT_AT_LEAST = 0.9  # of what the held-out loss fell by
TOO_SMALL = 0.01  # nats per answer token; what is lost below that is no loss anybody notices


def measure(run: RunDir, model: PeftModel, questions: list[Encoded], data: EncodedRun) -> Rounded:
    """Answer the held-out loss of model.gguf. The taught model loses its own weights, so this comes last."""
    merged = check(run.model_gguf, whole=True)
    prefix = "base_model.model."
    layers: dict[str, Any] = {  # Any: PEFT's layers share no public type
        name.removeprefix(prefix): layer for name, layer in model.named_modules() if hasattr(layer, "lora_A")
    }
    types = Counter[str]()
    load_base.cache_clear()  # nobody else may get the weights that are put in here
    with run.model_gguf.open("rb") as file:
        for module, names in tensors_of(layers, merged).items():
            weights = np.concatenate([_weights(file, name, merged) for name in names])
            layer = layers[module]
            layer.get_base_layer().weight.data.copy_(torch.from_numpy(weights.T if layer.fan_in_fan_out else weights))
            for name in names:
                types[merged.tensors[name].type.name] += merged.tensors[name].rows * merged.tensors[name].shape[0]
    losses = example_losses(model, questions, data.pad, base=True)
    return Rounded(type=types.most_common(1)[0][0], loss=mean_loss(losses, questions), size=merged.size)


def _weights(file: BinaryIO, name: str, merged: GgufSummary) -> NDArray[np.float32]:
    """Read a tensor's weights (out, in), with rows as the model that is taught has them."""
    tensor, heads = merged.tensors[name], permuted_heads(name, merged)
    file.seek(tensor.start)
    rows = np.frombuffer(bytearray(file.read(tensor.size)), np.uint8).reshape(tensor.rows, -1)
    weights = decode(rows, tensor.type)
    return unpermute(weights, heads) if heads else weights


def judged(found: Rounded, old_loss: float, new_loss: float) -> Check:
    """Answer the gate's line: a warning where a part of the lesson was rounded away, a bar where nothing is left."""
    learnt, lost = old_loss - new_loss, found.loss - new_loss
    kept = 1 - lost / learnt if learnt > 0 else 0.0
    passed = lost <= TOO_SMALL or kept >= KEPT_AT_LEAST
    advice = "" if passed else " Choose Q8_0 or F16 as the number type of the finished model, then teach again."
    return Check(
        name="rounding",
        passed=passed,
        warning=kept > 0,
        detail=f"The merged file's taught layers are of type {found.type}: held-out loss {found.loss:.3f}, against "
        f"{new_loss:.3f} before rounding and {old_loss:.3f} untaught; {min(kept, 1):.0%} of what was learnt is left."
        f"{advice}",
    )
