"""Many at once: which records count, one undo, few statements, the same request twice."""

from __future__ import annotations

from collections.abc import Generator
from contextlib import contextmanager

import pytest
from sqlalchemy import Engine, event, text
from sqlmodel import Session, select

from curator.errors import Invalid, NotFound
from curator.services import counts, folding, queue, reviews
from curator.services.reviews import ReviewForm
from db.models import PreferencePair, Project, Record, Retraction, Review, User
from tests.factories import make_record


@pytest.fixture
def user(make_user) -> User:
    return make_user()


@contextmanager
def statements(engine: Engine) -> Generator[list[str]]:
    said: list[str] = []

    def note(_conn, _cursor, statement, *_more) -> None:
        said.append(statement)

    event.listen(engine, "before_cursor_execute", note)
    yield said
    event.remove(engine, "before_cursor_execute", note)


def give(session, project, user, records, verdict="accept", reasons=(), request_id="batch-request-1") -> int:
    return reviews.add_batch(session, project, user, [r.id for r in records], verdict, reasons, request_id)


def test_bad_input_judges_nothing(session, project, user, make_user):
    record = make_record(session, project)

    with pytest.raises(Invalid, match="at least one reason"):
        give(session, project, user, [record], "reject", ["no such"])
    with pytest.raises(Invalid, match="accepted or rejected"):
        give(session, project, user, [record], "skip")
    with pytest.raises(Invalid, match="incomplete"):
        give(session, project, user, [record], request_id="short")
    assert give(session, project, user, []) == 0
    assert reviews.add_batch(session, project, user, [0, -4, 2**80, 999_999], "accept", (), "batch-request-2") == 0
    give(session, project, user, [record], request_id="batch-request-3")
    with pytest.raises(Invalid, match="somebody else"):
        give(session, project, make_user("lin"), [record], request_id="batch-request-3")
    assert len(session.exec(select(Review)).all()) == 1


def test_what_cannot_be_judged_now_is_left_out(session, project, user, make_user):
    other = make_user("lin")
    plain, mine, lapsed, held, settled = (make_record(session, project) for _ in range(5))
    queue.claim(session, mine, user, lease_seconds=60)
    queue.claim(session, held, other, lease_seconds=60)
    queue.claim(session, lapsed, other, lease_seconds=-1)
    reviews.add(
        session, settled, other, ReviewForm(version=1, request_id="request-9", verdict="accept", answer="Theirs.")
    )
    from curator.services import projects

    elsewhere = make_record(session, projects.create(session, "Other", slug="other"))

    number = give(session, project, user, [plain, mine, lapsed, held, settled, elsewhere, plain], "reject", ["stale"])

    assert number == 3
    for record in (plain, mine, lapsed, held, settled, elsewhere):
        session.refresh(record)
    assert [r.state for r in (plain, mine, lapsed)] == ["rejected"] * 3
    assert [r.state for r in (held, settled, elsewhere)] == ["new", "accepted", "new"]
    assert held.claimed_by == other.id and mine.claimed_by is None
    assert counts.of(session, project) == {"new": 1, "rejected": 3, "accepted": 1}
    assert folding.rebuild(session, project) == 0


def test_a_blind_second_opinion_is_not_given_twice_by_the_same_person(session, project, user, make_user):
    project.reviews_needed = 2
    session.add(project)
    records = [make_record(session, project) for _ in range(3)]
    reviews.add(session, records[0], user, ReviewForm(version=1, request_id="request-1", verdict="accept"))
    reviews.add(session, records[1], user, ReviewForm(version=1, request_id="request-2", verdict="skip"))
    queue.claim(session, records[2], user, lease_seconds=60)

    assert give(session, project, user, records) == 2
    assert give(session, project, user, records, request_id="batch-request-2") == 0
    session.refresh(records[2])
    assert (records[2].state, records[2].version, records[2].claimed_by) == ("new", 2, None)

    assert give(session, project, make_user("lin"), records, request_id="batch-request-3") == 3
    assert [record.state for record in records] == ["accepted"] * 3


