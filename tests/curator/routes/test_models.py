"""Versions over HTTP: list, promote, go back, retire, publish again."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
from flask.testing import FlaskClient
from sqlalchemy import Engine
from sqlmodel import select

from curator.settings import Settings
from db.models import Job, ModelVersion, Project, Promotion, User
from db.session import open_session
from tests.curator.taught import School, school

HTMX = {"HX-Request": "true"}


@pytest.fixture
def place(engine: Engine, settings: Settings, tmp_path: Path) -> School:
    return school(engine, settings, tmp_path)


@pytest.fixture
def lead(place: School, sign_in: Callable[[User], FlaskClient]) -> FlaskClient:
    return sign_in(place.person("moira", "lead"))


def serving(place: School) -> int | None:
    with open_session(place.engine) as session:
        version = session.get(ModelVersion, session.get_one(Project, place.project.id).service_version_id or 0)
    return version.number if version else None


def test_without_versions_the_page_leads_to_teaching(lead: FlaskClient):
    page = lead.get("/p/ferry/models")

    assert page.status_code == 200
    assert "There is no version yet." in page.text
    assert "The untaught base answers your users." in page.text


def test_versions_are_listed_newest_first_with_their_states(place: School, lead: FlaskClient):
    place.version(1, "in service")
    place.version(2, gate_passed=False)
    page = lead.get("/p/ferry/models").text

    assert page.index("Version 2") < page.index("Version 1</a>")
    assert "Version 1 answers your users." in page
    assert "Did not pass its checks" in page


def test_versions_over_time_are_drawn_and_told(place: School, lead: FlaskClient):
    place.version(1, "in service")
    assert "From version to version" not in lead.get("/p/ferry/models").text
    place.version(2)

    page = lead.get("/p/ferry/models").text

    assert "From version to version" in page
    assert page.count("<polyline") == 2, "what no version measured has no line"
    assert 'r="5"' in page


def test_put_into_service_and_go_back(place: School, lead: FlaskClient):
    place.version(1, "in service")
    place.version(2)

    promoted = lead.post("/p/ferry/models/2/promote", data={"reason": "Better on fares"}, headers=HTMX)

    assert promoted.status_code == 200
    assert promoted.text.lstrip().startswith('<section id="models"')
    assert serving(place) == 2
    assert "Better on fares" in promoted.text
    assert "Go back to version 1…" in promoted.text

    lead.post("/p/ferry/models/roll-back", data={"reason": ""}, headers=HTMX)

    assert serving(place) == 1


def test_a_version_that_failed_its_checks_needs_a_reason(place: School, lead: FlaskClient):
    place.version(1, gate_passed=False)

    refused = lead.post("/p/ferry/models/1/promote", data={"reason": " "}, headers=HTMX)

    assert refused.status_code == 422
    assert "Give the reason" in refused.text
    assert serving(place) is None

    assert lead.post("/p/ferry/models/1/promote", data={"reason": "We need it"}, headers=HTMX).status_code == 200
    with open_session(place.engine) as session:
        assert session.exec(select(Promotion)).one().reason == "We need it"


def test_going_back_from_the_base_is_refused(place: School, lead: FlaskClient):
    assert lead.post("/p/ferry/models/roll-back", data={}, headers=HTMX).status_code == 409


def test_retire_a_version_but_not_the_one_in_service(place: School, lead: FlaskClient):
    place.version(1, "in service")
    place.version(2)

    assert lead.post("/p/ferry/models/2/retire", headers=HTMX).status_code == 200
    assert lead.post("/p/ferry/models/1/retire", headers=HTMX).status_code == 409


def test_a_version_that_could_not_be_loaded_says_why_and_is_tried_again(place: School, lead: FlaskClient):
    place.version(1, "built", message="The runtime does not answer. Start it.")
    assert "The runtime does not answer. Start it." in lead.get("/p/ferry/models").text

    again = lead.post("/p/ferry/models/1/publish", headers=HTMX)

    assert "being loaded" in again.text
    assert 'hx-trigger="every 3s"' in again.text
    with open_session(place.engine) as session:
        assert session.exec(select(Job).where(Job.kind == "publish")).one().state == "queued"


def test_the_page_does_not_poll_when_nothing_is_being_loaded(place: School, lead: FlaskClient):
    place.version(1)

    assert "every 3s" not in lead.get("/p/ferry/models/list").text


def test_a_reviewer_sees_the_list_and_changes_nothing(place: School, sign_in: Callable[[User], FlaskClient]):
    place.version(1)
    reviewer = sign_in(place.person())

    assert "Put into service" not in reviewer.get("/p/ferry/models").text
    for path in ("1/promote", "roll-back", "1/retire", "1/publish"):
        assert reviewer.post(f"/p/ferry/models/{path}", data={"reason": "x"}).status_code == 403


def test_there_is_no_version_nine(lead: FlaskClient):
    assert lead.post("/p/ferry/models/9/promote", data={}, headers=HTMX).status_code == 404
