"""What changed, word by word, and never a character lost."""

from __future__ import annotations

import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from curator.services import diff


def texts(changes: list[diff.Change]) -> tuple[str, str]:
    """Answer the two texts that the changes were made from."""
    before = "".join(text for op, text in changes if op != "ins")
    return before, "".join(text for op, text in changes if op != "del")


def test_one_changed_word_is_one_deletion_and_one_insertion():
    changes = diff.words("We answer within ten days.", "We answer within five days.")

    assert changes == [("same", "We answer within "), ("del", "ten"), ("ins", "five"), ("same", " days.")]


def test_a_sentence_added_at_the_end_is_one_insertion():
    assert diff.words("Half fare.", "Half fare. With an adult.") == [("same", "Half fare."), ("ins", " With an adult.")]


def test_white_space_that_stayed_is_not_marked():
    changes = diff.words("a ten b six c", "a five b two c")

    assert [text for op, text in changes if op != "same"] == ["ten", "five", "six", "two"]


def test_chinese_is_compared_character_by_character():
    changes = diff.words("我们会在十个工作日内答复。", "我们会在五个工作日内答复。")

    assert changes == [("same", "我们会在"), ("del", "十"), ("ins", "五"), ("same", "个工作日内答复。")]


def test_equal_texts_have_no_changes():
    assert diff.words("Same.", "Same.") == [("same", "Same.")]
    assert diff.words("", "") == []


def test_a_joined_emoji_is_not_torn_apart():
    changes = diff.words("See 👩‍👩‍👧 here", "See 👩‍👩‍👦 here")

    assert ("del", "👩‍👩‍👧") in changes and ("ins", "👩‍👩‍👦") in changes


@pytest.mark.parametrize(
    "text", ["Z̷̢̛a̴l̶g̵o̶ text", "مرحبا بالعالم", "𠮷野家で", "<script>alert(1)</script>", "a\n\n b\t", "ﷺ e\u0301"]
)
def test_odd_scripts_come_back_to_the_character(text: str):
    assert texts(diff.words(text, text + " more")) == (text, text + " more")
    assert texts(diff.words("x" + text, text)) == ("x" + text, text)


@given(
    st.text(st.sampled_from("ab 天日\n\u0301é👩\u200d."), max_size=40),
    st.text(st.sampled_from("ab 天日\n\u0301."), max_size=40),
)
def test_both_texts_can_be_read_back_from_the_changes(before: str, after: str):
    assert texts(diff.words(before, after)) == (before, after)


@pytest.mark.parametrize("word", ["word ", "a"])
def test_two_megabytes_are_compared_quickly(word: str):
    before = word * (2_000_000 // len(word))
    after = before[:900_000] + " changed " + before[900_020:]
    started = time.perf_counter()

    changes = diff.words(before, after)

    assert time.perf_counter() - started < 2
    assert texts(changes) == (before, after)


def test_texts_too_repetitive_to_compare_are_replaced_as_a_whole():
    before, after = "x " + "a b " * 3_000 + "y", "z " + "b c " * 3_000 + "w"

    assert [op for op, _ in diff.words(before, after)] == ["del", "ins"]
