"""Learning from single judgements; test_kto_trl.py compares it with trl's own KTOTrainer."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from peft import PeftModel

from tests.trainer.folders import example, make_run
from tests.trainer.test_dpo import continued, pair
from tests.trainer.test_sft import losses, teach
from trainer.encoded import EncodedRun, encode
from trainer.evaluate import held_out as exam
from trainer.failures import Cancelled, TrainerFailure
from trainer.kto import mismatched
from trainer.loading import load_base
from trainer.loss import example_losses
from trainer.plan import plan
from trainer.rundir import RunDir, write_lines
from trainer.sft import train
from trainer.spec import Example, Message, Plan

pytestmark = [
    pytest.mark.filterwarnings(
        "ignore:builtin type .* has no __module__ attribute:DeprecationWarning"  # SWIG types of sentencepiece
    ),
    pytest.mark.filterwarnings(
        "ignore:`is_gradient_checkpointing` is deprecated:FutureWarning"  # PEFT asks transformers by an old name
    ),
]
PLAIN = {"dropout": 0}


def judged(number: int) -> Example:
    """Two answers of three are the known one and good; the others send people away and are bad."""
    if number % 3:
        return example(number)
    return example(number, f"{number} times: ask somebody else.").model_copy(update={"good": False})


KINDS: dict[str, Any] = {"examples": [judged(n) for n in range(12)], "train": 0, "val": 0, "method": "kto"}
PLACES = ("harbour", "office", "ferry", "car park", "café", "beach", "museum", "station", "library", "market")


def judgements(folder: Path, **options: Any) -> RunDir:  # Any: fields of TrainSpec
    return make_run(folder, **KINDS, **options)


def hold_out(run: RunDir, numbers: range) -> None:
    write_lines(run.split_file("val"), [judged(n) for n in numbers])


def held_out(run: RunDir) -> dict[int, float]:
    return {e.step: e.eval_loss for e in run.events() if e.kind == "eval" and e.step and e.eval_loss is not None}


def planned(run: RunDir) -> Plan:
    plan(run)
    found = run.plan()
    assert found is not None
    return found


def told(number: int) -> Example:
    """One short question about a place, with a good answer or with a bad one."""
    place = PLACES[number % 10]
    turns = [
        Message(role="user", content=f"Is the {place} open on day {number}?"),
        Message(
            role="assistant", content=f"Yes, the {place} is open until six." if number % 2 else "Ask somebody else."
        ),
    ]
    return Example(id=f"t{number}", group=f"t{number}", messages=turns, good=bool(number % 2))


def sides(model: Any, data: EncodedRun) -> dict[str, float]:  # Any: a model, wrapped or not
    """The mean loss of held-out good and of bad answers, in nats a token."""
    found = example_losses(model, data.splits["val"], data.pad)
    bad = [loss for key, loss in found.items() if key in data.bad]
    good = [loss for key, loss in found.items() if key not in data.bad]
    return {"good": sum(good) / len(good), "bad": sum(bad) / len(bad)}


def taught(run: RunDir) -> PeftModel:
    return PeftModel.from_pretrained(load_base(run.base_gguf()).model, str(run.adapter))


def margin(run: RunDir) -> float:
    """How much likelier, in nats a token, good answers are than bad ones in the model as it was taught."""
    data = encode(run)
    found = sides(taught(run), replace(data, splits={"val": data.train}))
    return found["bad"] - found["good"]


def test_good_answers_become_likelier_and_bad_ones_less_likely(tmp_path: Path) -> None:
    barely = judgements(tmp_path / "barely", max_steps=1, learning_rate=1e-9)
    taught = judgements(tmp_path / "taught", epochs=6, learning_rate=5e-3)

    teach(barely)
    teach(taught)

    assert margin(taught) > margin(barely) + 1
    assert min(losses(taught).values()) < losses(taught)[1] / 2


def test_the_first_loss_is_that_of_a_model_that_finds_all_alike(tmp_path: Path) -> None:
    run = judgements(tmp_path, max_steps=1, batch_size=12, good_weight=2, bad_weight=0.5)

    teach(run)

    assert losses(run)[1] == pytest.approx((8 * 2 + 4 * 0.5) * 0.5 / 12, abs=1e-5)


def test_all_bad_answers_count_as_much_as_all_good_ones(tmp_path: Path) -> None:
    run = judgements(tmp_path, max_steps=1, batch_size=12, good_weight=3)

    teach(run)

    assert run.spec().kto_weights(8, 4) == (3, 6)
    assert losses(run)[1] == pytest.approx((8 * 3 + 4 * 6) * 0.5 / 12, abs=1e-5)


def test_a_prompt_gets_the_answer_to_the_one_before_and_no_more_of_it_than_fits(tmp_path: Path) -> None:
    (one, two, three) = encode(judgements(tmp_path)).train[:3]

    crossed = mismatched([one, two, three], longest=1000)
    cut = mismatched([one, two, three], longest=one.start + 2)

    assert [row.ids[: row.start] for row in crossed] == [each.ids[: each.start] for each in (one, two, three)]
    assert [row.ids[row.start :] for row in crossed] == [each.ids[each.start :] for each in (three, one, two)]
    assert cut[0].ids == crossed[0].ids[: one.start + 2]
    assert mismatched([one], longest=1000) == []


def test_a_step_over_judgements_is_the_same_in_however_many_parts(tmp_path: Path) -> None:
    runs = [
        judgements(tmp_path / str(tokens), epochs=2, learning_rate=1e-3, micro_tokens=tokens, lora=PLAIN)
        for tokens in (64, 4096)
    ]

    for run in runs:
        teach(run)

    assert losses(runs[0]) == pytest.approx(losses(runs[1]), abs=1e-5)


def test_a_stopped_run_of_judgements_goes_on_as_if_nothing_had_happened(tmp_path: Path) -> None:
    whole, stopped = (judgements(tmp_path / name, epochs=3, learning_rate=1e-3) for name in ("whole", "stopped"))
    for run in (whole, stopped):
        hold_out(run, range(100, 106))
    teach(whole)

    asked: list[bool] = []
    with pytest.raises(Cancelled):
        teach(stopped, lambda: not asked and len(losses(stopped)) >= 4)
    asked.append(True)
    teach(stopped)

    assert losses(stopped) == pytest.approx(losses(whole), abs=1e-5)
    assert held_out(stopped) == pytest.approx(held_out(whole), abs=1e-5)


def test_the_best_moment_is_chosen_by_judgements_that_are_held_out(tmp_path: Path) -> None:
    run = judgements(tmp_path, epochs=2, learning_rate=2e-3)
    hold_out(run, range(100, 106))

    teach(run)

    course = held_out(run)
    assert course[max(course)] < course[min(course)] - 0.01


def test_a_run_of_judgements_goes_on_from_what_an_earlier_one_was_taught(tmp_path: Path) -> None:
    first = make_run(tmp_path / "first", epochs=6, learning_rate=2e-2, lora=PLAIN)
    teach(first)
    second = continued(first, tmp_path / "second", max_steps=1, batch_size=12, lora=PLAIN, **KINDS)

    teach(second)

    # π₀ is the earlier version, not the base: at the first step nothing is gained yet
    assert losses(second)[1] == pytest.approx((8 + 8) * 0.5 / 12, abs=1e-5)


def test_a_pair_is_a_good_answer_and_a_bad_one(tmp_path: Path) -> None:
    data = encode(make_run(tmp_path, examples=[pair(1), judged(3)], train=0, val=0, method="kto"))

    assert [one.id for one in data.train] == ["r1", "r1.rejected", "r3"]
    assert data.bad == {"r1.rejected", "r3"}
    assert data.train[0].ids[: data.train[0].start] == data.train[1].ids[: data.train[1].start]


def test_what_is_bad_has_no_part_in_the_exam(tmp_path: Path) -> None:
    run = judgements(tmp_path)
    write_lines(run.split_file("test"), [judged(300), judged(301), pair(302)])
    data = encode(run)

    assert [one.id for one in data.splits["test"]] == ["r301", "r302"]
    assert [one.id for one in exam(run, data)[0]] == ["r301", "r302"]

    hold_out(run, range(102, 105))
    write_lines(run.split_file("test"), [judged(300)])
    encoded, questions, note = exam(run, encode(run))
    assert [one.id for one in encoded] == [one.id for one in questions] == ["r103", "r104"]
    assert "flatter" in note


@pytest.mark.parametrize("method", ["sft", "dpo"])
def test_other_methods_refuse_to_teach_what_is_bad(tmp_path: Path, method: str) -> None:
    with pytest.raises(TrainerFailure, match=f"r3 is an answer that people found bad, and {method} would teach it"):
        encode(make_run(tmp_path, examples=[judged(3)], method=method))


@pytest.mark.parametrize(
    ("numbers", "batch_size", "words"),
    [
        ((1, 2, 4), 4, "3 good and 0 bad answers"),
        ((0, 3), 4, "0 good and 2 bad answers"),
        ((0, 1), 1, "2 answers or more"),
    ],
)
def test_judgements_that_nothing_can_be_learnt_from_are_refused(
    tmp_path: Path, numbers: tuple[int, ...], batch_size: int, words: str
) -> None:
    run = make_run(tmp_path, examples=[judged(n) for n in numbers], train=0, val=0, method="kto", batch_size=batch_size)

    with pytest.raises(TrainerFailure, match=words):
        encode(run)


def test_the_plan_shows_how_many_are_good_and_one_of_each(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    found = planned(judgements(tmp_path))

    said = capsys.readouterr().out
    assert (found.examples["train"], found.bad) == (12, 4)
    assert "ask somebody else" in "".join(span.text for span in found.painted_bad if span.trained)
    assert "ask somebody else" not in "".join(span.text for span in found.example)
    assert "8 are good answers and 4 bad ones" in said
    assert "times: ask somebody else." in said.partition("A bad one")[2]


def test_of_other_methods_the_plan_says_nothing_of_bad_ones(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert planned(make_run(tmp_path)).bad is None
    assert "bad" not in capsys.readouterr().out


@pytest.mark.slow
def test_a_real_model_finds_unseen_good_answers_likelier_than_bad_ones(tmp_path: Path, real_base: Path) -> None:
    run = make_run(
        tmp_path, base=real_base, examples=[told(n) for n in range(16)], train=0, val=0, test=0, method="kto",
        batch_size=8, epochs=2, evals_per_epoch=1, learning_rate=1e-4,
    )  # fmt: skip
    write_lines(run.split_file("val"), [told(n) for n in range(100, 108)])
    data, base = encode(run), load_base(run.base_gguf())
    before = sides(base.model, data)

    train(run, base, data)

    after = sides(taught(run), data)
    assert after["bad"] - after["good"] > before["bad"] - before["good"] + 0.2, (before, after)
    assert after["good"] < before["good"] + 0.1, "what is good has not faded"
