"""Learning from preferences, and going on from an earlier version."""

from __future__ import annotations

import math
import shutil
from pathlib import Path

import pytest
import torch

from tests.trainer.folders import example, make_run
from tests.trainer.test_sft import losses, teach, weights
from trainer.encoded import encode
from trainer.failures import Cancelled, TrainerFailure
from trainer.loading import load_base
from trainer.loss import example_losses, mean_loss
from trainer.rundir import RunDir
from trainer.spec import Example, Limits
from trainer.teacher import Teacher

pytestmark = [
    pytest.mark.filterwarnings(
        "ignore:builtin type .* has no __module__ attribute:DeprecationWarning"  # SWIG types of sentencepiece
    ),
    pytest.mark.filterwarnings(
        "ignore:`is_gradient_checkpointing` is deprecated:FutureWarning"  # PEFT asks transformers by an old name
    ),
]


def pair(number: int) -> Example:
    """The better answer is the one that is known, the worse one sends people away."""
    return example(number).model_copy(update={"rejected": "Ask somebody else, not me."})


def preferences(folder: Path, **options: object) -> RunDir:
    pairs = [pair(n) for n in range(12)]
    return make_run(folder, examples=pairs, train=0, val=0, method="dpo", **options)  # type: ignore[arg-type]


def margins(run: RunDir) -> float:
    """How much likelier, in nats, the better answers are than the worse ones, in the model as it was taught."""
    from peft import PeftModel

    base, data = load_base(run.base_gguf()), encode(run)
    model = PeftModel.from_pretrained(base.model, str(run.adapter))
    sides = [data.train, [data.rejected[e.id] for e in data.train]]
    better, worse = (sum(example_losses(model, side, data.pad)[e.id] * e.answer_tokens for e in side) for side in sides)
    model.unload()
    return worse - better


def test_better_answers_become_likelier_and_worse_ones_less_likely(tmp_path: Path) -> None:
    barely = preferences(tmp_path / "barely", max_steps=1, learning_rate=1e-9)
    taught = preferences(tmp_path / "taught", epochs=6, learning_rate=5e-3)

    teach(barely)
    teach(taught)

    assert margins(taught) > margins(barely) + 12 * 2
    assert min(losses(taught).values()) < losses(taught)[1] - 0.5


def test_the_first_loss_is_that_of_a_model_that_prefers_nothing(tmp_path: Path) -> None:
    run = preferences(tmp_path, max_steps=1, batch_size=12, lora={"dropout": 0}, sft_weight=0.5)
    data = encode(run)
    per_answer = example_losses(load_base(run.base_gguf()).model, data.train, data.pad)

    teach(run)

    learnt = sum(per_answer.values()) / len(per_answer)
    assert losses(run)[1] == pytest.approx(math.log(2) + 0.5 * learnt, abs=1e-4)


def test_a_step_over_pairs_is_the_same_in_however_many_parts(tmp_path: Path) -> None:
    runs = [
        preferences(tmp_path / str(tokens), epochs=2, learning_rate=5e-3, micro_tokens=tokens, lora={"dropout": 0})
        for tokens in (64, 4096)
    ]

    for run in runs:
        teach(run)

    assert losses(runs[0]) == pytest.approx(losses(runs[1]), abs=1e-5)


def test_a_stopped_run_of_preferences_goes_on_as_if_nothing_had_happened(tmp_path: Path) -> None:
    whole, stopped = (preferences(tmp_path / name, epochs=3, learning_rate=5e-3) for name in ("whole", "stopped"))
    teach(whole)

    asked: list[bool] = []
    with pytest.raises(Cancelled):
        teach(stopped, lambda: not asked and len(losses(stopped)) >= 4)
    asked.append(True)
    teach(stopped)

    assert losses(stopped) == pytest.approx(losses(whole), abs=1e-5)


def test_the_best_moment_is_chosen_by_pairs_that_are_held_out(tmp_path: Path) -> None:
    run = preferences(tmp_path, epochs=2, learning_rate=5e-3)
    run.split_file("val").write_text("".join(pair(n).model_dump_json() + "\n" for n in (100, 101)))

    teach(run)

    held_out = [event.eval_loss for event in run.events() if event.kind == "eval"]
    assert held_out and held_out[-1] is not None and held_out[0] is not None and held_out[-1] < held_out[0]


