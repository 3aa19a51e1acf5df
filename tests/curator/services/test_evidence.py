"""What an answer rests on."""

from __future__ import annotations

import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from curator.services.evidence import evidence

PASSAGE = "Children under 7 travel free with an adult. The gangway closes 10 minutes before departure."
CHINESE = "每人可带两件行李，合计不超过30公斤。自行车单程6克朗。"


def marked(answer: str, *passages: str) -> list[str]:
    return [piece.text for piece in evidence(answer, passages).pieces if piece.passage is not None]


def doubtful(answer: str, *passages: str) -> list[str]:
    found = evidence(answer, passages)
    return [answer[start:end] for start, end in found.doubtful]


def test_words_taken_from_a_passage_are_marked_in_both():
    found = evidence("Yes: children under 7 TRAVEL FREE with an adult, as before.", ["Nothing here at all.", PASSAGE])

    assert [(p.text, p.passage) for p in found.pieces if p.passage is not None] == [
        ("children under 7 TRAVEL FREE with an adult", 1)
    ]
    assert found.of_passage(1, PASSAGE)[0] == ("Children under 7 travel free with an adult", True)
    assert found.of_passage(0, "Nothing here at all.") == [("Nothing here at all.", False)]


def test_chinese_is_compared_by_characters():
    assert marked("您好，每人可带两件行李，谢谢。", CHINESE) == ["每人可带两件行李"]


@pytest.mark.parametrize("answer", ["It is in the of and to.", "The end.", "Yes.", "好的。", ""])
def test_a_turn_of_phrase_is_no_evidence(answer):
    assert marked(answer, PASSAGE + " It is in the of and to go.", CHINESE) == []


def test_a_sentence_with_a_number_no_passage_holds_is_doubtful():
    assert doubtful("The gangway closes 15 minutes before departure. Children travel free.", PASSAGE) == [
        "The gangway closes 15 minutes before departure."
    ]


def test_a_sentence_about_something_else_is_doubtful_in_both_languages():
    assert doubtful("There is a heated swimming pool upstairs.", PASSAGE) == [
        "There is a heated swimming pool upstairs."
    ]
    assert doubtful("每人可带两件行李。船上有温水游泳池。", CHINESE) == ["船上有温水游泳池。"]


@pytest.mark.parametrize("answer", ["Is there anything else I can do?", "Hello!", "1. Children under 7 travel free"])
def test_questions_greetings_and_list_numbers_claim_nothing(answer):
    assert doubtful(answer, PASSAGE) == []


def test_without_passages_nothing_is_said():
    assert evidence("There is a pool.", []).pieces == evidence("There is a pool.", [" "]).pieces
    assert doubtful("There is a pool.", "") == []


def cited(answer: str) -> list[tuple[str, int]]:
    pieces = evidence(answer, [PASSAGE, CHINESE, "Dogs need a muzzle."]).pieces
    return [(piece.text, piece.cited + 1) for piece in pieces if piece.cited is not None]


@pytest.mark.parametrize(
    ("mark", "place"),
    [("[2]", 2), ("[^1^]", 1), ("[^3]", 3), ("【2†source】", 2), ("【2†4:0】", 2), ("[doc 1]", 1), ("【1】", 1),
     ("［2］", 2), ("［２］", 2), ("〔3〕", 3), ("(2)", 2), ("（1）", 1)],
)  # fmt: skip
def test_citations_lead_to_their_passage(mark: str, place: int):
    assert cited(f"Free {mark}. See [9] and [x].") == [(mark, place)]
    assert cited(f"儿童免费{mark}。请见[9]。") == [(mark, place)]


@pytest.mark.parametrize(
    ("answer", "found"),
    [
        ("Free [1][2].", [("[1]", 1), ("[2]", 2)]),
        ("Free [1, 3].", [("1", 1), ("3", 3)]),
        ("免费【1、2，9】。", [("1", 1), ("2", 2)]),
        ("Free (1)(2), dogs need a muzzle (3)", [("(1)", 1), ("(2)", 2), ("(3)", 3)]),
        ("免费（1）（2），狗要戴口套（3）\n每人两件", [("（1）", 1), ("（2）", 2), ("（3）", 3)]),
        ("不超过30kg（2）。", [("（2）", 2)]),
    ],
)
def test_several_citations_are_several_links(answer: str, found: list[tuple[str, int]]):
    assert cited(answer) == found


