"""Records that are decided together: which they are, how many, and what became of it."""

from __future__ import annotations

from datetime import timedelta

import pytest

from curator.errors import Invalid, NotFound
from curator.services import picking, reviews, search
from curator.services.choice import ALL, Choice
from db.models import utc_now
from tests.factories import make_record


@pytest.mark.parametrize("state", ["accepted", "rejected", "unsure"])
def test_what_is_decided_cannot_be_decided_together(session, project, make_user, state):
    with pytest.raises(Invalid):
        picking.together(session, project, Choice(state=state), make_user())


def test_left_out_is_what_others_are_at_what_is_asked_of_others_and_what_i_judged(session, project, make_user):
    project.reviews_needed = 2
    noor, lin = make_user("noor"), make_user("lin")
    soon, past = utc_now() + timedelta(minutes=5), utc_now() - timedelta(minutes=5)
    free = make_record(session, project)
    mine = make_record(session, project, claimed_by=noor.id, claimed_until=soon, assigned_to=noor.id)
    over = make_record(session, project, claimed_by=lin.id, claimed_until=past)
    make_record(session, project, claimed_by=lin.id, claimed_until=soon)
    make_record(session, project, assigned_to=lin.id)
    make_record(session, project, state="accepted")
    judged = make_record(session, project)
    reviews.add_batch(session, project, noor, [judged.id], "accept", [], "batch-request-1")

    picked = picking.together(session, project, ALL, noor)

    assert picked.ids == [free.id, mine.id, over.id] and not picked.more
    assert [record.id for record in picked.shown] == picked.ids


def test_more_than_go_at_once_is_told(session, project, make_user, monkeypatch):
    monkeypatch.setattr(picking, "TOGETHER", 2)
    records = [make_record(session, project) for _ in range(3)]

    picked = picking.together(session, project, ALL, make_user())

    assert (picked.ids, picked.more) == ([record.id for record in records[:2]], True)


def test_a_search_narrows_what_is_decided(session, project, make_user):
    found = make_record(session, project, question="Darf ein Hund mit?", language="de")
    search.put(session, [found, make_record(session, project, question="Is it free?")])

    assert picking.together(session, project, Choice(q="hund"), make_user()).ids == [found.id]
    assert picking.together(session, project, Choice(q="???"), make_user("lin")).ids == []


def test_a_batch_is_found_by_its_maker_only_and_says_whether_it_is_the_newest(session, project, make_user):
    noor, lin = make_user("noor"), make_user("lin")
    records = [make_record(session, project) for _ in range(3)]
    reviews.add_batch(session, project, noor, [r.id for r in records[:2]], "accept", [], "batch-request-1")

    assert picking.given(session, project, noor, "batch-request-1") == picking.Given("accept", 2, True)
    reviews.add_batch(session, project, noor, [records[2].id], "accept", [], "batch-request-2")
    assert picking.given(session, project, noor, "batch-request-1") == picking.Given("accept", 2, False)
    reviews.undo(session, project, noor, lease_seconds=60)
    reviews.undo(session, project, noor, lease_seconds=60)
    assert picking.given(session, project, noor, "batch-request-1") == picking.Given("accept", 0, False)
    for person, batch in ((lin, "batch-request-1"), (noor, "batch-request-9"), (noor, "")):
        with pytest.raises(NotFound):
            picking.given(session, project, person, batch)
