"""What a choice hands out at the desk beside its filters: a search, whom it is asked of, and how much is left."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from sqlalchemy import Engine
from sqlmodel import Session

from curator.services import prepare, queue, views
from curator.services.choice import Choice
from db.models import Project, Record, User
from tests.factories import make_record, reload


@pytest.fixture
def user(make_user: Callable[..., User]) -> User:
    return make_user()


@pytest.fixture
def ferries(engine: Engine, session: Session, project: Project) -> list[Record]:
    """Four records about ferries and one about nothing, all indexed; the third is decided."""
    asked = ["Which ferry?", "What?", "A ferry today?", "ferry", "The last ferry?"]
    made = [make_record(session, project, question=text, rank=9 - n) for n, text in enumerate(asked)]
    made[2].state = "accepted"
    session.add(made[2])
    session.commit()
    prepare.run(engine, project.id or 0)
    reload(session, project, *made)
    return made


def handed_out(session: Session, project: Project, user: User, choice: Choice, times: int = 4) -> list[int | None]:
    """Claim again and again, each behind the one before, all of them kept on the screen."""
    got: list[Record] = []
    for _ in range(times):
        held = [record.id or 0 for record in got]
        after = got[-1] if got else None
        record = queue.claim_next(session, project, user, choice, lease_seconds=60, after=after, held=held)
        if record is None:
            break
        got.append(record)
    return [record.id for record in got]


def test_a_search_hands_out_what_waits_among_its_hits_newest_first(session, project, user, make_user, ferries):
    choice = Choice(q="ferry")

    assert handed_out(session, project, user, choice) == [ferries[at].id for at in (4, 3, 0)]
    assert queue.remaining(session, project, user, choice) == (3, False)
    assert handed_out(session, project, make_user("lin"), choice) == []
    assert queue.remaining(session, project, user, Choice(q="tram")) == (0, False)


def test_a_search_begins_anew_where_nothing_is_left_behind(session, project, user, ferries):
    last = queue.claim_next(session, project, user, Choice(q="ferry"), lease_seconds=60, after=ferries[0])

    assert last is not None and last.id == ferries[4].id


@pytest.mark.parametrize("q", ["", "ferry"])
def test_whom_a_record_is_asked_of_counts_at_the_desk(session, project, user, make_user, ferries, q):
    lin = make_user("lin")
    ferries[0].assigned_to, ferries[3].assigned_to = user.id, lin.id
    session.add_all(ferries)
    session.commit()

    for assigned, wanted in (("me", {0}), (user.id, {0}), (lin.id, set()), ("nobody", {4} if q else {1, 4})):
        choice = Choice(q=q, assigned=assigned)
        assert queue.remaining(session, project, user, choice).number == len(wanted)
        assert set(handed_out(session, project, user, choice)) == {ferries[at].id for at in wanted}
        session.rollback()


def test_the_claim_of_a_search_walks_its_hits_and_sorts_nothing(session, project):
    statement = queue._searching(session, Choice(q="ferry", language="zh"), (True, False), before=9)
    sql = str(statement.compile(session.get_bind())).replace("(__[POSTCOMPILE_held])", "(0)")

    plan = session.connection().exec_driver_sql("EXPLAIN QUERY PLAN " + sql, ("ferry",) * sql.count("?"))

    steps = "\n".join(row[-1] for row in plan)
    assert "SCAN record_search VIRTUAL TABLE" in steps
    assert "SEARCH record USING INTEGER PRIMARY KEY" in steps and "TEMP B-TREE" not in steps, steps


def test_a_rare_filter_is_counted_among_the_first_records_only(session, project, user, monkeypatch):
    monkeypatch.setattr(queue, "LOOKED_AT", 3)
    queue._counting.cache_clear()
    languages = ["zh", "en", "en", "en", "zh"]
    for language in languages[:3]:
        make_record(session, project, language=language)
    assert queue.remaining(session, project, user, Choice(language="zh")) == (1, False)
    for language in languages[3:]:
        make_record(session, project, language=language)

    assert queue.remaining(session, project, user, Choice(language="zh")) == (1, True)
    assert queue.remaining(session, project, user, Choice(language="fr")) == (0, True)
    queue._counting.cache_clear()


def test_the_desk_takes_what_waits_and_says_no_filter_that_it_cannot_honour(session, project, user):
    assert views.resume(session, project, user, Choice(state="rejected", q="ferry", order="weak")) == Choice(
        q="ferry", order="newest"
    )
    assert Choice(state="new").desk_args() == {"order": "doubt"}
    assert views.resume(session, project, user, Choice(state="new")) == Choice()
    assert views.resume(session, project, user, Choice()) == Choice()
