"""A search finds on PostgreSQL what it finds on SQLite."""

from __future__ import annotations

import random

import pytest
from sqlalchemy import Engine
from sqlmodel import Session, col, select

from curator.services import projects, records, search
from curator.services.choice import Choice
from db import search as index
from db.models import Project, Record
from db.search import Entry, Phrase
from db.session import connect, migrate, new_session
from tests import searching
from tests.factories import make_record
from tests.postgres.cluster import create


@pytest.fixture(scope="module")
def twins(cluster: str, tmp_path_factory: pytest.TempPathFactory):
    """A session on each database, with the table's records in both."""
    create(cluster, "searching", "TEMPLATE migrated")
    engines = [connect(cluster % "searching"), connect(f"sqlite:///{tmp_path_factory.mktemp('db') / 'twin.db'}")]
    migrate(engines[1])
    sessions = [new_session(engine, write=True) for engine in engines]
    for session in sessions:
        searching.make_records(session, projects.create(session, "Ferry line", slug="ferry"))
    yield sessions
    for session, engine in zip(sessions, engines, strict=True):
        session.close()
        engine.dispose()


@pytest.mark.parametrize(("asked", "found"), searching.FOUND.items(), ids=ascii)
def test_a_search_finds(twins: list[Session], asked: str, found: str):
    assert [searching.names(session, asked) for session in twins] == [found, found]


def test_made_up_queries_find_the_same(twins: list[Session]):
    dice = random.Random(17)  # noqa: S311  no secret
    texts = " ".join(f"{question} {answer} {' '.join(more)}" for question, answer, more in searching.RECORDS.values())
    for _ in range(400):
        start = dice.randrange(len(texts))
        asked = texts[start : start + dice.randrange(1, 12)]
        asked = dice.choice([asked, f'"{asked}"', f"{asked}*", f'"{asked}', f"{asked} {dice.choice(texts)}"])
        on_postgres, on_sqlite = (searching.names(session, asked) for session in twins)
        assert on_postgres == on_sqlite, asked


@pytest.mark.parametrize(
    "words",
    [
        ["the", "ferry"] * 300 + ["the", "dog"],
        [f"w{number}" for number in range(index.MOST_PLACES + 50)],
        [f"{number:064}" for number in range(index.MOST_PLACES)],
        ["\U00012000" * 64 + str(number) for number in range(3_000)],
    ],
    ids=["often", "many", "long", "wide"],
)
def test_a_record_that_is_too_much_is_cut_alike(twins: list[Session], words: list[str]):
    for session in twins:
        index.put(session.connection(), [Entry(999, words, [])])
    asked = [Phrase((word,)) for word in dict.fromkeys(words[::499] + words[-60:])]
    places = [at for at in (0, 1, 510, 520, 598, 599, 600, 1874, 1875, 2998) if at + 1 < len(words)]
    asked += [Phrase(tuple(words[at : at + 2])) for at in places]
    for phrase in asked:
        on_postgres, on_sqlite = (_ids(session, phrase) for session in twins)
        assert on_postgres == on_sqlite, phrase
    for session in twins:
        index.remove(session.connection(), [999])
        assert 999 not in _ids(session, asked[0])


def _ids(session: Session, phrase: Phrase) -> list[int]:
    hits = index.hits(session.get_bind().dialect.name, [phrase])
    return list(session.connection().scalars(select(hits.record_id).select_from(hits.source).where(hits.where)))


def test_the_page_lists_hits_newest_first_and_indexing_again_replaces(session: Session, project: Project):
    made = [make_record(session, project, question=f"ferry {number}") for number in range(7)]
    search.put(session, made)
    made[0].question = "bus"
    search.put(session, made[:1])
    choice = Choice(q="ferry")

    first = records.page(session, project, choice, limit=4)
    second = records.page(session, project, choice, after=first.after or 0, limit=4)

    assert [line.id for page in (first, second) for line in page.lines] == [record.id for record in reversed(made[1:])]
    assert records.count(session, project, choice) == 6


def test_the_index_is_used(session: Session, project: Project, engine: Engine):
    rows = [Entry(number, [f"w{number}", "all"], []) for number in range(1, 100)]
    index.put(session.connection(), rows)
    session.commit()
    session.connection().exec_driver_sql("SET enable_seqscan = off")  # so few rows are read faster without an index
    query = search.among(session, select(col(Record.id)), "w77").compile(engine, compile_kwargs={"literal_binds": True})

    plan = "\n".join(session.connection().exec_driver_sql(f"EXPLAIN {query}").scalars())

    assert "record_search_tokens" in plan, plan
