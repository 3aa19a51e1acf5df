"""What a search finds and marks: odd queries first, then the words of several scripts, then corrections."""

from __future__ import annotations

import time
import unicodedata

import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from sqlalchemy import Engine
from sqlmodel import Session, col, select

from curator.services import records, reviews, search, undo
from curator.services.choice import Choice
from curator.services.search import highlight, parse
from curator.services.tokens import places, tokens
from db import search as index
from db.models import Project, Record, User
from tests import searching
from tests.factories import make_record

LETTERS = st.text(
    st.one_of(
        st.sampled_from("aAbé年假期カﾊﾞ가휴กำไहिٱ \"*'-_.:()。，\n\r\t\0\u200d\u0301\ue000🙂ßİǅ½㎏ﷺ12"),
        st.characters(),
    ),
    max_size=60,
)


@pytest.fixture
def table(session: Session, project: Project) -> Session:
    searching.make_records(session, project)
    return session


@pytest.mark.parametrize(("asked", "found"), searching.FOUND.items(), ids=ascii)
def test_a_search_finds(table: Session, asked: str, found: str):
    assert searching.names(table, asked) == found


@given(LETTERS)
@example('"' * 99)
@example("a " * 5_000)
@example("年" * 5_000)
@example('"' + "a " * 5_000 + '"')
@example("(" * 5_000 + "a" * 100_000)
def test_whatever_is_typed_is_a_query(asked: str):
    query = parse(asked)

    assert len(query.terms) <= search.MOST_TERMS
    for term in query.terms:
        assert 1 <= len(term.words) <= search.LONGEST_TERM
        assert term.phrases
        for phrase in term.phrases:
            assert phrase.tokens
            assert all(token and not set(token) & set(" \"'\\\0\ue000*:") for token in phrase.tokens)


@given(LETTERS, LETTERS)
@example("İİ ẞ ŉ", "i")
def test_highlighting_keeps_the_text_to_the_character(text: str, asked: str):
    segments = highlight(text, asked)

    assert "".join(piece for piece, _ in segments) == text
    assert all(piece for piece, _ in segments)
    assert len(highlight(text, "")) <= 1


@given(LETTERS)
def test_tokens_are_what_both_databases_keep_as_they_are(text: str):
    words = tokens(text)

    for word in words:
        assert 1 <= len(word) <= index.LONGEST
        assert all(letter.isalnum() if letter.isascii() else not letter.isspace() for letter in word), word
        assert word == word.lower() or not word.isascii()
    assert words == places(text).tokens


@given(LETTERS)
@example("ΐ")
@example("ﾊﾞﾊﾟ")
@example("각 ᄀ")
def test_case_width_and_composition_do_not_matter(text: str):
    for form in ("NFC", "NFD"):
        assert tokens(unicodedata.normalize(form, text)) == tokens(text)
    assert tokens(tokens_written(text)) == tokens(text)


def tokens_written(text: str) -> str:
    return " ".join(tokens(text))


@given(
    st.text("aé年假カ가 。", min_size=1, max_size=12),
    st.text("aé年假カ가 。", max_size=6),
    st.text("aé年 。", max_size=6),
)
def test_what_is_copied_out_of_a_text_is_found_and_marked_in_it(middle: str, before: str, after: str):
    text = f"{before} {middle} {after}"
    query = parse(middle)

    marked = [piece for piece, hit in highlight(text, query) if hit]

    assert bool(marked) == bool(query)
    assert sorted({*tokens(middle)}) == sorted({*tokens(" ".join(marked))})


def test_a_long_text_is_cut_up_in_reasonable_time():
    texts = [
        "年假" * 500_000,
        "a " * 1_000_000,
        "é" * 2_000_000,
        "年 \t" * 500_000,
        "a\u0301" * 500_000,
        "กำ" * 500_000,
    ]
    started = time.process_time()
    for text in texts:
        assert search.entry(1, [text] * 50).words
        assert highlight(text, "年假 nowhere")
    assert time.process_time() - started < 20


def test_a_word_longer_than_any_is_found_by_all_of_it(session: Session, project: Project):
    long = "0123456789abcdef" * 20
    search.put(session, [make_record(session, project, external_id="long", question=f"é {long}")])

    assert searching.names(session, long) == "long"
    assert searching.names(session, long[:-1]) == ""
    assert [piece for piece, hit in highlight(f"key {long}.", long) if hit] == [long]


