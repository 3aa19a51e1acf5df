"""What is counted about an answer: nearness, length, refusal, language, ending; on odd texts first."""

from __future__ import annotations

import time

import pytest

from trainer.asking import Answer
from trainer.measures import language_kept, measured, overlap, totals

EN_ASKED, EN_APPROVED = "May my dog travel with me on the boat?", "Dogs travel free, on a lead, in the aft lounge."
ZH_ASKED, ZH_APPROVED = "狗可以上船吗？", "狗免费上船，须系绳，待在船尾休息室。"


def words(text: str) -> int:
    return len(text.split())


@pytest.mark.parametrize("answer", ["", " \n\t\u3000 "])
def test_nothing_said_is_counted_as_nothing(answer: str) -> None:
    found = measured(EN_ASKED, EN_APPROVED, Answer(answer, True), words)

    assert (found.overlap, found.characters, found.tokens) == (0.0, 0, 0)
    assert (found.refuses, found.language_kept, found.stops) == (False, None, True)


@pytest.mark.parametrize("approved", ["", " \n "])
def test_without_an_approved_answer_there_is_no_nearness(approved: str) -> None:
    found = measured(EN_ASKED, approved, Answer("Dogs travel free.", False), words)

    assert found.overlap is None
    assert (found.characters, found.tokens, found.stops) == (17, 3, False)
    told = totals([found])
    assert told is not None and told.overlap is None


def test_a_very_long_answer_is_counted_in_time() -> None:
    begin = time.perf_counter()
    found = measured(ZH_ASKED, ZH_APPROVED * 600, Answer("狗免费上船。" * 1_700, False), len)

    assert found.characters == 10_200
    assert found.overlap is not None and 0 < found.overlap < 100
    assert time.perf_counter() - begin < 5


@pytest.mark.parametrize(
    ("approved", "near", "far"),
    [
        (EN_APPROVED, "Dogs travel free in the aft lounge.", "The galley is open until eight."),
        (ZH_APPROVED, "狗免费，待在船尾休息室。", "餐厅晚上八点关门。"),
    ],
)
def test_nearness_orders_answers_in_english_and_chinese(approved: str, near: str, far: str) -> None:
    assert overlap(approved, approved) == 100
    close, distant = overlap(near, approved), overlap(far, approved)
    assert close is not None and distant is not None
    assert close > 40 > 20 > distant


def test_nearness_is_the_published_measure() -> None:
    """One run of characters of each length, worked out by hand: 3 of 4 letters, 2 of 3 pairs, 1 of 2, 0 of 1."""
    assert overlap("abcx", "abcy") == pytest.approx(100 * (3 / 4 + 2 / 3 + 1 / 2 + 0) / 4, abs=0.01)


@pytest.mark.parametrize(
    ("answer", "declines"),
    [
        ("I’m sorry, but I do not know that.", True),
        ("抱歉，我不知道。", True),
        ("Dogs travel free.", False),
        ("狗免费。", False),
        ("Dogs travel free. " * 12 + "I do not know more.", False),
    ],
)
def test_a_refusal_is_told_by_how_an_answer_begins(answer: str, declines: bool) -> None:
    assert measured(EN_ASKED, EN_APPROVED, Answer(answer, True), len).refuses is declines


@pytest.mark.parametrize(
    ("question", "approved", "answer", "kept"),
    [
        (ZH_ASKED, ZH_APPROVED, "The dog has to stay in the lounge of the boat.", False),
        (ZH_ASKED, ZH_APPROVED, "狗在船尾。", True),
        (EN_ASKED, EN_APPROVED, "狗免费上船。", False),
        (EN_ASKED, EN_APPROVED, "Your dog may travel with you on the boat.", True),
        ("Darf mein Hund mit auf das Schiff kommen?", "Ja.", "Your dog may travel with you on the boat.", False),
        ("dogs?", EN_APPROVED, "狗免费上船。", False),  # too short: the approved answer says what was right
        ("dogs?", "Yes.", "狗免费上船。", None),
        (EN_ASKED, EN_APPROVED, "30", None),
    ],
)
def test_the_language_of_the_question_is_kept_or_not(question: str, approved: str, answer: str, kept: object) -> None:
    assert language_kept(question, approved, answer) is kept


def test_totals_are_counts_and_means() -> None:
    one = measured(ZH_ASKED, ZH_APPROVED, Answer(ZH_APPROVED, True), len)
    two = measured(ZH_ASKED, ZH_APPROVED, Answer("Sorry, I do not know anything about that dog.", False), len)

    found = totals([one, two])

    assert found is not None
    assert found.answers == 2
    assert found.overlap == 50
    assert (found.refusals, found.stops) == (1, 1)
    assert (found.language_kept, found.language_told) == (1, 2)
    assert found.characters == (one.characters + two.characters) / 2
    assert totals([]) is None
