"""Base against new: losses, answers, pins, stops; verdicts that say what they mean."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.trainer.folders import example, make_run, pin
from trainer.asking import MERGED, NEW, OLD, Answer, ServedAsker, runtime_installed
from trainer.convert import convert
from trainer.data import Encoded
from trainer.encoded import encode
from trainer.evaluate import evaluate
from trainer.evaluation import CanaryResult, Check, Evaluation, outcome
from trainer.failures import Cancelled, TrainerFailure
from trainer.loading import load_base
from trainer.rundir import RunDir
from trainer.runtimes.base import Chunk
from trainer.sft import train
from trainer.spec import PinnedQuestion
from trainer.team import never
from trainer.verdict import Asked, differs, is_right, judged

pytestmark = [
    pytest.mark.filterwarnings(
        "ignore:builtin type .* has no __module__ attribute:DeprecationWarning"  # SWIG types of sentencepiece
    ),
    pytest.mark.filterwarnings(
        "ignore:`is_gradient_checkpointing` is deprecated:FutureWarning"  # PEFT asks transformers by an old name
    ),
]
PARITY = Check(name="parity", passed=True, detail="")


def taught(folder: Path, **options: object) -> RunDir:
    """A run that has learnt its few sentences by heart, with its files."""
    run = make_run(folder, epochs=10, learning_rate=2e-2, pins=[pin(0, "return")], **options)  # type: ignore[arg-type]
    train(run, load_base(run.base_gguf()), encode(run))
    convert(run)
    return run


def check(found: Evaluation, name: str) -> Check:
    return next(check for check in found.checks if check.name == name)


@pytest.mark.skipif(not runtime_installed(), reason="xllamacpp is not installed")
def test_a_taught_model_is_asked_in_the_runtime_that_serves_it(tmp_path: Path) -> None:
    run = taught(tmp_path, answer_tokens=40)

    result = evaluate(run, never)

    found = run.evaluation()
    assert found is not None
    assert found.new_loss < found.old_loss - 1
    assert (found.better, found.same, found.worse) == (4, 0, 0)
    assert check(found, "parity").passed, check(found, "parity").detail
    assert "With no weight rounded" in check(found, "parity").detail
    assert check(found, "differs").passed
    assert check(found, "rounding").passed, check(found, "rounding").detail
    assert found.rounded is not None and found.rounded.type == "Q8_0"
    assert found.rounded.loss == pytest.approx(found.new_loss, abs=0.01)
    assert found.rounded.size == run.model_gguf.stat().st_size
    assert check(found, "held_out").passed
    assert found.stops_asked == 10
    assert len(found.pins) == 1
    assert all(q.new != q.old for q in found.questions)
    assert run.result() == result
    assert set(result.files) >= {"adapter.gguf", "model.gguf", "evaluation.json", "adapter/adapter_model.safetensors"}
    assert "better on 4" in result.message
    assert not (run.path / ".runtime").exists()


def test_without_the_runtime_the_trained_model_answers_itself(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("trainer.evaluate.runtime_installed", lambda: False)
    run = taught(tmp_path, test=2, val=1)

    evaluate(run, never)

    found = run.evaluation()
    assert found is not None
    assert check(found, "parity").detail.startswith("Not checked")
    assert len(found.questions) == 2
    assert all(q.new for q in found.questions)
    assert found.canaries == []
    assert found.knowledge is None
    assert "canaries" not in {one.name for one in found.checks}


def test_answers_are_measured_and_general_questions_asked(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("trainer.evaluate.runtime_installed", lambda: False)
    monkeypatch.setattr("trainer.evaluate.ASKED", 1)
    monkeypatch.setattr("trainer.canaries.LONGEST", 2)
    run = taught(tmp_path, test=2, val=1, answer_tokens=40, canaries=True)

    evaluate(run, never)

    found = run.evaluation()
    assert found is not None and found.old and found.new and found.approved and found.knowledge
    first, second = found.questions
    assert first.old_measures and first.new_measures
    assert (second.old_measures, second.new_measures) == (None, None), "only the first was asked in words"
    assert first.new_measures.characters == len(first.new)
    assert first.new_measures.tokens > 0
    assert found.new.answers == found.approved.answers == 1
    assert found.new.overlap == first.new_measures.overlap
    assert found.new.overlap is not None and found.old.overlap is not None
    assert found.new.overlap > found.old.overlap
    assert found.approved.characters == len(first.approved)
    assert len(found.canaries) == found.knowledge.asked >= 40
    assert check(found, "canaries").warning


def test_without_held_out_questions_the_gate_says_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("trainer.evaluate.runtime_installed", lambda: False)
    run = taught(tmp_path, test=0, val=0, train=12)

    evaluate(run, never)

    found = run.evaluation()
    assert found is not None
    assert not check(found, "held_out").passed
    assert "no question that was kept from learning" in check(found, "held_out").detail
    assert found.stops_asked == 10


def test_evaluating_before_training_says_what_is_missing(tmp_path: Path) -> None:
    with pytest.raises(TrainerFailure, match="no adapter to evaluate"):
        evaluate(make_run(tmp_path), never)


def test_a_stop_between_questions_leaves_no_evaluation(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("trainer.evaluate.runtime_installed", lambda: False)
    run = taught(tmp_path)

    with pytest.raises(Cancelled):
        evaluate(run, lambda: True)

    assert run.evaluation() is None
    assert run.result() is None


@pytest.mark.parametrize(("new", "word"), [(1.0, "better"), (1.96, "same"), (2.04, "same"), (2.2, "worse")])
def test_small_differences_count_as_the_same(new: float, word: str) -> None:
    assert outcome(2.0, new) == word


@pytest.mark.parametrize(
    ("answer", "right"),
    [
        ("Within THIRTY\n days, by post.", True),
        ("within \uff54\uff48\uff49\uff52\uff54\uff59 days by POST", True),  # full-width letters
        ("within 30 days by post", True),
        ("thirty days", False),
        ("Thirty days by post, never by fax", False),
        ("", False),
    ],
)
def test_a_pin_looks_at_words_and_not_at_their_form(answer: str, right: bool) -> None:
    asked = PinnedQuestion(
        id="p",
        messages=example(0).messages[:1],
        answer="Within thirty days by post.",
        must_include=[["thirty days", "30 days"], ["post"]],
        must_not_include=["fax"],
    )

    assert is_right(asked, answer) is right


def test_a_verdict_fails_what_got_worse_or_does_not_stop() -> None:
    questions = [example(1), example(2)]
    encoded = [Encoded("r1", (1, 2, 3), 1), Encoded("r2", (1, 2, 3, 4, 5), 1)]
    asked = Asked({"r1": (Answer("a", True), Answer("b", False))}, [], stops=8, stops_asked=10)

    found = judged(questions, encoded, ({"r1": 1.0, "r2": 1.0}, {"r1": 0.5, "r2": 1.5}), asked, [PARITY], "", len)

    assert (found.better, found.same, found.worse) == (1, 0, 1)
    assert found.new_loss == pytest.approx((0.5 * 2 + 1.5 * 4) / 6)
    assert not check(found, "held_out").passed
    assert not check(found, "stops").passed
    assert check(found, "pins").passed
    assert not found.passed
    assert "canaries" not in {one.name for one in found.checks}
    assert [(q.old, q.new) for q in found.questions] == [("a", "b"), ("", "")]


def test_what_was_forgotten_is_told_and_keeps_nothing_back() -> None:
    lost = [
        CanaryResult(id=str(n), question="?", accepted=["a"], old="a", new="b", old_right=True, new_right=n > 4)
        for n in range(10)
    ]
    asked = Asked({}, [], stops=10, stops_asked=10, canaries=lost)

    found = judged([example(1)], [Encoded("r1", (1, 2, 3), 1)], ({"r1": 1.0}, {"r1": 0.5}), asked, [PARITY], "", len)

    assert found.passed
    assert not check(found, "canaries").passed
    assert check(found, "canaries").detail.startswith("5 of the 10 general questions")
    assert (found.old, found.new) == (None, None), "no question was answered in words"


def test_a_new_model_that_is_the_old_one_is_noticed() -> None:
    same = Asked({"r1": (Answer("a", True), Answer("a", True))}, [], stops=1, stops_asked=1)

    assert differs(same, 0.2).passed, "likelihoods moved; the likeliest words need not"
    assert differs(same, float("inf")).detail.endswith("moved altogether where it is served.")
    assert differs(same, 0.0).blocks
    assert differs(same, None).blocks
    assert differs(same, 0.0).detail.startswith("0 of 1 answers are other than the untaught base's.")


def test_a_merged_file_of_few_bits_answers_for_itself() -> None:
    asked: list[str] = []

    class Runtime:
        def chat(self, tag: str, *_args: object, **_options: object) -> list[Chunk]:
            asked.append(tag)
            return [Chunk(text="Yes.", finish="stop")]

    for asker in (ServedAsker(Runtime(), MERGED), ServedAsker(Runtime())):  # type: ignore[arg-type]
        assert asker.ask(NEW, [], 8) == Answer("Yes.", True)
        asker.ask(OLD, [], 8)

    assert asked == [MERGED, OLD, NEW, OLD]


@pytest.mark.slow
def test_the_real_base_learns_and_agrees_with_the_runtime(tmp_path: Path, real_base: Path) -> None:
    run = make_run(tmp_path, base=real_base, train=24, max_steps=6, answer_tokens=32, batch_size=8)
    train(run, load_base(run.base_gguf()), encode(run))
    convert(run)

    evaluate(run, never)

    found = run.evaluation()
    assert found is not None
    assert found.new_loss < found.old_loss
    if runtime_installed():
        assert check(found, "parity").passed, check(found, "parity").detail
