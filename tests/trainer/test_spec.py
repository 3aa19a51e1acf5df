"""The contract refuses what would only fail an hour later."""

from __future__ import annotations

import subprocess
import sys

import pytest
from pydantic import ValidationError

from trainer.evaluation import Evaluation
from trainer.recipe import BaseRef, TrainSpec
from trainer.spec import Example, Message

BASE = BaseRef(name="Tiny", gguf="base.gguf", sha256="0" * 64)


def test_a_spec_survives_its_own_json() -> None:
    spec = TrainSpec(run="first", base=BASE)

    assert TrainSpec.model_validate_json(spec.model_dump_json()) == spec
    assert spec.lora.rank == 16


@pytest.mark.parametrize(
    "wrong",
    [
        {"learning_rate": float("nan")},
        {"learning_rate": 1e308},
        {"epochs": 0},
        {"method": "; touch x"},
        {"merged_type": "$(x)"},
        {"deepspeed": "/etc/x"},
    ],
)
def test_values_out_of_range_are_refused(wrong: dict[str, object]) -> None:
    with pytest.raises(ValidationError):
        TrainSpec.model_validate({"run": "x", "base": BASE.model_dump(), **wrong})


def test_an_example_needs_a_question_and_an_answer() -> None:
    with pytest.raises(ValidationError):
        Example(id="a", group="a", messages=[Message(role="user", content="Why?")])


def test_reading_the_contract_loads_no_torch() -> None:
    code = "import sys, trainer.spec, trainer.rundir, trainer.bases, trainer.hardware; print('torch' in sys.modules)"

    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)  # noqa: S603 - our own words

    assert done.stdout.strip() == "False"


def test_the_evaluation_of_an_older_run_still_opens() -> None:
    found = Evaluation.model_validate_json(
        """{"old_loss": 2, "new_loss": 1, "questions": [{"id": "1", "question": "?", "approved": "Yes.", "old": "No.",
        "new": "Yes.", "old_loss": 2, "new_loss": 1, "outcome": "better"}], "pins": [], "better": 1, "same": 0,
        "worse": 0, "old_pins": 0, "new_pins": 0, "stops": 1, "stops_asked": 1,
        "checks": [{"name": "pins", "passed": true, "detail": ""}]}"""
    )

    assert found.passed
    assert (found.old, found.new, found.knowledge) == (None, None, None)
    assert found.questions[0].new_measures is None
