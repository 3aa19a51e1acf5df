"""Versions over HTTP: list, promote, go back, retire, publish again."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path

import pytest
from flask import Flask
from flask.testing import FlaskClient
from pydantic import SecretStr
from sqlalchemy import Engine
from sqlmodel import select

from curator.services import jobs, versions
from curator.settings import Settings
from db.models import Job, ModelVersion, Project, Promotion, User
from db.session import open_session
from tests.curator.taught import School, school
from tests.curator.teaching import Classroom

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
    assert "being loaded" in lead.get("/p/ferry/models/1").text
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
    for path in ("1/promote", "roll-back", "1/retire", "1/publish", "prune"):
        assert reviewer.post(f"/p/ferry/models/{path}", data={"reason": "x", "numbers": "1"}).status_code == 403
    assert reviewer.get("/p/ferry/models/1").status_code == 200
    assert reviewer.get("/p/ferry/models/1/files/model.gguf").status_code == 403


def test_there_is_no_version_nine(lead: FlaskClient):
    assert lead.post("/p/ferry/models/9/promote", data={}, headers=HTMX).status_code == 404


def taught(place: School) -> ModelVersion:
    """A version with files, as a run leaves it, that a runtime has."""
    version = Classroom(place.engine, place.settings, place.project, place.snapshot).teach()
    with open_session(place.engine, write=True) as session:
        versions.loaded(session, version, "fake")
    return version


def test_a_version_shows_its_lineage_its_files_and_how_it_is_loaded_by_hand(place: School, lead: FlaskClient):
    version = taught(place)
    page = lead.get("/p/ferry/models/1").text

    assert place.snapshot.sha256 in page
    assert f"ollama create {version.tag} -f Modelfile" in page
    assert f"{version.folder}</pre>" in page
    with lead.get("/p/ferry/models/1/files/README.md") as card:
        assert card.headers["Content-Disposition"] == "attachment; filename=ferry-v1-README.md"
        assert "# Ferry line, version 1" in card.text
    with lead.get("/p/ferry/models/1/files/model.gguf") as model:
        assert model.data == (Path(version.folder) / "model.gguf").read_bytes()
    assert lead.get("/p/ferry/models/1/files/evaluation.json").status_code == 404


def test_while_a_version_is_sent_the_page_shows_how_far_it_is(place: School, lead: FlaskClient):
    version = place.version(1, "built")
    with open_session(place.engine, write=True) as session:
        job = jobs.enqueue(session, "light", "publish", f"publish:{version.id}", {"id": version.id})
        job.payload = {**job.payload, "status": "uploading", "share": 0.42}

    assert "42 of 100 sent" in lead.get("/p/ferry/models/list").text


def test_retiring_says_what_it_frees(place: School, lead: FlaskClient):
    taught(place)

    assert re.search(r"deletes its files and frees \d+ [kM]B", lead.get("/p/ferry/models").text)


def test_old_versions_are_retired_together_and_only_those_that_were_shown(place: School, lead: FlaskClient):
    for number in range(1, 6):
        place.version(number)
    page = lead.get("/p/ferry/models").text
    assert re.findall(r'name="numbers" value="(\d)"', page) == ["2", "1"]

    refused = lead.post("/p/ferry/models/prune", data={"numbers": ["1", "9"]}, headers=HTMX)
    assert refused.status_code == 404
    lead.post("/p/ferry/models/prune", data={"numbers": ["1", "2"]}, headers=HTMX)

    with open_session(place.engine) as session:
        states = session.exec(select(ModelVersion.state).order_by(ModelVersion.number)).all()  # pyright: ignore
    assert states == ["retired", "retired", "published", "published", "published"]


def test_other_programs_are_told_address_key_and_name(
    place: School, app: Flask, sign_in: Callable[[User], FlaskClient]
):
    app.extensions["curator.settings"] = place.settings.model_copy(
        update={"ollama_url": "http://models.example:8080/ollama/", "ollama_token": SecretStr("s3cret")}
    )
    page = sign_in(place.person("moira", "lead")).get("/p/ferry/models/connect").text

    assert "<code>http://models.example:8080/ollama/v1</code>" in page
    assert "<code>ferry:current</code>" in page
    assert "api_base: http://models.example:8080/ollama/v1" in page
    assert "Nothing has been put into service yet." in page
    assert "s3cret" not in page


def test_without_ollama_the_page_says_how_versions_can_be_served_to_others(place: School, lead: FlaskClient):
    assert "CURATOR_OLLAMA_URL" in lead.get("/p/ferry/models/connect").text


def test_the_key_that_programs_send_is_not_a_key_to_press(place: School, app: Flask, lead: FlaskClient):
    app.extensions["curator.settings"] = place.settings.model_copy(update={"ollama_url": "http://models.example"})
    lead.set_cookie("language", "zh_Hans")

    page = lead.get("/p/ferry/models/connect").text

    assert page.count("API 密钥</th>") == 2 and "按键" not in page
