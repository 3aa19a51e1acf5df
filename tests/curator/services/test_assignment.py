"""Assignment: asked of one person, until they have judged it."""

from __future__ import annotations

import pytest
from sqlmodel import Session

from curator.errors import Invalid
from curator.services import assignment, queue, reviews
from curator.services.choice import ALL, Choice
from curator.services.reviews import ReviewForm
from db.models import Project, Record, User
from tests.factories import make_record


def next_of(session: Session, project: Project, user: User) -> int | None:
    record = queue.claim_next(session, project, user, lease_seconds=60)
    if record:
        queue.release(session, record, user)
    return record.id if record else None


def judge(session: Session, record: Record, user: User, verdict: str = "accept") -> None:
    session.refresh(record)
    form = ReviewForm(version=record.version, request_id=f"request-{record.id}-{user.id}", verdict=verdict)
    reviews.add(session, record, user, form)
    session.refresh(record)


def test_a_stranger_a_viewer_and_a_disabled_person_cannot_be_asked(session, project, make_user):
    make_record(session, project)
    lead = make_user("lead", "lead")
    out = [make_user("stranger", ""), make_user("vera", "viewer"), make_user("gone")]
    out[2].disabled = True
    session.flush()

    for person_id in [*[person.id for person in out], 2**31 - 1, 0, -1]:
        with pytest.raises(Invalid):
            assignment.assign(session, project, lead, ALL, person_id)
    assert [person.login for person in assignment.people(session, project)] == ["lead"]


def test_what_is_decided_cannot_be_assigned(session, project, make_user):
    with pytest.raises(Invalid):
        assignment.assign(session, project, make_user("lead", "lead"), Choice(state="accepted"), None)


def test_those_of_the_choice_that_wait_are_asked_of_one_person_and_freed_again(session, project, make_user):
    lead, noor, lin = make_user("lead", "lead"), make_user("noor"), make_user("lin")
    chinese, english = make_record(session, project, language="zh"), make_record(session, project, language="en")
    make_record(session, project, language="zh", state="accepted")

    assert assignment.assign(session, project, lead, Choice(language="zh"), noor.id) == (1, False)
    assert assignment.assign(session, project, lead, Choice(language="zh"), noor.id) == (0, False)
    assert (next_of(session, project, noor), next_of(session, project, lin)) == (chinese.id, english.id)
    assert assignment.assign(session, project, lead, Choice(assigned=noor.id or 0), None) == (1, False)
    assert next_of(session, project, lin) == chinese.id


def test_only_so_many_go_at_once_and_the_next_time_the_rest(session, project, make_user, monkeypatch):
    monkeypatch.setattr(assignment, "AT_ONCE", 2)
    lead, noor = make_user("lead", "lead"), make_user("noor")
    for _ in range(3):
        make_record(session, project)

    assert assignment.assign(session, project, lead, ALL, noor.id) == (2, True)
    assert assignment.assign(session, project, lead, ALL, noor.id) == (1, False)


def test_where_a_second_review_is_needed_a_judged_record_goes_to_the_others(session, project, make_user):
    project.reviews_needed = 2
    noor, lin = make_user("noor"), make_user("lin")
    judged, skipped = (make_record(session, project, assigned_to=noor.id) for _ in range(2))
    assert next_of(session, project, lin) is None

    judge(session, judged, noor)
    judge(session, skipped, noor, "skip")

    assert (judged.assigned_to, skipped.assigned_to) == (None, noor.id)
    assert next_of(session, project, lin) == judged.id


def test_a_record_that_is_settled_stays_theirs_and_comes_back_with_undo(session, project, make_user):
    noor, lin = make_user("noor"), make_user("lin")
    record = make_record(session, project, assigned_to=noor.id)
    judge(session, record, noor)
    assert record.assigned_to == noor.id

    reviews.undo(session, project, noor, lease_seconds=60)
    session.refresh(record)
    queue.release(session, record, noor)

    assert (next_of(session, project, lin), next_of(session, project, noor)) == (None, record.id)


def test_a_batch_passes_on_what_it_has_judged(session, project, make_user):
    project.reviews_needed = 2
    noor, lin = make_user("noor"), make_user("lin")
    record = make_record(session, project, assigned_to=noor.id)

    assert reviews.add_batch(session, project, noor, [record.id], "accept", [], "batch-request-1") == 1
    assert next_of(session, project, lin) == record.id


def test_passing_on_leaves_alone_what_is_settled_and_what_is_asked_of_others(session, project, make_user):
    noor, lin = make_user("noor"), make_user("lin")
    mine = make_record(session, project, assigned_to=noor.id)
    settled = make_record(session, project, assigned_to=noor.id, state="accepted")
    theirs = make_record(session, project, assigned_to=lin.id)

    assignment.pass_on(session, noor, [mine.id, settled.id, theirs.id])

    for record in (mine, settled, theirs):
        session.refresh(record)
    assert (mine.assigned_to, settled.assigned_to, theirs.assigned_to) == (None, noor.id, lin.id)