@pytest.mark.parametrize(
    ("text", "asked", "marked"),
    [
        ("Annual leave, annual LEAVE and leave.", '"annual leave"', ["Annual leave", "annual LEAVE"]),
        ("Annual leave, annual leaves", '"annual lea*"', ["Annual leave", "annual leaves"]),
        ("leave leaves cleave", "leav*", ["leave", "leaves"]),
        ("今年。假如有年假", "年假", ["年假"]),
        ("年假期间", "年假 假期", ["年假期"]),
        ("年\n假", "年假", ["年\n假"]),
        ("Ｃａｆé and cafe\u0301", "CAFE", ["Ｃａｆé", "cafe\u0301"]),
        ("<b>年假</b>", "年假 b", ["b", "年假", "b"]),
        ("iPhone手机 手机", "iPhone手机", ["iPhone手机"]),
        ("nothing here", "elsewhere", []),
        ("aa aa aa", '"aa aa"', ["aa aa aa"]),
        ("e-mail or email", "e-mail", ["e-mail"]),
    ],
)
def test_hits_are_marked_as_they_are_written(text: str, asked: str, marked: list[str]):
    assert [piece for piece, hit in highlight(text, asked) if hit] == marked


def test_a_record_is_found_by_its_turns_and_the_names_of_documents(session: Session, project: Project):
    turns = [{"role": "user", "content": "About the harbour."}, {"role": "assistant", "content": "船期表"}]
    record = make_record(session, project, external_id="x", turns=turns, passages=[("fares-2026.pdf", "text", 0.5)])
    search.put(session, [record])

    assert [searching.names(session, asked) for asked in ("harbour", "船期", "fares-2026", '"harbour text"')] == [
        "x", "x", "x", "",
    ]  # fmt: skip


def test_a_correction_is_found_and_no_longer_when_it_is_taken_back(
    session: Session, project: Project, make_user: object
):
    user: User = make_user()  # pyright: ignore
    turns = [{"role": "assistant", "content": "Earlier."}]
    record = make_record(session, project, external_id="x", answer="Original text.", turns=turns)
    search.put(session, [record])
    form = reviews.ReviewForm(
        version=record.version, request_id="one-and-only", verdict="accept", answer="Corrected 更正 text.",
        turns={"0": "Amended."},
    )  # fmt: skip
    reviews.add(session, record, user, form)
    asked = ("corrected", "更正", "amended", "original", "earlier", '"text original"')

    assert [searching.names(session, words) for words in asked] == ["x", "x", "x", "x", "x", ""]

    undo.undo(session, project, user, lease_seconds=60)

    assert [searching.names(session, words) for words in asked] == ["", "", "", "x", "x", ""]


def test_the_page_lists_hits_newest_first_and_goes_on_behind_the_last(session: Session, project: Project):
    made = [make_record(session, project, question=f"ferry {number}") for number in range(7)]
    search.put(session, made)
    choice = Choice(q="ferry")

    first = records.page(session, project, choice, limit=3)
    second = records.page(session, project, choice, after=first.after or 0, limit=3)
    third = records.page(session, project, choice, after=second.after or 0, limit=3)

    listed = [line.id for page in (first, second, third) for line in page.lines]
    assert listed == [record.id for record in reversed(made)]
    assert third.after is None


def test_the_pages_statement_takes_the_index_in_order(session: Session, project: Project):
    query = search.newest(session, select(Record.id).where(Record.project_id == project.id), "ferry", before=9)
    compiled = query.limit(50).compile(session.get_bind(), compile_kwargs={"literal_binds": True})

    plan = [row[3] for row in session.connection().exec_driver_sql(f"EXPLAIN QUERY PLAN {compiled}")]

    assert plan[0].startswith("SCAN record_search VIRTUAL TABLE INDEX"), plan
    assert plan[1:] == ["SEARCH record USING INTEGER PRIMARY KEY (rowid=?)"]


def test_another_projects_records_are_not_listed(session: Session, project: Project, engine: Engine):
    other = Project(slug="other", name="Other")
    session.add(other)
    session.commit()
    search.put(session, [make_record(session, other, question="ferry")])

    assert records.page(session, project, Choice(q="ferry")).lines == []
    assert session.exec(search.among(session, select(col(Record.id)), "ferry")).all() != []
