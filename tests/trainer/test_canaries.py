"""General questions: fair to ask, judged by whole words, and a warning when clearly many were forgotten."""

from __future__ import annotations

from collections.abc import Sequence

import pytest

from trainer import canaries
from trainer.asking import OLD, Answer
from trainer.canaries import Canary, is_right
from trainer.evaluation import Knowledge
from trainer.failures import Cancelled
from trainer.spec import Message


class Oracle:
    """Answers everything right as the base, and nothing as the new model."""

    def __init__(self) -> None:
        self.known = {canary.messages[0].content: canary.accepted[0] for canary in canaries.every()}

    def ask(self, which: str, messages: Sequence[Message], longest: int) -> Answer:
        assert longest == canaries.LONGEST
        return Answer(f"It is {self.known[messages[0].content]}." if which == OLD else "Dogs travel free.", True)


@pytest.mark.parametrize("answer", ["", " \n", "?" * 10_000])
def test_an_answer_that_says_nothing_is_not_right(answer: str) -> None:
    assert not is_right(["5", "five", "五"], answer)


@pytest.mark.parametrize(
    ("accepted", "answer", "right"),
    [
        ("Paris", "The capital is PARIS.", True),
        ("Paris", "A comparison", False),
        ("7", "7 days", True),
        ("7", "17 or 70", False),
        ("7", "一周有7天", True),
        ("7", "\uff17天", True),  # full-width
        ("二", "等于二。", True),
        ("二", "等于十二。", False),
        ("冷", "是“寒冷”。", True),
        ("H2O", "H₂O", True),
    ],
)
def test_a_word_counts_when_it_stands_for_itself(accepted: str, answer: str, right: bool) -> None:
    assert is_right([accepted], answer) is right


def test_there_are_enough_questions_in_both_languages() -> None:
    asked = canaries.every()
    assert len(asked) >= 40
    assert {canary.language for canary in asked} == {"en", "zh"}
    assert len({canary.id for canary in asked}) == len({canary.question for canary in asked}) == len(asked)


@pytest.mark.parametrize("canary", canaries.every(), ids=lambda canary: canary.id)
def test_repeating_the_question_is_no_right_answer(canary: Canary) -> None:
    assert not is_right(canary.accepted, canary.messages[0].content)


def test_both_models_are_asked_and_each_answer_is_judged() -> None:
    found = canaries.ask(Oracle(), lambda: False)

    assert len(found) == len(canaries.every())
    assert all(one.old_right and not one.new_right for one in found)
    assert found[0].new == "Dogs travel free."


def test_a_stop_ends_the_asking() -> None:
    with pytest.raises(Cancelled):
        canaries.ask(Oracle(), lambda: True)


@pytest.mark.parametrize(
    ("before", "kept", "passed"),
    [(0, 0, True), (3, 1, True), (3, 0, False), (20, 17, True), (20, 16, False), (41, 38, True), (41, 34, False)],
)
def test_the_warning_needs_three_lost_and_more_than_15_percent(before: int, kept: int, passed: bool) -> None:
    found = canaries.check(Knowledge(asked=45, before=before, kept=kept, now=kept))

    assert found.passed is passed
    assert not found.blocks, "what the world knows is not what the assistant is for"
