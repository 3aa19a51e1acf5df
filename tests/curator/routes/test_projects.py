"""A project's first page, its settings, and who may do what in it."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from flask.testing import FlaskClient
from sqlmodel import Session, select

from curator.services import accounts, projects
from db.models import Journal, Project, User
from tests.factories import make_record, reload

GOOD = {"name": "Ferry", "guidelines": "Be kind.\r\nAlways.", "system_prompt": "Be brief.", "prompt_style": "passages"}


@pytest.fixture
def lead(make_user: Callable[..., User], sign_in: Callable[[User], FlaskClient]) -> FlaskClient:
    return sign_in(make_user("lea", "lead"))


def test_an_empty_project_says_where_to_begin(lead: FlaskClient) -> None:
    page = lead.get("/p/ferry/").text
    assert "Start with a log" in page


def test_the_page_counts_what_there_is(lead: FlaskClient, session: Session, project: Project) -> None:
    make_record(session, project)
    make_record(session, project, state="accepted")
    page = lead.get("/p/ferry/").text
    assert "1 answer waits" in page
    assert "1 of 2 reviewed" in page


def test_settings_are_saved_as_typed_and_noted(lead: FlaskClient, session: Session, project: Project) -> None:
    answer = lead.post("/p/ferry/settings", data=GOOD)

    reload(session, project)
    assert answer.headers["Location"] == "/p/ferry/settings"
    assert (project.name, project.guidelines, project.prompt_style) == ("Ferry", "Be kind.\nAlways.", "passages")
    assert project.system_prompt == "Be brief."
    assert session.exec(select(Journal.action)).all() == ["changed settings"]
    assert "Saved." in lead.get("/p/ferry/settings").text


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"name": ""}, "“name”: it is missing"),
        ({"name": "x" * 121}, "longer than 120 characters"),
        ({"prompt_style": "../x"}, "not one of the choices"),
    ],
)
def test_settings_that_cannot_be_change_nothing(
    lead: FlaskClient, session: Session, project: Project, change: dict[str, str], said: str
) -> None:
    answer = lead.post("/p/ferry/settings", data={**GOOD, **change})

    reload(session, project)
    assert answer.status_code == 422
    assert said in answer.text
    assert project.name == "Ferry line"


def test_a_form_cannot_set_what_is_not_in_it(lead: FlaskClient, session: Session, project: Project) -> None:
    more = {"slug": "taken", "id": "9", "service_version_id": "1", "seed": "0", "reviews_needed": "9"}
    seed = project.seed
    lead.post("/p/ferry/settings", data={**GOOD, **more})
    reload(session, project)
    assert (project.slug, project.service_version_id, project.seed) == ("ferry", None, seed)


def test_a_role_is_given_and_taken_away(
    lead: FlaskClient, session: Session, project: Project, make_user: Callable[..., User]
) -> None:
    person = make_user("noor", "")
    person_id = person.id  # read before the rollback, after which reading it would take the write lock
    lead.post("/p/ferry/people", data={"user_id": person_id, "role": "reviewer"})
    assert accounts.role_in(session, person, project) == "reviewer"
    session.rollback()
    lead.post("/p/ferry/people", data={"user_id": person_id, "role": ""})
    assert accounts.role_in(session, person, project) is None


@pytest.mark.parametrize("role", ["admin", "owner", "LEAD"])
def test_no_role_beyond_the_three_can_be_given(
    lead: FlaskClient, session: Session, project: Project, make_user: Callable[..., User], role: str
) -> None:
    person = make_user("noor", "")
    assert lead.post("/p/ferry/people", data={"user_id": person.id, "role": role}).status_code == 422
    assert accounts.role_in(session, person, project) is None


def test_a_lead_of_one_project_changes_nothing_in_another(lead: FlaskClient, session: Session) -> None:
    other = projects.create(session, "Other", slug="other")
    session.commit()
    assert lead.post("/p/other/settings", data=GOOD).status_code == 404
    reload(session, other)
    assert other.name == "Other"


def test_a_project_that_is_not_there_is_not_found(lead: FlaskClient) -> None:
    for slug in ("nope", "..", "%2e%2e", "ferry%00"):
        assert lead.get(f"/p/{slug}/").status_code == 404
