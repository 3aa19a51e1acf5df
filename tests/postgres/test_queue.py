"""The queue, its filters and what is taken together, on PostgreSQL."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
from sqlalchemy import Engine
from sqlmodel import Session

from curator.services import accounts, assignment, picking, projects, queue, records, reviews, search, snippets, views
from curator.services import choice as choices
from curator.services.choice import ALL, Choice
from db.models import Project, User
from db.session import new_session
from tests.factories import make_record


@pytest.fixture
def session(engine: Engine) -> Iterator[Session]:
    with new_session(engine, write=True) as session:
        yield session


@pytest.fixture
def project(session: Session) -> Project:
    return projects.create(session, "Ferry line", slug="ferry")


@pytest.fixture
def user(session: Session, project: Project) -> User:
    user = accounts.create_user(session, "noor", "Noor")
    accounts.set_role(session, user, project, "lead")
    return user


@pytest.mark.parametrize("order", queue.ORDERS)
def test_every_order_goes_on_behind_a_record(session: Session, project: Project, user: User, order: Any):
    project.reviews_needed = 2
    facts = [{"thumbs": -1, "rank": 1}, {"weak": 900}, {"refusal": True}, {"asked": 8}, {"rank": 1}, {}]
    made = [make_record(session, project, **fact) for fact in facts]

    got, after = [], None
    for _ in made:
        after = queue.claim_next(session, project, user, Choice(order=order), lease_seconds=60, after=after)
        got.append(after.id if after else None)

    assert sorted(id_ or 0 for id_ in got) == [record.id for record in made]


@pytest.mark.parametrize("args", [
    {"signal": ["down", "up", "refusal", "truncated", "control"]}, {"language": "zh"}, {"source": "1"},
    {"since": "1970-01-01", "until": "2199-12-31"}, {"shortest": "0", "longest": str(choices.HIGHEST)},
    {"reviewer": "1"}, {"twins": "any"}, {"twins": "3"}, {"personal": "1", "edited": "1", "gold": "1"},
    {"assigned": "me"}, {"assigned": "nobody"}, {"assigned": str(choices.HIGHEST)}, {"rating": "3"}, {"q": "ferry"},
])  # fmt: skip
def test_every_filter_is_understood(session: Session, project: Project, user: User, args: Any):
    choice = choices.read(args).choice
    make_record(session, project)

    queue.claim_next(session, project, user, choice, lease_seconds=60)
    queue.remaining(session, project, user, choice)
    records.count(session, project, choice, user)
    assert picking.together(session, project, choice, user) is not None
    assert assignment.assign(session, project, user, choice, user.id) is not None


def test_a_batch_a_view_and_a_snippet(session: Session, project: Project, user: User):
    record = make_record(session, project, passages=["The ferry is free."], signals={"truncated": True})
    search.put(session, [record])

    assert picking.together(session, project, Choice(q="ferry", signal=("truncated",)), user).ids == [record.id]
    lines = records.page(session, project, Choice(q="ferry"), user).lines
    assert snippets.of(session, snippets.missing(lines, "ferry"), "ferry")[record.id or 0].place == "passage"
    assert reviews.add_batch(session, project, user, [record.id or 0], "accept", [], "batch-request-1") == 1
    assert picking.given(session, project, user, "batch-request-1") == picking.Given("accept", 1, True)
    assert views.resume(session, project, user, Choice(language="zh")) == views.resume(session, project, user, ALL)
    assert records.languages(session, project) == ["en", "zh"]
