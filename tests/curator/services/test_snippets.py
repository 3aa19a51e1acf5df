"""Where a search was found, for what the list does not show."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from curator.services import records, reviews, snippets
from curator.services.reviews import ReviewForm
from tests.factories import make_record


@given(st.text(max_size=400), st.text(max_size=20))
def test_whatever_is_searched_in_whatever_a_snippet_is_short_and_marks_a_hit(text: str, asked: str):
    pieces = snippets.around(text, asked)

    assert not pieces or any(marked for _, marked in pieces)
    assert sum(len(piece) for piece, _ in pieces) <= len(text) + 4


def test_a_hit_far_down_is_cut_out_between_words():
    text = "word " * 200 + "the ferry to Norderney " + "more " * 200

    pieces = snippets.around(text, "norderney")
    said = "".join(piece for piece, _ in pieces)

    assert ("Norderney", True) in pieces and said.startswith("… ") and said.endswith(" …") and len(said) < 220
    assert "the ferry to Norderney more" in said and not said.startswith("… ord")


def test_a_hit_in_chinese_is_found_without_spaces():
    assert ("渡轮", True) in snippets.around("天" * 500 + "渡轮" + "天" * 500, "渡轮")


def test_the_place_of_a_hit_is_named_and_a_gold_correction_is_not_given_away(session, project, make_user):
    noor = make_user()
    far = make_record(session, project, answer="x " * 300 + "ferry")
    read = make_record(session, project, passages=[("fares.pdf", "ferry tariff", 0.5)])
    corrected, gold, shown = (make_record(session, project) for _ in range(3))
    for record in (corrected, gold):
        form = ReviewForm(
            version=1, request_id=f"request-{record.id}", verdict="accept", question=None, answer="Take the ferry."
        )
        reviews.add(session, record, noor, form)
    gold.gold = True
    shown.answer = "The ferry."
    session.add_all([gold, shown])
    session.flush()

    lines = records.page(session, project).lines
    missing = snippets.missing(lines, "ferry")
    found = snippets.of(session, missing, "ferry")

    assert shown.id not in missing
    assert {id_: snippet.place for id_, snippet in found.items()} == {
        far.id: "answer", read.id: "passage", corrected.id: "correction",
    }  # fmt: skip
    assert {snippet.place for snippet in found.values()} <= set(snippets.PLACES)
    assert snippets.of(session, [], "ferry") == {}
