"""The first page, new projects, and whether the app is well."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from flask import Flask
from flask.testing import FlaskClient
from sqlmodel import Session, col, select

from curator.services import projects
from db.models import Journal, Project, User
from tests.factories import make_record


@pytest.fixture
def boss(make_user: Callable[..., User], sign_in: Callable[[User], FlaskClient]) -> FlaskClient:
    return sign_in(make_user("boss", "", admin=True))


def test_a_reviewer_of_one_project_is_taken_there(make_user, sign_in) -> None:
    assert sign_in(make_user()).get("/").headers["Location"] == "/p/ferry/"


def test_the_list_shows_a_persons_projects_only(session: Session, make_user, sign_in, project: Project) -> None:
    person = make_user()
    mine, other = projects.create(session, "Mine too", slug="mine"), projects.create(session, "Not mine", slug="not")
    from curator.services import accounts

    accounts.set_role(session, person, mine, "viewer")
    session.commit()
    make_record(session, project)

    page = sign_in(person).get("/").text

    assert "Ferry line" in page
    assert "Mine too" in page
    assert other.name not in page


def test_somebody_without_a_project_sees_a_page(make_user, sign_in) -> None:
    answer = sign_in(make_user(role="")).get("/")
    assert answer.status_code == 200
    assert "Ferry line" not in answer.text


def test_an_admin_adds_a_project_and_leads_it(boss: FlaskClient, session: Session) -> None:
    answer = boss.post("/projects", data={"name": "Harbour desk"})

    assert answer.headers["Location"] == "/p/harbour-desk/settings"
    made = session.exec(select(Project).where(Project.slug == "harbour-desk")).one()
    assert made.name == "Harbour desk"
    assert session.exec(select(Journal.action).where(Journal.project_id == made.id)).all() == ["created project"]


@pytest.mark.parametrize("names", [("渡轮", "客服", "港口"), ("Same", "same!", "  Same "), ("../x", "..\\x", "/x/")])
def test_each_project_gets_a_short_name_of_its_own_that_is_safe(
    boss: FlaskClient, session: Session, names: tuple[str, ...]
) -> None:
    for name in names:
        assert boss.post("/projects", data={"name": name}).status_code == 303
    slugs = session.exec(select(Project.slug).order_by(col(Project.id))).all()[1:]
    assert len(set(slugs)) == 3
    assert all(slug.replace("-", "").isalnum() and slug.isascii() for slug in slugs)


@pytest.mark.parametrize("name", ["", "x" * 121])
def test_a_project_without_a_usable_name_is_refused(boss: FlaskClient, session: Session, name: str) -> None:
    assert boss.post("/projects", data={"name": name}).status_code == 422
    assert len(session.exec(select(Project)).all()) == 1


def test_a_lead_cannot_add_projects(make_user, sign_in, session: Session) -> None:
    assert sign_in(make_user(role="lead")).post("/projects", data={"name": "Mine"}).status_code == 403
    assert len(session.exec(select(Project)).all()) == 1


def test_health_needs_no_account(app: Flask) -> None:
    answer = app.test_client().get("/healthz")
    assert (answer.status_code, answer.json) == (200, {"ok": True})
