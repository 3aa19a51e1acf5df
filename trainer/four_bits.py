"""Hold a base in four bits while it is taught (QLoRA), so that one four times larger fits on a graphics card.

Dettmers et al., "QLoRA: Efficient Finetuning of Quantized LLMs", 2023: frozen weights as 4-bit normal floats (nf4) in
blocks of 64, whose scales are held in 8 bits. What is served is still the GGUF base with the adapter merged into it,
so an update learnt on rounded weights may do less there; the evaluation measures the merged model and decides.
"""

from __future__ import annotations

from importlib.util import find_spec
from typing import Any

import torch
from torch import nn
from transformers import PreTrainedModel

from trainer.failures import TrainerFailure


def require_four_bits() -> None:
    """Raise TrainerFailure where a base cannot be held in four bits."""
    if not find_spec("bitsandbytes"):
        raise TrainerFailure(
            "input",
            "The recipe holds the base in 4 bits, and the library bitsandbytes is not installed here. Install "
            "'curator[qlora]', best on a machine with a graphics card, or set base_bits to 16.",
        )


def hold_in_four_bits(model: PreTrainedModel, dtype: torch.dtype) -> None:
    """Put a 4-bit layer in the place of each linear layer of the blocks; it computes in `dtype`.

    On the way to a graphics card a layer is rounded there, one by one, so the card never holds the whole base.
    """
    from bitsandbytes.nn import Linear4bit, Params4bit  # pyright: ignore[reportMissingImports] - an extra

    card = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    head = model.get_output_embeddings()
    layers = [(name, layer) for name, layer in model.named_modules() if type(layer) is nn.Linear and layer is not head]
    for name, layer in layers:
        small: Any = Linear4bit(  # Any: the library's types are partial
            layer.in_features,
            layer.out_features,
            bias=layer.bias is not None,  # pyright: ignore[reportUnnecessaryComparison] - torch's types forget it
            compute_dtype=dtype,
            compress_statistics=True,
            quant_type="nf4",
            device="meta",
        )
        small.weight = Params4bit(layer.weight.data, requires_grad=False, quant_type="nf4", module=small)
        small.bias = layer.bias
        model.set_submodule(name, small.to(card))
    model.is_loaded_in_4bit = True  # type: ignore[assignment]  # by this PEFT and trl know
