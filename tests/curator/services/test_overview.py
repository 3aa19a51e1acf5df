"""Figures about work: a person's session, the team's two weeks, what is left."""

from __future__ import annotations

from datetime import timedelta
from itertools import count

import pytest
from sqlmodel import Session

from curator.services import calibration, overview, projects, reviews, sessions
from curator.services.reviews import ReviewForm
from db.models import Base, Project, Review, Run, Snapshot, User, utc_now
from tests.factories import make_record

_numbers = count(1)


@pytest.fixture
def user(make_user) -> User:
    return make_user()


def decide(session: Session, project: Project, user: User, verdict="accept", *, ago=0.0, **fields) -> Review:
    """Decide a new record; `ago` in minutes."""
    record = make_record(session, project)
    given = {
        "version": 1,
        "request_id": f"overview-{next(_numbers)}",
        "verdict": verdict,
        "reasons": ["stale"],
        **fields,
    }
    review = reviews.add(session, record, user, ReviewForm.model_validate(given))
    review.created_at = utc_now() - timedelta(minutes=ago)
    session.add(review)
    session.flush()
    return review


def test_nothing_was_done(session, project, user):
    found = sessions.summary(session, project, user)

    assert (found.decided, found.edited, found.seconds, found.began, found.run, found.records) == (
        0,
        0,
        None,
        None,
        1,
        [],
    )


def test_a_session_goes_back_to_the_last_break(session, project, user, make_user):
    decide(session, project, user, ago=100)
    decide(session, project, user, ago=60, seconds=10)
    edited = decide(session, project, user, ago=31, answer="Better.", seconds=30)
    decide(session, project, user, "skip", ago=20, seconds=1)
    decide(session, project, user, "reject", ago=5, seconds=20)
    decide(session, project, make_user("lin"), ago=1)
    decide(session, project, user, ago=1)
    reviews.undo(session, project, user, lease_seconds=60)

    found = sessions.summary(session, project, user)

    assert (found.decided, found.edited, found.skipped, found.seconds) == (3, 1, 1, 20)
    assert [record.id for record in found.records] == [edited.record_id]
    assert (found.measured, found.agreed) == (0, 0)


def test_a_corrected_turn_is_an_edit(session, project, user):
    record = make_record(session, project, turns=[{"role": "assistant", "content": "Yes?"}])
    form = ReviewForm(
        version=1, request_id="turn-request", verdict="accept", question=None, answer=None, turns={"0": "Good morning."}
    )
    reviews.add(session, record, user, form)

    assert sessions.summary(session, project, user).edited == 1


def test_gold_in_a_session_says_how_well_it_went(session, project, user, make_user):
    lead = make_user("lea", "lead")
    for verdict in ("accept", "reject"):
        record = make_record(session, project)
        given = ReviewForm(
            version=1,
            request_id=f"gold-request-{verdict}",
            verdict=verdict,
            question=None,
            answer=None,
            reasons=["stale"],
        )
        reviews.add(session, record, make_user(f"lin-{verdict}"), given)
        calibration.mark(session, record, lead, gold=True)
        mine = given.model_copy(
            update={"version": record.version, "request_id": f"mine-{verdict}", "verdict": "accept"}
        )
        reviews.add(session, record, user, mine)

    found = sessions.summary(session, project, user)

    assert (found.measured, found.agreed) == (2, 1)


def test_the_next_run_has_the_next_number_of_its_project(session, project, user):
    base = Base(name="Tiny", path="/x", sha256="a" * 64, architecture="llama", size=1)
    snapshot = Snapshot(project_id=project.id, name="v1", sha256="x", seed=1, train=1, val=0, test=0)
    session.add_all([base, snapshot])
    session.flush()
    other = projects.create(session, "Bus line", slug="bus")
    for where in (project, other, other, project):
        session.add(Run(project_id=where.id, snapshot_id=snapshot.id, base_id=base.id))
    session.flush()

    assert sessions.summary(session, project, user).run == 3


def test_two_weeks_are_counted_by_day_and_person(session, project, user, make_user):
    lin, day = make_user("lin"), 24 * 60
    for ago in (0, 0, 3 * day, 13 * day, 15 * day):
        decide(session, project, user, ago=ago, seconds=10)
    decide(session, project, lin, "reject", seconds=40)
    decide(session, project, lin, "skip", seconds=1)
    decide(session, project, lin, seconds=1)
    reviews.undo(session, project, lin, lease_seconds=60)

    done = overview.throughput(session, project)

    assert len(done.days) == 14 and done.days == sorted(done.days) and done.days[-1] == utc_now().astimezone().date()
    assert [(person.name, person.total, person.seconds) for person in done.people] == [("Noor", 4, 10), ("Lin", 1, 40)]
    assert done.people[0].by_day == [1, *[0] * 9, 1, 0, 0, 2]
    assert (done.by_day[-1], done.total, done.seconds) == (3, 5, 10)


def test_the_backlog_lasts_as_long_as_the_pace_says(session, project, user):
    for _ in range(5):
        make_record(session, project)
    none = overview.throughput(session, project)
    assert (none.total, none.seconds, overview.backlog(session, project, none).days) == (0, None, None)
    decide(session, project, user, ago=24 * 60)
    decide(session, project, user)
    project.reviews_needed = 2

    left = overview.backlog(session, project, overview.throughput(session, project))

    assert (left.needed, left.days, left.by_state["new"]) == (10, 10, 5)  # two in two days


def test_another_projects_work_is_not_counted(session, project, user):
    from curator.services import projects

    decide(session, projects.create(session, "Other", slug="other"), user)

    assert overview.throughput(session, project).people == []
    assert sessions.summary(session, project, user).decided == 0
