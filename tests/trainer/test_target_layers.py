"""Which layers learn by default, in every architecture that can be converted."""

from __future__ import annotations

import pytest
from peft import get_peft_model

from tests.trainer.tiny_archs import MODELS
from tests.trainer.tiny_models import linear_layers, tiny
from trainer.recipe import BaseRef, TrainSpec
from trainer.teacher import lora_config

pytestmark = [
    pytest.mark.filterwarnings(
        "ignore:builtin type .* has no __module__ attribute:DeprecationWarning"  # SWIG types of sentencepiece
    ),
    pytest.mark.filterwarnings(
        "ignore:`is_gradient_checkpointing` is deprecated:FutureWarning"  # PEFT asks transformers by an old name
    ),
]


@pytest.mark.parametrize("key", MODELS)
def test_every_linear_layer_of_the_blocks_learns_under_whatever_name(key: str) -> None:
    spec = TrainSpec(run="try", base=BaseRef(name="Tiny", gguf="base.gguf", sha256="0" * 64))
    model = tiny(key)
    linear = linear_layers(model)

    tuned = get_peft_model(model, lora_config(spec, model))

    halves = [name for name, _ in tuned.named_modules() if name.endswith(".lora_A")]
    taught = {name.removeprefix("base_model.model.").removesuffix(".lora_A") for name in halves}
    assert taught == linear
