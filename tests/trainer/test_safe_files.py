"""Weights come from safetensors and GGUF alone, and no model brings code that runs."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from tests.trainer.folders import make_run
from tests.trainer.test_sft import teach
from trainer import checkpoints
from trainer.convert import convert
from trainer.failures import TrainerFailure
from trainer.rundir import RunDir

pytestmark = [
    pytest.mark.filterwarnings(
        "ignore:builtin type .* has no __module__ attribute:DeprecationWarning"  # SWIG types of sentencepiece
    ),
    pytest.mark.filterwarnings(
        "ignore:`is_gradient_checkpointing` is deprecated:FutureWarning"  # PEFT asks transformers by an old name
    ),
]
ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture
def run(tmp_path: Path) -> RunDir:
    run = make_run(tmp_path, max_steps=2, evals_per_epoch=5)
    teach(run)
    return run


def pickled(folder: Path) -> None:
    """Turn an adapter's weights into the older form."""
    file = folder / "adapter_model.safetensors"
    torch.save(load_file(file), folder / "adapter_model.bin")
    file.unlink()


def test_a_pickled_adapter_is_not_converted(run: RunDir) -> None:
    pickled(run.adapter)

    with pytest.raises(TrainerFailure, match=r"has no adapter_model\.safetensors"):
        convert(run)

    assert not run.adapter_gguf.exists()


def test_a_pickled_adapter_is_not_gone_on_from(run: RunDir, tmp_path: Path) -> None:
    later = make_run(tmp_path / "later", continues=1)
    run.adapter.rename(later.start)
    pickled(later.start)

    with pytest.raises(TrainerFailure, match="is not in the run folder"):
        teach(later)


def test_a_checkpoint_with_pickled_weights_is_passed_over(run: RunDir) -> None:
    newest = run.checkpoints / "checkpoint-2"
    pickled(newest)
    (newest / checkpoints.COMPLETE).unlink()
    checkpoints.seal(newest)

    found = checkpoints.newest(run.checkpoints)

    assert found is not None and found.name == "checkpoint-1"


def test_no_call_trusts_the_code_of_a_model() -> None:
    sources = [file for folder in ("trainer", "curator", "db") for file in (ROOT / folder).rglob("*.py")]

    assert len(sources) > 100
    assert [file.name for file in sources if "trust_remote_code" in file.read_text(encoding="utf-8")] == []