@pytest.mark.parametrize(
    "answer",
    [
        "It opened (2024).", "行李限重（30）。", "Ring us (0).", "See section 5 (1).", "Call open(1).",
        "Take (2) bags.", "(1) Come early. (2) Bring a muzzle.", "（1）早到；（2）带口套。",
        "请：\n（1）早到\n（2）带口套", "Steps (2):", "以下几点（3）：", "第（2）条",
        "成人（2）、儿童（3）各有优惠", "[2024]", "[1.5]", "[]", "[a1]",
    ],
)  # fmt: skip
def test_years_amounts_and_list_numbers_are_no_citations(answer: str):
    assert cited(answer) == []


def test_a_citations_number_is_nothing_the_answer_claims():
    passages = ["Nothing here at all.", "Nor here.", PASSAGE]
    assert doubtful("Children under 7 travel free with an adult [3].", *passages) == []
    assert doubtful("Children under 7 travel free with an adult [4].", *passages) != []  # leads nowhere
    through = "Children under 7 travel [3] free with an adult"
    assert "".join(marked(f"{through}.", *passages)) == through


MARKS = st.tuples(st.sampled_from(["[]", "［］", "【】", "〔〕", "()", "（）"]), st.integers(0, 9))


@given(st.lists(st.tuples(st.sampled_from(["Free ", "免费", "(", "。", ", ", "1 "]), MARKS), max_size=9))
def test_a_citation_is_a_number_that_stands_in_the_answer_and_has_a_passage(parts: list[tuple[str, tuple[str, int]]]):
    answer = "".join(f"{text}{mark[0]}{number}{mark[1]}" for text, (mark, number) in parts)
    for text, place in cited(answer):
        assert text.strip("[]［］【】〔〕()（）") == str(place) and 1 <= place <= 3


def test_texts_of_megabytes_are_read_in_part():
    found = evidence("a b c " * 400_000, ["a b c " * 400_000] * 3)
    assert found.cut and "".join(piece.text for piece in found.pieces) == "a b c " * 400_000


def test_a_refusal_claims_nothing_but_a_number_in_it_does():
    assert doubtful("I'm sorry, I do not know that at all.", PASSAGE) == []
    assert doubtful("抱歉，我没有找到有关游泳池的内容。", CHINESE) == []
    assert doubtful("I do not know that, please ring 0700 4400.", PASSAGE) == [
        "I do not know that, please ring 0700 4400."
    ]


@pytest.mark.parametrize(
    ("said", "known"),
    [("30kg", "30 kg"), ("7:30", "07.30"), ("14.00", "14"), ("1,200", "1200"), ("４0", "40"), ("5th", "5"),
     ("10:00", "10 am")],
)  # fmt: skip
def test_numbers_are_the_same_however_they_are_written(said: str, known: str):
    assert doubtful(f"Luggage is limited to {said} each.", f"Luggage is limited to {known} each.") == []


def test_an_answer_in_another_language_is_judged_by_its_numbers_alone():
    assert doubtful("步行旅客每人可带两件行李，不能更多。", PASSAGE) == []
    assert doubtful("登船口在开船前15分钟关闭。", PASSAGE) == ["登船口在开船前15分钟关闭。"]
    assert doubtful("A bicycle costs 6 crowns each way.", CHINESE) == []
    assert doubtful("A bicycle costs 8 crowns each way.", CHINESE) == ["A bicycle costs 8 crowns each way."]


@pytest.mark.parametrize(
    "piece",
    ["a ", "a b c ", "the a of ", "abcd ", "天", "\n", ". ", "x", "[1", "1.1", "1,", "¹", "é", "(1)", "a (1) ",
     "（1）", "[1, 1", "【1†"],
)  # fmt: skip
def test_hostile_texts_end_quickly(piece: str):
    begun = time.thread_time()

    assert "".join(part.text for part in evidence(piece * 20_000, [piece * 200_000]).pieces) == piece * 20_000
    assert time.thread_time() - begun < 3


@given(st.text(), st.lists(st.text(), max_size=3))
def test_the_pieces_are_the_answer_to_the_character(answer: str, passages: list[str]):
    found = evidence(answer, passages)
    assert "".join(piece.text for piece in found.pieces) == answer
    for position, text in enumerate(passages):
        assert "".join(part for part, _ in found.of_passage(position, text)) == text
