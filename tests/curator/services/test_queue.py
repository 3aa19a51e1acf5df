"""The queue: one person one record, for a while."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from sqlalchemy import Engine
from sqlmodel import Session

from curator.services import accounts, projects, queue, reviews
from curator.services.choice import Choice
from curator.services.reviews import ReviewForm
from db.models import Project, Record, Source, User, utc_now
from db.session import new_session, open_session
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
    assert queue.progress(session, project, user) == queue.Progress(left=queue.Left(0, False), today=0, skipped=1)
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

    assert queue.remaining(session, project, user) == (2, False)


@pytest.mark.parametrize("order", queue.ORDERS)
@pytest.mark.parametrize("for_me", [True, False])
def test_a_claim_walks_the_index_of_its_order_and_sorts_nothing(session: Session, order: Any, for_me: bool):
    statement = queue._claiming(Choice(order=order), for_me=for_me)
    sql = str(statement.compile(session.get_bind())).replace("(__[POSTCOMPILE_held])", "(0)")

    plan = session.connection().exec_driver_sql("EXPLAIN QUERY PLAN " + sql, (None,) * sql.count("?"))

    steps = "\n".join(row[-1] for row in plan)
    index = {"oldest": "age", "newest": "age"}.get(order, order)
    in_order = ["record_state (project_id=? AND state=?)"] if index == "age" else []  # by age it is in order as well
    assert any(one in steps for one in [f"queue_{index} (project_id=? AND assigned_to=?", *in_order]), steps
    assert "review_of_record (record_id=? AND user_id=?)" in steps
    assert "SCAN" not in steps and "TEMP B-TREE" not in steps


def test_a_record_on_the_screen_is_not_handed_out_again(session, project, make_user):
    records = [make_record(session, project) for _ in range(2)]
    user = make_user()
    claim(session, project, user)

    ahead = queue.claim_next(session, project, user, lease_seconds=60, held=[records[0].id])

    assert ahead is not None and ahead.id == records[1].id
    assert queue.claim_next(session, project, user, lease_seconds=60, held=[r.id for r in records]) is None


def test_what_is_assigned_is_asked_of_that_person_only(session, project, make_user):
    mine, theirs, free = [make_record(session, project, rank=n) for n in (9, 1, 5)]
    user, other = make_user(), make_user("li")
    mine.assigned_to, theirs.assigned_to = user.id, other.id
    session.add_all([mine, theirs])
    session.flush()

    got = [queue.claim_next(session, project, user, lease_seconds=60, held=held) for held in ([], [mine.id])]

    assert [record and record.id for record in got] == [mine.id, free.id]
    assert queue.remaining(session, project, user) == (2, False)


@pytest.mark.parametrize(
    ("order", "first"), [("thumbs", 0), ("weak", 1), ("refusal", 2), ("asked", 3), ("newest", 4), ("oldest", 0)]
)
def test_orders_of_the_queue(session, project, make_user, order, first):
    facts = [{"thumbs": -1}, {"weak": 900}, {"refusal": True}, {"asked": 8}, {}]
    records = [make_record(session, project, **fact) for fact in facts]

    got = queue.claim_next(session, project, make_user(), Choice(order=order), lease_seconds=60)

    assert got is not None and got.id == records[first].id


def test_a_choice_narrows_the_queue_and_what_is_left(session, project, make_user):
    make_record(session, project, language="en")
    chinese = make_record(session, project, language="zh", signals={"truncated": True})
    user, choice = make_user(), Choice(language="zh", signal=("truncated",))

    got = queue.claim_next(session, project, user, choice, lease_seconds=60)

    assert got is not None and got.id == chinese.id
    assert queue.remaining(session, project, user, choice) == (1, False)


@pytest.mark.parametrize("order", queue.ORDERS)
def test_what_stands_behind_a_record_is_found_along_the_index_too(session: Session, order: Any):
    for number in range(len(queue._behind(order))):
        statement = queue._claiming(Choice(order=order, language="zh"), for_me=False, behind=number)
        sql = str(statement.compile(session.get_bind())).replace("(__[POSTCOMPILE_held])", "(0)")

        plan = session.connection().exec_driver_sql("EXPLAIN QUERY PLAN " + sql, (None,) * sql.count("?"))

        steps = "\n".join(row[-1] for row in plan)
        assert "SCAN" not in steps and "TEMP B-TREE" not in steps
        assert ">(?,?)" in steps or ">?" in steps or "<?" in steps, steps


FACTS = st.tuples(
    st.sampled_from([-1, 0, 1]), st.sampled_from([0, 300, 900]), st.booleans(), st.sampled_from([1, 2, 8]),
    st.integers(0, 2), st.sampled_from(["en", "zh"]),
)  # fmt: skip


@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(facts=st.lists(FACTS, min_size=1, max_size=7), order=st.sampled_from(list(queue.ORDERS)), narrow=st.booleans())
def test_stepping_behind_each_record_walks_the_whole_order_once(
    engine: Engine, project: Project, make_user: Any, facts: Any, order: Any, narrow: bool
):
    key = {
        "doubt": lambda r: (r.rank, r.id), "thumbs": lambda r: (r.thumbs, r.rank, r.id),
        "weak": lambda r: (-r.weak, r.rank, r.id), "refusal": lambda r: (not r.refusal, r.rank, r.id),
        "asked": lambda r: (-r.asked, r.rank, r.id), "oldest": lambda r: r.id, "newest": lambda r: -r.id,
    }[order]  # fmt: skip
    with new_session(engine, write=True) as own:
        user = accounts.create_user(own, "walker", "Walker")
        other = Project(name="Walk", slug="walk", reviews_needed=2)
        own.add(other)
        own.flush()
        source = Source(project_id=other.id or 0, name="log", importer="chat")
        own.add(source)
        own.flush()
        records = [
            Record(
                project_id=other.id or 0, source_id=source.id or 0, digest=f"d{n}", group=f"g{n}", thumbs=thumbs,
                weak=weak, refusal=refusal, asked=asked, rank=rank, language=language,
            )
            for n, (thumbs, weak, refusal, asked, rank, language) in enumerate(facts)
        ]  # fmt: skip
        own.add_all(records)
        own.flush()
        wanted = [r.id for r in sorted(records, key=key) if r.language == "zh" or not narrow]
        choice = Choice(order=order, language="zh" if narrow else "")

        got: list[int | None] = []
        after: Record | None = None
        for _ in wanted:
            after = queue.claim_next(own, other, user, choice, lease_seconds=60, after=after)
            got.append(after.id if after else None)
        again = queue.claim_next(own, other, user, choice, lease_seconds=60, after=after)
        own.rollback()

    assert got == wanted
    assert (again.id if again else None) == (wanted[0] if wanted else None)  # behind the last comes the first


def test_who_holds_a_record_is_said_until_the_reservation_is_over(session, project, make_user):
    record, noor = make_record(session, project), make_user("noor")
    assert queue.holder(session, record) is None
    held = claim(session, project, noor)

    assert queue.holder(session, held) == (noor.id, "Noor", held.claimed_until)
    held.claimed_until = utc_now() - timedelta(seconds=1)
    assert queue.holder(session, held) is None