@pytest.mark.parametrize("rejected", ["", "  ", example(1).messages[-1].content])
def test_a_pair_without_a_second_answer_is_refused(tmp_path: Path, rejected: str) -> None:
    bad = example(1).model_copy(update={"rejected": rejected})

    with pytest.raises(TrainerFailure, match="r1 has no second answer"):
        encode(make_run(tmp_path, examples=[bad], train=0, method="dpo"))


def test_preferences_are_learnt_in_smaller_steps_unless_asked_otherwise(tmp_path: Path) -> None:
    assert preferences(tmp_path / "usual").spec().learning_rate == 5e-6
    assert preferences(tmp_path / "asked", learning_rate=1e-4).spec().learning_rate == 1e-4


def continued(first: RunDir, folder: Path, **options: object) -> RunDir:
    run = make_run(folder, continues=1, **options)  # type: ignore[arg-type]
    shutil.copytree(first.adapter, run.start)
    return run


def test_a_run_goes_on_from_an_earlier_version(tmp_path: Path) -> None:
    first = make_run(tmp_path / "first", epochs=6, learning_rate=2e-2, lora={"dropout": 0})
    teach(first)
    second = continued(first, tmp_path / "second", max_steps=1, learning_rate=1e-9, lora={"dropout": 0})

    teach(second)

    before, after = weights(first), weights(second)
    assert set(before) == set(after)
    assert all(torch.allclose(before[name], after[name], atol=1e-6) for name in before)
    assert losses(second)[1] < losses(first)[1] - 1


def test_preferences_start_from_what_was_taught_before(tmp_path: Path) -> None:
    first = make_run(tmp_path / "first", epochs=6, learning_rate=2e-2)
    teach(first)
    options = {
        "examples": [pair(n) for n in range(12)],
        "train": 0,
        "val": 0,
        "method": "dpo",
        "learning_rate": 2e-3,
        "epochs": 2,
    }
    second = continued(first, tmp_path / "second", **options)
    data = encode(second)
    base = load_base(second.base_gguf())
    teacher = Teacher(base, second.spec(), data, tmp_path, Limits(micro_tokens=512, checkpointing=False), second.start)
    known = mean_loss(example_losses(teacher.model, data.train, data.pad), data.train)  # type: ignore[arg-type]
    from trainer.fast_layers import release

    release(teacher.model)  # type: ignore[arg-type]

    teach(second)

    assert known < 4  # of a model that has been taught; an untaught one knows more than 6
    assert margins(second) > margins(first_as_preferences(first, second))


def first_as_preferences(first: RunDir, second: RunDir) -> RunDir:
    """The first version seen with the second's questions."""
    folder = first.path.parent / "seen"
    folder.mkdir()
    for name in ("train.jsonl", "val.jsonl", "test.jsonl", "spec.json", "base.gguf"):
        shutil.copy(second.path / name, folder / name)
    shutil.copytree(first.adapter, folder / "adapter")
    return RunDir(folder)


@pytest.mark.parametrize(("broken", "words"), [("gone", "not in the run folder"), ("rank", "taught with rank 16")])
def test_a_version_that_cannot_be_gone_on_from_is_refused(tmp_path: Path, broken: str, words: str) -> None:
    first = make_run(tmp_path / "first", max_steps=1)
    teach(first)
    run = continued(first, tmp_path / "second", lora={"rank": 4} if broken == "rank" else {})
    if broken == "gone":
        (run.start / "adapter_model.safetensors").unlink()

    with pytest.raises(TrainerFailure, match=words):
        teach(run)


def test_both_sides_of_a_pair_are_their_last_answers_alone(tmp_path: Path) -> None:
    turns = [*pair(1).messages, *pair(2).messages]
    talk = pair(2).model_copy(update={"messages": turns})

    data = encode(make_run(tmp_path, examples=[talk], train=0, val=0, method="dpo", turns="all"))

    assert data.train[0].taught == ((data.train[0].start, len(data.train[0].ids)),)
    assert data.train[0].start == data.rejected[talk.id].start
