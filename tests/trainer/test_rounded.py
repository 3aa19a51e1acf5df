"""What rounding the merged file costs is measured on the file itself, and told."""

from __future__ import annotations

from pathlib import Path

import pytest
from peft import PeftModel

from tests.trainer.folders import make_run
from tests.trainer.test_sft import teach
from trainer import rounded
from trainer.convert import convert
from trainer.encoded import encode
from trainer.evaluation import Check, Rounded
from trainer.loading import load_base
from trainer.loss import example_losses, mean_loss

pytestmark = [
    pytest.mark.filterwarnings(
        "ignore:builtin type .* has no __module__ attribute:DeprecationWarning"  # SWIG types of sentencepiece
    ),
    pytest.mark.filterwarnings(
        "ignore:`is_gradient_checkpointing` is deprecated:FutureWarning"  # PEFT asks transformers by an old name
    ),
]


@pytest.mark.parametrize("merged_type", ["Q8_0", "Q4_0", "BF16", "same"])
def test_the_loss_is_that_of_the_very_file_as_transformers_reads_it(tmp_path: Path, merged_type: str) -> None:
    run = make_run(tmp_path, max_steps=4, learning_rate=2e-2, merged_type=merged_type)
    teach(run)
    convert(run)
    data = encode(run)
    questions = data.splits["test"]
    base = load_base(run.base_gguf())
    model = PeftModel.from_pretrained(base.model, str(run.adapter))
    taught = mean_loss(example_losses(model, questions, data.pad), questions)

    found = rounded.measure(run, model, questions, data)

    assert load_base(run.base_gguf()) is not base, "nobody may get the changed weights"
    file = load_base(run.model_gguf).model
    assert found.loss == pytest.approx(mean_loss(example_losses(file, questions, data.pad), questions), abs=1e-5)
    assert found.type == {"same": "F32"}.get(merged_type, merged_type)
    off = abs(found.loss - taught)
    assert off > 0.005 if merged_type == "Q4_0" else off < (1e-5 if merged_type == "same" else 0.005)


def line(loss: float, kind: str = "Q4_0") -> Check:
    return rounded.judged(Rounded(type=kind, loss=loss, size=1), old_loss=3.0, new_loss=1.0)


def test_a_lesson_that_is_still_there_passes_and_says_how_much() -> None:
    assert line(1.1).passed
    assert "95% of what was learnt is left" in line(1.1).detail
    assert "more bits" not in line(1.1).detail
    assert "100% of what was learnt" in line(0.9).detail


def test_a_type_that_ate_a_part_of_the_lesson_is_a_warning_with_a_way_out() -> None:
    assert (line(1.5).passed, line(1.5).blocks) == (False, False)
    assert line(1.5).detail.endswith("made from the same run, keeps more; nothing is taught again.")


def test_a_type_that_ate_the_whole_lesson_keeps_the_version_back() -> None:
    assert line(3.0).blocks


@pytest.mark.parametrize(("old", "loss", "passed"), [(1.005, 1.009, True), (0.9, 1.0, True), (0.9, 1.2, False)])
def test_where_little_was_learnt_only_what_is_clearly_lost_counts(old: float, loss: float, passed: bool) -> None:
    check = rounded.judged(Rounded(type="Q8_0", loss=loss, size=1), old_loss=old, new_loss=1.0)

    assert check.passed is passed
