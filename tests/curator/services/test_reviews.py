"""Judgements: appended once, folded into the record, taken back."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from itertools import count
from typing import Any

import pytest
from sqlalchemy import Engine
from sqlmodel import Session, select

from curator.errors import Forbidden, Invalid, NotFound
from curator.services import accounts, folding, jobs, queue, reviews
from curator.services.reviews import ReviewForm, Stale
from curator.services.work import Work
from db.models import PreferencePair, Project, Record, Review, User
from db.session import open_session
from tests.factories import make_record

_numbers = count(1)


def form(record: Record, verdict: str = "accept", **fields: Any) -> ReviewForm:
    return ReviewForm(
        **{"version": record.version, "request_id": f"request-{next(_numbers)}", "verdict": verdict, **fields}
    )


@pytest.fixture
def user(make_user: Callable[..., User]) -> User:
    return make_user()


@pytest.fixture
def record(session: Session, project: Project) -> Record:
    return make_record(session, project, question="Is it free?", answer="Yes, under 5.")


def pairs(session: Session) -> list[tuple[str, str]]:
    return [(pair.chosen, pair.rejected) for pair in session.exec(select(PreferencePair))]


def test_accepting_settles_the_record(session, record, user):
    review = reviews.add(session, record, user, form(record, rating=4, seconds=3.5))

    assert (record.state, record.version, record.rating, record.edited) == ("accepted", 2, 4, False)
    assert (record.settled_by, record.settled_at) == (review.id, review.created_at)
    assert (review.record_version, review.seconds, review.adjudication) == (1, 3.5, False)


def test_a_decision_frees_the_record(session, project, record, user):
    queue.claim_next(session, project, user, lease_seconds=60)

    reviews.add(session, record, user, form(record))

    session.refresh(record)
    assert (record.claimed_by, record.claimed_until) == (None, None)


def test_a_correction_is_kept_and_becomes_a_preference_pair(session, project, record, user):
    review = reviews.add(session, record, user, form(record, question="Is it free?", answer="Yes, under 7."))

    assert (review.question, review.answer, record.edited) == (None, "Yes, under 7.", True)
    pair = session.exec(select(PreferencePair)).one()
    assert (pair.chosen, pair.rejected, pair.group) == ("Yes, under 7.", "Yes, under 5.", record.group)
    assert pair.prompt == [{"role": "user", "content": "Is it free?"}]
    assert (pair.review_id, pair.record_id, pair.project_id) == (review.id, record.id, project.id)


@pytest.mark.parametrize("original", ["Two\r\nlines", "Two\rlines", "Two\nlines", "\nTwo lines\n"])
def test_line_ends_changed_by_the_browser_are_no_correction(session, project, user, original):
    record = make_record(session, project, answer=original)

    review = reviews.add(session, record, user, form(record, answer=original.replace("\r\n", "\n").replace("\r", "\n")))

    assert review.answer is None and not record.edited


def test_a_changed_question_alone_is_an_edit_without_a_pair(session, record, user):
    reviews.add(session, record, user, form(record, question="Is it free for children?"))

    assert record.edited and pairs(session) == []


@pytest.mark.parametrize("field", ["question", "answer"])
@pytest.mark.parametrize("empty", ["", "  \n "])
def test_an_emptied_text_cannot_be_accepted(session, record, user, field, empty):
    with pytest.raises(Invalid, match="cannot be empty"):
        reviews.add(session, record, user, form(record, **{field: empty}))


def test_a_rejection_needs_a_reason_the_project_knows(session, record, user):
    with pytest.raises(Invalid, match="at least one reason"):
        reviews.add(session, record, user, form(record, "reject"))
    with pytest.raises(Invalid, match="at least one reason"):
        reviews.add(session, record, user, form(record, "reject", reasons=["no such reason"]))

    review = reviews.add(session, record, user, form(record, "reject", reasons=["stale", "too_long", "stale"]))

    assert (record.state, review.reasons) == ("rejected", ["stale", "too_long"])


def test_a_skip_leaves_the_record_as_it_was_and_free_for_others(session, project, record, user, make_user):
    queue.claim_next(session, project, user, lease_seconds=60)

    reviews.add(session, record, user, form(record, "skip"))

    assert (record.state, record.version, record.settled_by) == ("new", 1, None)
    assert queue.claim_next(session, project, make_user("lin"), lease_seconds=60).id == record.id


def test_an_unsure_record_waits_for_a_lead_who_has_the_last_word(session, record, user, make_user):
    lead = make_user("lead", "lead")
    reviews.add(session, record, user, form(record, "unsure", comment=" Which year? "))
    assert (record.state, record.settled_by) == ("unsure", None)

    final = reviews.add(session, record, lead, form(record, "reject", reasons=["stale"]))

    assert final.adjudication and record.state == "rejected"
    with pytest.raises(Forbidden, match="A lead has settled"):
        reviews.add(session, record, user, form(record))


def test_the_same_request_twice_is_one_review(session, record, user):
    first = form(record)

    assert reviews.add(session, record, user, first).id == reviews.add(session, record, user, first).id
    assert record.version == 2


def test_a_request_that_belongs_to_another_record_is_refused(session, project, record, user):
    used = form(record)
    reviews.add(session, record, user, used)

    with pytest.raises(Invalid, match="another record"):
        reviews.add(session, make_record(session, project), user, used)


def test_five_clicks_at_once_are_one_review(engine: Engine, session, record, user):
    click = form(record)

    def press(_: int) -> int | None:
        with open_session(engine, write=True) as own:
            return reviews.add(own, own.get(Record, record.id), user, click).id

    with ThreadPoolExecutor(5) as pool:
        saved = set(pool.map(press, range(5)))

    assert len(saved) == 1
    session.expire_all()
    assert len(session.exec(select(Review)).all()) == 1


def test_of_two_people_saving_at_once_one_wins_and_the_other_keeps_the_text(
    engine: Engine, session, record, user, make_user
):
    other = make_user("lin")

    def save(person: User) -> str:
        try:
            with open_session(engine, write=True) as own:
                reviews.add(own, own.get(Record, record.id), person, form(record, answer=f"By {person.login}"))
        except Stale as stale:
            assert (stale.form.answer, stale.record.version) == (f"By {person.login}", 2)
            return "stale"
        return "saved"

    with ThreadPoolExecutor(2) as pool:
        assert sorted(pool.map(save, (user, other))) == ["saved", "stale"]


def test_saving_over_the_newer_version_is_possible(session, record, user, make_user):
    reviews.add(session, record, make_user("lin"), form(record, answer="Theirs."))
    mine = form(record, answer="Mine.", version=1)
    with pytest.raises(Stale):
        reviews.add(session, record, user, mine)

    reviews.add(session, record, user, mine.model_copy(update={"version": record.version}))

    assert (record.state, record.version) == ("accepted", 3)
    assert pairs(session) == [("Mine.", "Yes, under 5.")]


def test_two_megabytes_are_taken_and_more_are_refused_with_the_limit(session, record, user):
    long = "天" * 2_000_000
    assert reviews.add(session, record, user, form(record, answer=long)).answer == long

    with pytest.raises(Invalid, match="4000000 characters"):
        reviews.add(session, record, user, form(record, answer="x" * 4_000_001))


def test_undo_takes_the_newest_review_back_and_reserves_the_record_again(session, project, record, user):
    reviews.add(session, record, user, form(record, answer="Yes, under 7.", rating=5))

    undone, review, number = reviews.undo(session, project, user, lease_seconds=60)

    assert (undone.id, undone.state, undone.version, undone.rating, undone.edited) == (record.id, "new", 3, None, False)
    assert (undone.claimed_by, review.answer, number, pairs(session)) == (user.id, "Yes, under 7.", 1, [])


def test_undo_goes_thirty_deep_and_then_says_there_is_no_more(session, project, user):
    for _ in range(30):
        record = make_record(session, project)
        reviews.add(session, record, user, form(record))

    undone = [reviews.undo(session, project, user, lease_seconds=60)[0].id for _ in range(30)]

    assert undone == sorted(undone, reverse=True) and len(set(undone)) == 30
    with pytest.raises(NotFound, match="nothing to take back"):
        reviews.undo(session, project, user, lease_seconds=60)


def test_undo_leaves_what_others_decided(session, project, record, user, make_user):
    other = make_user("lin")
    reviews.add(session, record, user, form(record, rating=1))
    reviews.add(session, record, other, form(record, "reject", reasons=["stale"]))

    with pytest.raises(NotFound):
        reviews.undo(session, project, make_user("kim"), lease_seconds=60)
    reviews.undo(session, project, other, lease_seconds=60)

    assert (record.state, record.rating) == ("accepted", 1)


def test_two_needed_reviews_settle_when_they_agree_and_wait_when_they_differ(session, project, user, make_user):
    project.reviews_needed = 2
    other = make_user("lin")
    agreed, disputed, reworded = (make_record(session, project) for _ in range(3))
    reviews.add(session, agreed, user, form(agreed))
    assert agreed.state == "new"
    reviews.add(session, agreed, other, form(agreed))
    reviews.add(session, disputed, user, form(disputed))
    reviews.add(session, disputed, other, form(disputed, "reject", reasons=["stale"]))
    reviews.add(session, reworded, user, form(reworded, answer="One way."))
    reviews.add(session, reworded, other, form(reworded, answer="Another way."))

    assert (agreed.state, disputed.state, reworded.state) == ("accepted", "unsure", "unsure")
    assert pairs(session) == []


def test_one_that_is_unsure_leaves_the_record_to_the_next_person(session, project, user, make_user):
    project.reviews_needed = 2
    lin, kim, lea = make_user("lin"), make_user("kim"), make_user("lea", "lead")
    agreed, disputed, unsettled, led = (make_record(session, project) for _ in range(4))
    for record in (agreed, disputed, unsettled, led):
        reviews.add(session, record, user, form(record, "unsure"))
        reviews.add(session, record, lin, form(record))
        assert record.state == "new"
    assert queue.claim_next(session, project, kim, lease_seconds=60) is agreed
    reviews.add(session, agreed, kim, form(agreed))
    reviews.add(session, disputed, kim, form(disputed, "reject", reasons=["stale"]))
    reviews.add(session, unsettled, kim, form(unsettled, "unsure"))
    reviews.add(session, led, lea, form(led))

    states = [record.state for record in (agreed, disputed, unsettled, led)]
    assert states == ["accepted", "unsure", "unsure", "accepted"]


def test_who_reviews_no_more_is_not_waited_for(engine, session, project, user, make_user, settings):
    project.reviews_needed = 2
    lin, kim = make_user("lin"), make_user("kim")
    record = make_record(session, project)
    reviews.add(session, record, user, form(record, "unsure"))
    reviews.add(session, record, lin, form(record))

    for change, state in (
        (lambda: accounts.set_role(session, kim, project, "viewer"), "unsure"),
        (lambda: accounts.set_role(session, kim, project, "reviewer"), "new"),
        (lambda: accounts.disable(session, kim, disabled=True), "unsure"),
    ):
        change()
        job = jobs.claim(session, "light", "w")
        session.commit()
        folding.recount_opinions(Work(engine, settings, job, None, jobs.Halt()))
        jobs.finish(session, job)
        session.commit()
        session.expire_all()
        assert record.state == state
        session.commit()


def test_a_rebuild_finds_nothing_to_change_and_repairs_what_was_broken(session, project, user, make_user):
    lead = make_user("lead", "lead")
    records = [make_record(session, project) for _ in range(6)]
    reviews.add(session, records[0], user, form(records[0], answer="Better.", rating=5))
    reviews.add(session, records[1], user, form(records[1], "reject", reasons=["stale"]))
    reviews.add(session, records[2], user, form(records[2], "unsure"))
    reviews.add(session, records[2], lead, form(records[2]))
    reviews.add(session, records[3], user, form(records[3], "skip"))
    reviews.add(session, records[4], user, form(records[4]))
    reviews.undo(session, project, user, lease_seconds=60)
    session.commit()
    before = [(r.state, r.version, r.rating, r.edited, r.settled_by, r.settled_at) for r in records]

    assert folding.rebuild(session, project) == 0
    records[1].state, records[5].version = "accepted", 9
    session.add_all(records)
    session.flush()
    assert folding.rebuild(session, project) == 2
    assert [(r.state, r.version, r.rating, r.edited, r.settled_by, r.settled_at) for r in records] == before
    assert pairs(session) == [("Better.", records[0].answer)]