def test_the_same_request_twice_is_one_batch(session, project, user):
    first, second = make_record(session, project), make_record(session, project)

    assert give(session, project, user, [first]) == 1
    assert give(session, project, user, [first, second]) == 1
    assert second.state == "new"


def test_one_undo_takes_all_of_it_back_and_nothing_else(session, project, user, make_user):
    records = [make_record(session, project) for _ in range(7)]
    reviews.add(session, records[0], user, ReviewForm(version=1, request_id="request-1", verdict="accept"))
    give(session, project, user, records[1:4])
    give(session, project, make_user("lin"), records[4:6], request_id="batch-request-2")
    reviews.add(session, records[6], user, ReviewForm(version=1, request_id="request-2", verdict="accept"))

    assert reviews.undo(session, project, user, lease_seconds=60).number == 1
    undone = reviews.undo(session, project, user, lease_seconds=60)

    assert (undone.number, undone.record.id, undone.record.claimed_by) == (3, records[3].id, user.id)
    assert [r.state for r in records] == ["accepted", *["new"] * 3, "accepted", "accepted", "new"]
    assert [r.version for r in records[1:4]] == [3] * 3
    assert counts.of(session, project) == {"new": 4, "accepted": 3}
    assert folding.rebuild(session, project) == 0
    assert reviews.undo(session, project, user, lease_seconds=60).record.id == records[0].id
    with pytest.raises(NotFound):
        reviews.undo(session, project, user, lease_seconds=60)
    assert len(session.exec(select(Retraction)).all()) == 5


def test_part_of_a_batch_that_a_lead_settled_stays_settled(session, project, user, make_user):
    lead = make_user("lea", "lead")
    records = [make_record(session, project) for _ in range(2)]
    give(session, project, user, records)
    reviews.add(
        session, records[1], lead, ReviewForm(version=2, request_id="request-1", verdict="reject", reasons=["stale"])
    )

    undone = reviews.undo(session, project, user, lease_seconds=60)

    assert (undone.number, undone.record.id, undone.record.claimed_by) == (2, records[1].id, None)
    assert [record.state for record in records] == ["new", "rejected"]


def test_undo_restores_the_pair_of_the_correction_before(session, project, user, make_user):
    record = make_record(session, project, answer="Old.")
    reviews.add(
        session, record, make_user("lin"), ReviewForm(version=1, request_id="r-000001", verdict="accept", answer="A")
    )
    reviews.add(session, record, user, ReviewForm(version=2, request_id="r-000002", verdict="accept", answer="B"))
    assert [pair.chosen for pair in session.exec(select(PreferencePair))] == ["B"]

    reviews.undo(session, project, user, lease_seconds=60)

    assert [pair.chosen for pair in session.exec(select(PreferencePair))] == ["A"]


def test_a_thousand_cost_few_statements(engine: Engine, session: Session, project: Project, user: User):
    first = make_record(session, project)
    same = {"project_id": project.id, "source_id": first.source_id, "question": "q", "answer": "a"}
    session.add_all(Record(**same, digest=f"many-{n}", group=f"g{n}") for n in range(1199))
    counts.move(session, project.id, {"new": 1199})
    session.commit()
    ids = list(session.exec(select(Record.id)))
    session.expunge_all()

    with statements(engine) as said:
        assert reviews.add_batch(session, project, user, ids, "accept", (), "batch-request-1") == 1200
    assert len(said) <= 3 * 6 + 8, len(said)
    with statements(engine) as said:
        assert reviews.undo(session, project, user, lease_seconds=60).number == 1200
    assert len(said) <= 3 * 4 + 12, len(said)
    assert counts.of(session, project) == {"new": 1200, "accepted": 0}


def test_a_batch_is_found_by_its_index(session, project, user):
    plan = session.connection().execute(
        text("EXPLAIN QUERY PLAN SELECT count(*) FROM review WHERE review.batch = :b AND review.batch != ''"),
        {"b": "x"},
    )
    assert "review_batch" in str(plan.all())
