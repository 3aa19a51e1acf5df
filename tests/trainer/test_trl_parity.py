"""Our loop against trl's own, on the same batches: the same loss at every step, and the same adapter at the end.

trl's SFTTrainer is used as it is: its preparation, collator, loss, optimiser and loop, nothing patched. Set equal are
the tokens and which of them are taught (as `completion_mask`), the order of the examples (laid out beforehand and read
in sequence), and our schedule, which without a warm-up is transformers' cosine.
"""

from __future__ import annotations

import warnings
from pathlib import Path

import pytest
from datasets import Dataset
from safetensors.torch import load_file
from trl.trainer.sft_config import SFTConfig
from trl.trainer.sft_trainer import SFTTrainer

from tests.trainer.by_trl import Course, course_of, same_loop
from tests.trainer.folders import make_run
from trainer.batches import epoch_order
from trainer.data import Encoded
from trainer.encoded import EncodedRun, encode
from trainer.loading import load_base
from trainer.recipe import TrainSpec
from trainer.rundir import RunDir
from trainer.sft import train
from trainer.teacher import lora_config

pytestmark = pytest.mark.filterwarnings(
    "ignore:builtin type .* has no __module__ attribute:DeprecationWarning"  # SWIG types of sentencepiece
)
EPOCHS, STEPS = 2, 10


@pytest.mark.parametrize("parts", [4, pytest.param(1, marks=pytest.mark.slow)])
def test_a_step_of_ours_is_a_step_of_trls(tmp_path: Path, parts: int) -> None:
    """Whole batches at once, and batches in parts: trl accumulates single examples, ours goes by tokens."""
    ours, theirs = (
        make_run(
            tmp_path / name, epochs=EPOCHS, learning_rate=1e-2, warmup_ratio=0, val=0,
            lora={"dropout": 0}, micro_tokens=1024 if parts == 1 else 64,
        )
        for name in ("ours", "theirs")
    )  # fmt: skip

    losses, adapter = by_us(ours)
    their_losses, their_adapter = by_trl(theirs, parts)

    assert sorted(losses) == list(range(1, STEPS + 1))
    assert losses[STEPS] < losses[1] - 0.5, "it did learn"
    assert losses == pytest.approx(their_losses, rel=1e-4)
    assert adapter.keys() == their_adapter.keys()
    for name, weight in adapter.items():  # as wholes, because Adam makes much of the dust where a gradient is zero
        assert (weight - their_adapter[name]).norm() <= 1e-3 * their_adapter[name].norm(), name


def by_us(run: RunDir) -> Course:
    train(run, load_base(run.base_gguf()), encode(run))
    course = {e.step: e.loss for e in run.events() if e.kind == "step" and e.step and e.loss is not None}
    return course, load_file(run.adapter / "adapter_model.safetensors")


def by_trl(run: RunDir, parts: int) -> Course:
    spec, data, base = run.spec(), encode(run), load_base(run.base_gguf())
    config = SFTConfig(
        per_device_train_batch_size=spec.batch_size // parts,
        gradient_accumulation_steps=parts,
        completion_only_loss=True,
        **same_loop(run),
    )
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", FutureWarning)  # PEFT asks transformers by an old name
        trainer = SFTTrainer(
            model=base.model,
            args=config,
            train_dataset=Dataset.from_list([_row(example) for example in _in_order(data, spec)]),
            processing_class=base.tokenizer,
            peft_config=lora_config(spec, base.model),
        )
        trainer.train()
        return course_of(trainer, run)


def _in_order(data: EncodedRun, spec: TrainSpec) -> list[Encoded]:
    orders = (epoch_order(len(data.train), spec.seed, epoch) for epoch in range(EPOCHS))
    return [data.train[at] for order in orders for at in order]


def _row(example: Encoded) -> dict[str, list[int]]:
    taught = [int(at >= example.start) for at in range(len(example.ids))]
    return {"input_ids": list(example.ids), "completion_mask": taught}
