"""The form that starts a run: every parameter of the recipe, a class of run, a version to go on from, the command."""

from __future__ import annotations

import html
from collections.abc import Callable
from pathlib import Path

import pytest
from flask.testing import FlaskClient
from sqlalchemy import Engine
from sqlmodel import col, select

from curator.services import snapshots
from curator.settings import Settings
from db.models import Json, Project, Record, Run, Snapshot, User
from db.session import open_session
from tests.curator.taught import School, school
from trainer.recipe import settings as parameters
from trainer.rundir import RunDir

HTMX = {"HX-Request": "true"}


@pytest.fixture
def place(engine: Engine, settings: Settings, tmp_path: Path) -> School:
    return school(engine, settings, tmp_path)


@pytest.fixture
def lead(place: School, sign_in: Callable[[User], FlaskClient]) -> FlaskClient:
    return sign_in(place.person("moira", "lead"))


def newest_spec(place: School) -> Json:
    with open_session(place.engine) as session:
        return session.exec(select(Run.spec).order_by(col(Run.id).desc())).first() or {}


def test_a_quick_run_reads_less_with_a_smaller_adapter(place: School, lead: FlaskClient):
    lead.post("/p/ferry/runs", data={"preset": "quick", "lora.dropout": "0"}, headers=HTMX)

    spec = newest_spec(place)
    assert (spec["epochs"], spec["max_steps"]) == (1, 60)
    assert (spec["lora"]["rank"], spec["lora"]["alpha"], spec["lora"]["dropout"]) == (8, 16, 0)


def test_every_parameter_has_its_label_sentence_and_usual_value_in_the_form(lead: FlaskClient):
    page = html.unescape(lead.get("/p/ferry/teach").text)

    for setting in parameters():
        if setting.name not in ("method", "continues"):
            assert f'name="{setting.name}"' in page
            assert setting.label in page
            assert setting.sentence in page
    assert 'name="epochs" autocomplete="off" placeholder="3.0"' in page
    assert "as usual: drop" in page


def test_a_run_goes_on_from_a_version_that_is_chosen(place: School, lead: FlaskClient):
    place.version(1)
    adapter = RunDir(place.settings.folder("runs") / "1").adapter
    adapter.mkdir(parents=True)
    with open_session(place.engine, write=True) as session:
        run = session.get_one(Run, place.versions[1].run_id)
        run.folder, run.spec = str(adapter.parent), {"lora": {"rank": 4, "alpha": 8}}

    assert '<option value="1">Version 1</option>' in lead.get("/p/ferry/teach").text
    lead.post("/p/ferry/runs", data={"continues": "1", "replay": "0.5"}, headers=HTMX)

    spec = newest_spec(place)
    assert (spec["continues"], spec["replay"], spec["lora"]["rank"]) == (1, 0.5, 4)


def test_the_command_is_shown_before_anything_is_kept(place: School, lead: FlaskClient):
    answer = lead.post("/p/ferry/runs/command", data={"epochs": "1.5", "preset": "quick"}, headers=HTMX)

    text = html.unescape(answer.text)
    assert "python -m trainer all RUN_FOLDER --base" in text
    assert "--epochs 1.5 --max_steps 60" in text
    assert "\nlora.rank: 8\n" in text
    assert "\ndataset: v2_train\n" in text
    with open_session(place.engine) as session:
        assert [snapshot.name for snapshot in session.exec(select(Snapshot))] == ["v1"]
        assert session.exec(select(Run)).all() == []


def test_the_command_for_what_cannot_be_is_a_sentence(lead: FlaskClient):
    answer = lead.post("/p/ferry/runs/command", data={"epochs": "0"}, headers=HTMX)

    assert answer.status_code == 422
    assert "Please check “Times it reads every answer”: it must be more than 0." in html.unescape(answer.text)


def test_preferences_are_learnt_from_every_judgement_where_that_is_chosen(place: School, lead: FlaskClient):
    assert "How preferences are learnt" not in lead.get("/p/ferry/teach").text
    with open_session(place.engine, write=True) as session:
        project = session.get_one(Project, place.project.id)
        for record in session.exec(select(Record).limit(18)).all():
            record.state = "rejected"
        session.flush()
        chosen = snapshots.freeze(session, project, "p1", kind="preference")

    page = html.unescape(lead.get("/p/ferry/teach").text)
    assert "p1: 40 single judgements" in page
    assert "How preferences are learnt" in page
    shown = lead.post("/p/ferry/runs/command", data={"snapshot_id": chosen.id, "method": "kto"}, headers=HTMX).text
    assert "--method kto" in shown and "stage: kto" in html.unescape(shown)

    refused = lead.post("/p/ferry/runs", data={"snapshot_id": chosen.id}, headers=HTMX)
    assert refused.status_code == 422 and "no pair" in refused.text
    lead.post("/p/ferry/runs", data={"snapshot_id": chosen.id, "method": "kto"}, headers=HTMX)

    assert newest_spec(place)["method"] == "kto"


def test_approved_answers_are_not_learnt_as_preferences(place: School, lead: FlaskClient):
    refused = lead.post("/p/ferry/runs", data={"method": "kto"}, headers=HTMX)

    assert refused.status_code == 422
    assert "nothing to prefer or to reject" in refused.text
    assert newest_spec(place) == {}
