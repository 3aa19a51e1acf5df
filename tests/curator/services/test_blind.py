"""Several people and one record: who sees what, whose save counts, whose reservation stays."""

from __future__ import annotations

from itertools import count

import pytest
from sqlalchemy import Engine
from sqlmodel import Session

from curator.services import accounts, folding, queue, reviews
from curator.services.reviews import ReviewForm, Stale
from curator.services.work import Work
from db.models import Project, Record
from tests.factories import make_record

_numbers = count(1)


def form(record: Record, verdict: str = "accept", **fields) -> ReviewForm:
    given = {"version": record.version, "request_id": f"blind-request-{next(_numbers)}", "verdict": verdict, **fields}
    return ReviewForm.model_validate(given)


@pytest.fixture
def three(session, make_user):
    return make_user("noor"), make_user("lin"), make_user("kim")


@pytest.fixture
def record(session: Session, project: Project) -> Record:
    project.reviews_needed = 2
    session.add(project)
    return make_record(session, project)


def seen(session, record, user, role="reviewer") -> list[str]:
    return [past.review.verdict for past in reviews.visible_history(session, record, user, role)]


def test_nobody_sees_an_opinion_before_they_have_given_theirs(session, record, three, make_user):
    noor, lin, kim = three
    lead = make_user("lea", "lead")
    reviews.add(session, record, noor, form(record, "skip"))
    reviews.add(session, record, noor, form(record))

    assert seen(session, record, noor) == ["skip", "accept"]
    assert (
        seen(session, record, lin) == seen(session, record, lead, "lead") == seen(session, record, kim, "viewer") == []
    )

    reviews.add(session, record, lin, form(record, "reject", reasons=["stale"]))
    assert record.state == "unsure"
    assert seen(session, record, lin) == ["skip", "accept", "reject"]
    assert seen(session, record, kim) == []
    assert seen(session, record, lead, "lead") == seen(session, record, kim, "admin") == ["skip", "accept", "reject"]


def test_an_opinion_that_was_taken_back_or_a_skip_opens_nothing(session, project, record, three):
    noor, lin, _ = three
    reviews.add(session, record, noor, form(record))
    reviews.add(session, record, lin, form(record, "skip"))
    assert seen(session, record, lin) == ["skip"]

    reviews.add(session, record, lin, form(record, "unsure"))
    reviews.undo(session, project, lin, lease_seconds=60)
    assert seen(session, record, lin) == ["skip", "unsure"]


def test_a_settled_record_is_open_to_all_but_a_gold_one_not_to_who_is_measured(session, record, three):
    noor, lin, kim = three
    for person in (noor, lin):
        reviews.add(session, record, person, form(record))
    assert seen(session, record, kim) == ["accept", "accept"]

    record.gold = True
    assert (seen(session, record, kim), seen(session, record, kim, "lead")) == ([], ["accept", "accept"])


def test_two_blind_opinions_of_the_same_version_both_count(session, record, three):
    noor, lin, kim = three
    early = [form(record) for _ in three]

    reviews.add(session, record, noor, early[0])
    second = reviews.add(session, record, lin, early[1])

    assert (record.state, record.version, second.record_version) == ("accepted", 3, 2)
    with pytest.raises(Stale):  # it is settled now
        reviews.add(session, record, kim, early[2])


def test_what_waits_for_a_lead_is_a_conflict(session, record, three):
    noor, lin, kim = three
    late = form(record)
    reviews.add(session, record, noor, form(record))
    reviews.add(session, record, lin, form(record, "reject", reasons=["stale"]))

    with pytest.raises(Stale):
        reviews.add(session, record, kim, late)


def test_ones_own_opinion_from_another_window_is_a_conflict(session, project, record, three):
    noor, lin, _ = three
    windows = [form(record) for _ in range(3)]
    reviews.add(session, record, lin, form(record))
    session.refresh(record)
    reviews.undo(session, project, lin, lease_seconds=60)
    reviews.add(session, record, noor, windows[0])

    with pytest.raises(Stale):
        reviews.add(session, record, noor, windows[1])
    reviews.undo(session, project, noor, lease_seconds=60)
    with pytest.raises(Stale):  # taken back since, and so decided about in between
        reviews.add(session, record, noor, windows[2])
    reviews.add(session, record, noor, form(record))
    assert record.state == "new"


def test_a_version_that_never_was_is_a_conflict(session, record, three):
    with pytest.raises(Stale):
        reviews.add(session, record, three[0], form(record, version=99))


def test_with_one_review_needed_the_second_is_a_conflict_as_before(session, project, record, three):
    project.reviews_needed = 1
    late = form(record)
    reviews.add(session, record, three[0], form(record))

    with pytest.raises(Stale):
        reviews.add(session, record, three[1], late)


def test_a_late_save_leaves_the_reservation_of_who_is_at_it_now(session, project, record, three):
    noor, lin, _ = three
    late, skip = form(record), form(record, "skip")
    queue.claim(session, record, lin, lease_seconds=60)

    reviews.add(session, record, noor, skip)
    session.refresh(record)
    assert record.claimed_by == lin.id
    reviews.undo(session, project, noor, lease_seconds=60)
    queue.claim(session, record, lin, lease_seconds=60)
    reviews.add(session, record, noor, late)

    session.refresh(record)
    assert (record.state, record.claimed_by) == ("new", lin.id)
    assert queue.renew(session, record, lin, lease_seconds=60)
    reviews.add(session, record, lin, form(record))
    assert (record.state, record.claimed_by, record.claimed_until) == ("accepted", None, None)


def test_three_are_needed_when_three_are_asked_for(session, project, record, three):
    project.reviews_needed = 3
    states = []
    for person in three:
        reviews.add(session, record, person, form(record))
        states.append(record.state)

    assert states == ["new", "new", "accepted"]


def test_a_changed_number_of_reviews_is_folded_anew_by_a_worker(
    engine: Engine, session, project, record, three, settings
):
    from curator.services import jobs, projects
    from curator.services.jobs import Halt

    noor, lin, _ = three
    while job := jobs.claim(session, "light", "w"):  # asked for when the three joined
        jobs.finish(session, job)
    once, twice = record, make_record(session, project)
    reviews.add(session, once, noor, form(once))
    for person in (noor, lin):
        reviews.add(session, twice, person, form(twice))
    same = {"name": "F", "guidelines": "", "system_prompt": "", "prompt_style": "question"}
    projects.configure(session, project, **same, reviews_needed=2)
    assert jobs.claim(session, "light", "w") is None  # nothing changed

    for needed, wanted in ((1, ("accepted", "accepted")), (3, ("new", "new")), (2, ("new", "accepted"))):
        projects.configure(session, project, **same, reviews_needed=needed)
        session.commit()
        job = jobs.claim(session, "light", "w")
        session.commit()
        folding.recount_opinions(Work(engine, settings, job, None, Halt()))  # pyright: ignore[reportArgumentType]
        jobs.finish(session, job)
        session.commit()
        session.expire_all()
        assert (once.state, twice.state) == wanted
        assert folding.rebuild(session, project) == 0
        session.commit()


def test_a_role_counts_as_it_is_not_as_it_was(session, project, record, three):
    noor, lin, kim = three
    reviews.add(session, record, noor, form(record))
    reviews.add(session, record, lin, form(record, "reject", reasons=["stale"]))
    accounts.set_role(session, kim, project, "lead")

    assert reviews.add(session, record, kim, form(record)).adjudication
    assert record.state == "accepted"
