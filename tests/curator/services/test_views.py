"""Saved views: mine, everybody's, and what I had last at the desk."""

from __future__ import annotations

import pytest
from sqlmodel import select

from curator.errors import Conflict, Forbidden, Invalid, NotFound
from curator.services import projects, views
from curator.services.choice import ALL, Choice, read
from db.models import SavedView

ZH = Choice(language="zh", signal=("down",))


@pytest.mark.parametrize("name", ["", "   ", "\0", "x" * 61])
def test_a_view_needs_a_name_that_fits(session, project, make_user, name):
    with pytest.raises(Invalid):
        views.save(session, project, make_user(), name, ZH)


def test_only_a_lead_shares_and_only_so_many_are_kept(session, project, make_user, monkeypatch):
    noor = make_user()
    monkeypatch.setattr(views, "MOST", 1)
    views.save(session, project, noor, "Chinese", ZH)

    with pytest.raises(Forbidden):
        views.save(session, project, noor, "Chinese", ZH, shared=True)
    with pytest.raises(Conflict):
        views.save(session, project, noor, "Another", ZH)
    assert views.save(session, project, noor, " Chinese ", ALL).query == {}  # the same name again replaces it


def test_one_sees_ones_own_views_and_the_shared_ones_of_this_project(session, project, make_user):
    noor, lead = make_user(), make_user("lead", "lead")
    other = projects.create(session, "Other", slug="other")
    views.save(session, project, noor, "b mine", ZH)
    views.save(session, project, lead, "A shared", Choice(gold=True), shared=True)
    views.save(session, project, lead, "theirs", ALL)
    views.save(session, other, noor, "elsewhere", ALL)

    assert [(view.name, choice) for view, choice in views.listed(session, project, noor)] == [
        ("A shared", Choice(gold=True)), ("b mine", ZH),
    ]  # fmt: skip


def test_a_view_of_somebody_else_is_not_there_to_be_deleted(session, project, make_user):
    noor, lin, lead = make_user(), make_user("lin"), make_user("lead", "lead")
    mine = views.save(session, project, noor, "mine", ZH)
    shared = views.save(session, project, lead, "shared", ZH, shared=True)
    views.resume(session, project, noor, ZH)
    session.flush()
    last = session.exec(select(SavedView.id).where(SavedView.name == "")).one()

    for person, view_id in (
        (noor, last),
        (lin, mine.id),
        (lead, mine.id),
        (lin, shared.id),
        (noor, 2**70),
        (noor, 999),
    ):
        with pytest.raises(NotFound):
            views.delete(session, project, person, view_id)
    views.delete(session, project, noor, mine.id)
    views.delete(session, project, lead, shared.id)
    assert views.listed(session, project, noor) == []


def test_a_kept_view_that_has_lost_its_meaning_says_what_is_left(session, project, make_user):
    view = views.save(session, project, make_user(), "old", ZH)
    view.query = {"language": "zh", "signal": ["gone"], "colour": "red", "source": ["x"]}

    assert views.choice_of(view) == Choice(language="zh")


def test_the_desk_goes_on_with_what_one_chose_last_here(session, project, make_user):
    noor, lin = make_user(), make_user("lin")
    other = projects.create(session, "Other", slug="other")

    assert views.resume(session, project, noor, ALL) == ALL
    assert views.resume(session, project, noor, ZH) == ZH
    assert views.resume(session, project, noor, ALL) == ZH
    nonsense = read({"order": "password_hash"}).choice
    assert views.resume(session, project, noor, nonsense) == ZH  # alone it says nothing
    assert views.resume(session, project, lin, ALL) == ALL == views.resume(session, other, noor, ALL)
    assert views.listed(session, project, noor) == []
    assert views.resume(session, project, noor, read({"order": "doubt"}).choice).is_empty
    assert views.resume(session, project, noor, ALL) == ALL
