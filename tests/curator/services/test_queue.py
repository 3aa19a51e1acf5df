"""The queue: one person one record, for a while."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from typing import Any

import pytest
from sqlalchemy import Engine
from sqlmodel import Session

from curator.services import projects, queue, reviews
from curator.services.reviews import ReviewForm
from db.models import Project, Record, User, utc_now
from db.session import open_session
from tests.factories import make_record

LEASE = 900


def skip(session: Session, record: Record, user: User) -> None:
    reviews.add(
        session,
        record,
        user,
        ReviewForm(version=record.version, request_id=f"skip-{record.id}-{user.id}", verdict="skip"),
    )


def claim(session: Session, project: Project, user: User) -> Record | None:
    return queue.claim_next(session, project, user, lease_seconds=LEASE)


def test_the_lowest_rank_comes_first_then_the_oldest(session, project, make_user):
    late, early, urgent = (make_record(session, project, rank=rank) for rank in (1, 1, 0))
    user = make_user()
    order: list[int | None] = []

    for _ in range(3):
        record = claim(session, project, user)
        order.append(record.id)
        skip(session, record, user)

    assert order == [urgent.id, late.id, early.id]
    assert claim(session, project, user) is None


def test_a_reload_brings_the_same_record_back(session, project, make_user):
    make_record(session, project)
    make_record(session, project)
    user = make_user()

    assert claim(session, project, user).id == claim(session, project, user).id


def test_two_people_never_get_the_same_record(session, project, make_user):
    make_record(session, project)
    make_record(session, project)
    first, second = claim(session, project, make_user("noor")), claim(session, project, make_user("lin"))

    assert first.id != second.id
    assert claim(session, project, make_user("kim")) is None


def test_a_reservation_that_is_over_frees_the_record(session, project, make_user):
    record = make_record(session, project)
    claim(session, project, make_user("noor"))
    record.claimed_until = utc_now() - timedelta(seconds=1)
    session.add(record)
    session.flush()

    assert claim(session, project, make_user("lin")).id == record.id


def test_many_people_at_once_get_different_records(engine: Engine, session, project, make_user):
    for _ in range(8):
        make_record(session, project)
    people = [make_user(f"person{number}") for number in range(8)]

    def take(user: User) -> int | None:
        with open_session(engine, write=True) as own:
            record = claim(own, project, user)
            return record.id if record else None

    with ThreadPoolExecutor(8) as pool:
        taken = list(pool.map(take, people))

    assert len(set(taken)) == 8 and None not in taken


def test_other_projects_and_decided_records_are_not_offered(session, project, make_user):
    other = projects.create(session, "Other", slug="other")
    make_record(session, other)
    make_record(session, project, state="accepted")

    assert claim(session, project, make_user()) is None


def test_what_was_skipped_comes_back_only_when_asked_for(session, project, make_user):
    record = make_record(session, project)
    user, other = make_user("noor"), make_user("lin")
    skip(session, claim(session, project, user), user)

    assert claim(session, project, user) is None
    assert claim(session, project, other).id == record.id
    queue.release(session, record, other)
    assert queue.progress(session, project, user) == queue.Progress(left=0, today=0, skipped=1)
    assert reviews.unskip(session, project, user) == 1
    assert claim(session, project, user).id == record.id


def test_with_two_reviews_needed_the_next_is_found_behind_the_last_one_and_then_from_the_start(
    session, project, make_user
):
    project.reviews_needed = 2
    first, second = make_record(session, project), make_record(session, project)
    user = make_user()

    assert queue.claim_next(session, project, user, lease_seconds=LEASE, after=first).id == second.id
    queue.release(session, second, user)
    assert queue.claim_next(session, project, user, lease_seconds=LEASE, after=second).id == first.id


def test_renewing_prolongs_what_one_holds_and_nothing_else(session, project, make_user):
    record, noor, lin = make_record(session, project), make_user("noor"), make_user("lin")
    claim(session, project, noor)

    assert queue.renew(session, record, noor, lease_seconds=5000)
    assert not queue.renew(session, record, lin, lease_seconds=5000)
    session.refresh(record)
    assert record.claimed_by == noor.id
    assert record.claimed_until > utc_now() + timedelta(seconds=4000)


def test_a_late_goodbye_does_not_take_a_new_reservation_away(session, project, make_user):
    record, user = make_record(session, project), make_user()
    old = claim(session, project, user).claimed_until
    new = queue.claim_next(session, project, user, lease_seconds=LEASE + 60).claimed_until

    queue.release(session, record, user, until=old)
    session.refresh(record)
    assert record.claimed_by == user.id

    queue.release(session, record, user, until=new)
    session.refresh(record)
    assert record.claimed_by is None


def test_what_is_left_is_counted_without_what_one_has_skipped(session, project, make_user):
    records = [make_record(session, project) for _ in range(3)]
    user = make_user()
    skip(session, records[0], user)

    assert queue.remaining(session, project, user) == 2


@pytest.mark.parametrize("statement", [queue.CLAIM, queue.CLAIM_BEHIND])
def test_the_claim_walks_the_queue_index_and_sorts_nothing(session: Session, statement: Any):
    sql = str(statement.compile(session.get_bind()))

    plan = session.connection().exec_driver_sql("EXPLAIN QUERY PLAN " + sql, (None,) * sql.count("?"))

    steps = "\n".join(row[-1] for row in plan)
    assert "record_queue (project_id=? AND state=?" in steps
    assert "review_of_record (record_id=? AND user_id=?)" in steps
    assert "SCAN" not in steps and "TEMP B-TREE" not in steps
