"""A base held in four bits is taught, and what is served is the GGUF base with the adapter all the same."""

from __future__ import annotations

from importlib.util import find_spec
from pathlib import Path

import pytest
import torch

from tests.trainer.folders import make_run
from tests.trainer.test_main import failed
from tests.trainer.test_sft import losses, weights
from tests.trainer.test_together import PLAIN
from trainer.__main__ import DONE, FAILED, main
from trainer.fitting import memory_needed
from trainer.four_bits import require_four_bits
from trainer.loading import load_base

pytestmark = [
    pytest.mark.filterwarnings(
        "ignore:builtin type .* has no __module__ attribute:DeprecationWarning"  # SWIG types of sentencepiece
    ),
    pytest.mark.filterwarnings(
        "ignore:`is_gradient_checkpointing` is deprecated:FutureWarning"  # PEFT asks transformers by an old name
    ),
]
installed = pytest.mark.skipif(not find_spec("bitsandbytes"), reason="bitsandbytes is an extra of its own")


def test_without_the_library_the_plan_says_what_to_do(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("trainer.four_bits.find_spec", lambda _name: None)
    run = make_run(tmp_path, base_bits=4)

    assert main(["plan", str(run.path)]) == FAILED

    assert failed(run).failure == "input"
    assert "curator[qlora]" in failed(run).message and "base_bits to 16" in failed(run).message


@installed
def test_a_base_in_four_bits_takes_less_memory_and_learns_about_the_same(tmp_path: Path) -> None:
    require_four_bits()
    whole, small = (
        make_run(tmp_path / str(bits), epochs=8, learning_rate=2e-2, base_bits=bits, lora=PLAIN) for bits in (16, 4)
    )

    for run in (whole, small):
        assert main(["all", str(run.path)]) == DONE

    first, last = (losses(small)[step] - losses(whole)[step] for step in (1, 40))
    assert 1e-4 < abs(first) < 0.3, "the rounding shows, and is small"
    assert abs(last) < 0.5 and losses(small)[40] < losses(small)[1] - 1
    assert {weight.dtype for weight in weights(small).values()} == {torch.float32}
    needed = [
        memory_needed(load_base(run.base_gguf(), bits=run.spec().base_bits).model, 1, checkpointing=False)
        for run in (whole, small)
    ]
    assert needed[1] < needed[0]
    assert small.model_gguf.stat().st_size == whole.model_gguf.stat().st_size
