"""The search index as SQLite keeps it: one row a record, in the order of the ids, within PostgreSQL's bounds."""

from __future__ import annotations

import pytest
from sqlalchemy import Connection, Engine, select

from db import search
from db.search import GAP, Entry, Phrase


def found(connection: Connection, *phrases: Phrase) -> list[int]:
    hits = search.hits("sqlite", phrases)
    query = select(hits.record_id).select_from(hits.source).where(hits.where).order_by(hits.record_id.desc())
    return list(connection.scalars(query))


def word(*tokens: str, prefix: bool = False) -> Phrase:
    return Phrase(tokens, prefix)


@pytest.fixture
def connection(engine: Engine):
    with engine.connect() as connection:
        yield connection


def test_a_query_without_phrases_finds_nothing(connection: Connection):
    search.put(connection, [Entry(1, ["ferry"], [])])

    assert found(connection) == []


def test_nothing_to_index_or_to_remove_is_no_error(connection: Connection):
    search.put(connection, [])
    search.remove(connection, [])
    search.remove(connection, [7])

    assert found(connection, word("ferry")) == []


def test_an_entry_without_tokens_is_found_by_nothing(connection: Connection):
    search.put(connection, [Entry(1, [], []), Entry(2, [GAP], [GAP])])

    assert found(connection, word("ferry")) == []


def test_indexing_again_takes_the_place_of_what_was_there(connection: Connection):
    search.put(connection, [Entry(1, ["old"], []), Entry(2, ["old"], [])])
    search.put(connection, [Entry(1, ["new"], ["年假", GAP])])

    assert (found(connection, word("old")), found(connection, word("new"))) == ([2], [1])
    assert found(connection, word("年假")) == [1]


def test_one_row_twice_in_a_batch_is_the_later_one(connection: Connection):
    search.put(connection, [Entry(1, ["old"], []), Entry(1, ["new"], [])])

    assert (found(connection, word("old")), found(connection, word("new"))) == ([], [1])


def test_what_is_removed_is_not_found(connection: Connection):
    search.put(connection, [Entry(number, ["ferry"], []) for number in (1, 2, 3)])
    search.remove(connection, [2])

    assert found(connection, word("ferry")) == [3, 1]


def test_the_newest_come_first_and_one_by_one(connection: Connection):
    """Without a sort, and without asking the index for each record of the project."""
    hits = search.hits("sqlite", [word("ferry")])
    record = search.table("record", search.column("id"), search.column("project_id"))
    query = (
        select(record.c.id)
        .join(hits.source, hits.record_id == record.c.id)
        .where(hits.where, record.c.project_id == 1, hits.record_id < 100)
        .order_by(hits.record_id.desc())
        .limit(50)
    )
    compiled = query.compile(connection, compile_kwargs={"literal_binds": True})
    plan = [row[3] for row in connection.exec_driver_sql(f"EXPLAIN QUERY PLAN {compiled}")]

    assert len(plan) == 2, plan
    assert plan[0].startswith("SCAN record_search VIRTUAL TABLE INDEX")
    assert plan[1] == "SEARCH record USING INTEGER PRIMARY KEY (rowid=?)"


def test_no_phrase_reaches_over_a_gap(connection: Connection):
    search.put(connection, [Entry(1, ["ferry", GAP, "ticket"], ["年假", GAP, "假政"])])

    assert found(connection, word("ferry"), word("ticket")) == [1]
    assert found(connection, word("ferry", "ticket")) == []
    assert found(connection, word("年假", "假政")) == []
    assert found(connection, word(GAP)) == [1], "which is why nobody can ask for it; see the tests of queries"


def test_a_record_is_cut_where_postgresql_stops_counting(connection: Connection):
    many = [f"w{number}" for number in range(search.MOST_PLACES + 10)]
    search.put(connection, [Entry(1, many, [])])

    assert found(connection, word(many[search.MOST_PLACES - 1])) == [1]
    assert found(connection, word(many[search.MOST_PLACES])) == []


def test_a_record_of_long_words_is_cut_before_a_tsvector_is_full(connection: Connection):
    many = [f"{number:064}" for number in range(5_000)]
    search.put(connection, [Entry(1, many, [])])

    most = search.MOST_CHARACTERS // 64
    assert found(connection, word(many[most - 1])) == [1]
    assert found(connection, word(many[most])) == []


def test_of_a_token_that_comes_again_and_again_the_first_places_count(connection: Connection):
    often = ["the", "ferry"] * search.MOST_ALIKE + ["the", "dog"]
    search.put(connection, [Entry(1, often, [])])

    assert found(connection, word("the", "ferry")) == [1]
    assert found(connection, word("dog")) == [1]
    assert found(connection, word("the", "dog")) == [], "PostgreSQL would not find it either"


def test_a_beginning_is_only_the_last_word_of_a_phrase(connection: Connection):
    search.put(connection, [Entry(1, ["annual", "leaves"], []), Entry(2, ["annually", "leave"], [])])

    assert found(connection, word("annual", "lea", prefix=True)) == [1]
    assert found(connection, word("ann", prefix=True)) == [2, 1]
