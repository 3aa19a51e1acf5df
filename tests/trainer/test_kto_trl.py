"""Learning from single judgements against trl's own KTOTrainer: the same loss at every step, the same adapter."""

from __future__ import annotations

import warnings
from pathlib import Path
from typing import Any

import pytest
from datasets import Dataset
from safetensors.torch import load_file
from trl.trainer.kto_config import KTOConfig
from trl.trainer.kto_trainer import KTOTrainer

from tests.trainer.by_trl import Course, course_of, same_loop
from tests.trainer.test_kto import PLAIN, held_out, hold_out, judgements
from tests.trainer.test_sft import losses, teach
from trainer.batches import epoch_order
from trainer.data import Encoded
from trainer.encoded import EncodedRun, encode
from trainer.loading import load_base
from trainer.recipe import TrainSpec
from trainer.rundir import RunDir
from trainer.teacher import lora_config

pytestmark = [
    pytest.mark.filterwarnings(
        "ignore:builtin type .* has no __module__ attribute:DeprecationWarning"  # SWIG types of sentencepiece
    ),
    pytest.mark.filterwarnings(
        "ignore:`is_gradient_checkpointing` is deprecated:FutureWarning"  # PEFT asks transformers by an old name
    ),
]


@pytest.mark.parametrize(("parts", "bad_weight"), [(1, None), (4, 0.7)])
def test_a_step_of_ours_is_a_step_of_trls(tmp_path: Path, parts: int, bad_weight: float | None) -> None:
    ours, theirs = (
        judgements(
            tmp_path / name, epochs=3, learning_rate=1e-3, warmup_ratio=0, lora=PLAIN, good_weight=1.5,
            bad_weight=bad_weight, beta=0.3, micro_tokens=1024 if parts == 1 else 64,
        )
        for name in ("ours", "theirs")
    )  # fmt: skip

    for run in (ours, theirs):
        hold_out(run, range(100, 106))

    teach(ours)
    (their_losses, their_adapter), their_held_out = by_trl(theirs)

    course, adapter = losses(ours), load_file(ours.adapter / "adapter_model.safetensors")
    assert sorted(course) == list(range(1, 10))
    assert course[9] < course[1] - 0.1, "it did learn"
    assert course == pytest.approx(their_losses, abs=1e-5)
    assert held_out(ours)[9] == pytest.approx(their_held_out, abs=1e-5)
    for name, weight in adapter.items():  # as wholes, because Adam makes much of the dust where a gradient is zero
        assert (weight - their_adapter[name]).norm() <= 1e-3 * their_adapter[name].norm(), name


def by_trl(run: RunDir) -> tuple[Course, float]:
    """Let trl's trainer read our tokens in our order; pairing, loss, optimiser and loop are its own."""
    spec, data, base = run.spec(), encode(run), load_base(run.base_gguf())
    bad = sum(one.id in data.bad for one in data.train)
    config = KTOConfig(
        per_device_train_batch_size=spec.batch_size,
        per_device_eval_batch_size=len(data.splits["val"]),
        beta=spec.beta,
        desirable_weight=spec.good_weight,
        undesirable_weight=spec.bad_weight or spec.good_weight * (len(data.train) - bad) / bad,
        **same_loop(run),
    )
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", FutureWarning)  # PEFT asks transformers by an old name
        trainer = KTOTrainer(
            model=base.model,
            args=config,
            train_dataset=Dataset.from_list([{"prompt": "a", "completion": " b", "label": True}] * 2),
            processing_class=base.tokenizer,
            peft_config=lora_config(spec, base.model),
        )
        trainer.train_dataset = Dataset.from_list(_rows(data, spec))
        trainer.train()
        trainer.eval_dataset = Dataset.from_list(_batch(data, data.splits["val"]))
        return course_of(trainer, run), trainer.evaluate()["eval_loss"]


def _rows(data: EncodedRun, spec: TrainSpec) -> list[dict[str, Any]]:  # Any: as trl reads them
    orders = ([data.train[at] for at in epoch_order(len(data.train), spec.seed, n)] for n in range(int(spec.epochs)))
    batches = (order[at : at + spec.batch_size] for order in orders for at in range(0, len(order), spec.batch_size))
    return [row for batch in batches for row in _batch(data, batch)]


def _batch(data: EncodedRun, batch: list[Encoded]) -> list[dict[str, Any]]:  # Any: as above
    answers = [list(one.ids[one.start :]) for one in batch]
    return [
        {
            "prompt_ids": list(one.ids[: one.start]), "completion_ids": answer, "KL_completion_ids": other,
            "label": one.id not in data.bad,
        }
        for one, answer, other in zip(batch, answers, [answers[-1], *answers[:-1]], strict=True)
    ]  # fmt: skip
