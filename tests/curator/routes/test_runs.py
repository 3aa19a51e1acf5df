"""Teaching over HTTP: readiness, start, follow, stop, the card."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from flask.testing import FlaskClient
from sqlalchemy import Engine
from sqlmodel import Session, col, select

from curator.services import projects
from curator.settings import Settings
from db.models import Job, Journal, Run, Snapshot, User, utc_now
from db.session import open_session
from tests.curator.taught import CARD, School, school
from tests.curator.teaching import Classroom
from tests.factories import make_record
from trainer.evaluation import Answered, Evaluation, PinResult
from trainer.rundir import RunDir, now, write_model
from trainer.spec import Event, Plan, TokenSpan

HTMX = {"HX-Request": "true"}


@pytest.fixture
def place(engine: Engine, settings: Settings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> School:
    monkeypatch.setattr("curator.services.run_folder.MARGIN", 0)  # the test machine's disk is not what is tested
    return school(engine, settings, tmp_path)


@pytest.fixture
def lead(place: School, sign_in: Callable[[User], FlaskClient]) -> FlaskClient:
    return sign_in(place.person("moira", "lead"))


def newest_run(place: School) -> Run:
    with open_session(place.engine) as session:
        return session.exec(select(Run).order_by(col(Run.id).desc())).first()  # pyright: ignore # there is one


def add_run(place: School, **fields: Any) -> Run:
    with open_session(place.engine, write=True) as session:
        run = place.run(session, **fields)
        run.folder = str(place.settings.folder("runs") / str(run.id))
        session.add(run)
    Path(run.folder).mkdir()
    return run


def test_ready_offers_one_button(lead: FlaskClient):
    page = lead.get("/p/ferry/teach").text

    assert "40" in page
    assert '<button class="btn primary">Teach the model</button>' in page


def test_not_ready_says_what_is_missing(place: School, settings: Settings, lead: FlaskClient, app: Any):
    app.extensions["curator.settings"] = settings.model_copy(update={"min_examples": 100})

    page = lead.get("/p/ferry/teach").text

    assert "40 answers are approved; teaching needs 100. Review 60 more." in page
    assert 'disabled aria-describedby="why"' in page


def test_teach_freezes_todays_answers_and_starts(place: School, lead: FlaskClient):
    answer = lead.post("/p/ferry/runs", data={"snapshot_id": ""}, headers=HTMX)

    run = newest_run(place)
    assert answer.headers["HX-Redirect"] == f"/p/ferry/runs/{run.id}"
    with open_session(place.engine) as session:
        snapshot = session.get_one(Snapshot, run.snapshot_id)
        assert session.exec(select(Job).where(Job.kind == "run")).one().payload == {"id": run.id}
    assert snapshot.name == "v2"


@pytest.mark.parametrize(("ticked", "left_out"), [({}, 1), ({"include_personal": "1"}, 0)])
def test_a_lead_says_whether_personal_data_is_taught(
    place: School, lead: FlaskClient, session: Session, ticked: dict[str, str], left_out: int
):
    assert "include_personal" not in lead.get("/p/ferry/teach").text
    make_record(session, place.project, state="accepted", settled_at=utc_now(), answer="Call +44 20 7946 0958.")
    assert "That is 1 of the approved answers now." in lead.get("/p/ferry/teach").text

    lead.post("/p/ferry/runs", data=ticked)

    with open_session(place.engine) as reading:
        assert reading.get_one(Snapshot, newest_run(place).snapshot_id).left_out == left_out
        froze = reading.exec(select(Journal.detail).where(Journal.action == "froze").order_by(col(Journal.id).desc()))
        assert froze.first() == {"include_personal": bool(ticked), "left_out": left_out}


def test_teach_with_a_dataset_there_is_and_other_numbers(place: School, lead: FlaskClient):
    form = {"snapshot_id": place.snapshot.id, "epochs": "1.5", "lora.rank": "8", "seed": ""}
    lead.post("/p/ferry/runs", data=form, headers=HTMX)

    run = newest_run(place)
    assert run.snapshot_id == place.snapshot.id
    assert run.spec["epochs"] == 1.5
    assert (run.spec["lora"]["rank"], run.spec["lora"]["alpha"]) == (8, 16)
    assert run.spec["seed"] == 17


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("learning_rate", "1e308"),
        ("learning_rate", "NaN"),
        ("epochs", "0"),
        ("lora.rank", "; touch x"),
        ("lora.target_modules", ","),
        ("overlong", "cut"),
        ("preset", "hasty"),
        ("max_steps", "-1"),
    ],
)
def test_numbers_that_cannot_be_are_refused_and_nothing_is_frozen(
    place: School, lead: FlaskClient, field: str, value: str
):
    answer = lead.post("/p/ferry/runs", data={field: value}, headers=HTMX)

    assert answer.status_code == 422
    with open_session(place.engine) as session:
        assert [snapshot.name for snapshot in session.exec(select(Snapshot))] == ["v1"]
        assert session.exec(select(Run)).all() == []


def test_a_double_click_teaches_once(place: School, lead: FlaskClient):
    first = lead.post("/p/ferry/runs", data={}, headers=HTMX)
    second = lead.post("/p/ferry/runs", data={}, headers=HTMX)

    assert (first.status_code, second.status_code) == (200, 409)
    with open_session(place.engine) as session:
        assert len(session.exec(select(Run)).all()) == 1
        assert len(session.exec(select(Snapshot)).all()) == 2
    assert "Follow the run" in lead.get("/p/ferry/teach").text


def test_a_live_run_is_followed_with_stage_time_left_and_curve(place: School, lead: FlaskClient):
    run = add_run(place, state="running", stage="train", finished_at=None)
    folder = RunDir(Path(run.folder))
    folder.append(Event(at=now(), kind="stage", stage="train"))
    for step in (1, 2):
        folder.append(
            Event(
                at=now(),
                kind="step",
                stage="train",
                step=step,
                steps=10,
                loss=2.0 - step / 10,
                eta_seconds=120,
                tokens_per_second=800,
            )
        )
    folder.append(Event(at=now(), kind="eval", stage="train", step=2, steps=10, eval_loss=1.9))

    page = lead.get(f"/p/ferry/runs/{run.id}/status").text

    assert page.lstrip().startswith('<section id="run" hx-get=')
    assert "It is learning from your approved answers." in page
    assert "2 of 10" in page
    assert "2 min" in page
    assert "data-train='[[1, 1.9], [2, 1.8]]'" in page
    assert "data-held='[[2, 1.9]]'" in page


@pytest.mark.parametrize("state", ["finished", "failed", "cancelled"])
def test_following_ends_with_the_run(place: School, lead: FlaskClient, state: str):
    run = add_run(place, state=state, message="It ended.")

    assert "hx-trigger" not in lead.get(f"/p/ferry/runs/{run.id}/status").text


def test_stop_a_waiting_run(place: School, lead: FlaskClient):
    lead.post("/p/ferry/runs", data={}, headers=HTMX)
    run = newest_run(place)

    stopped = lead.post(f"/p/ferry/runs/{run.id}/cancel", headers=HTMX)

    assert "This run was stopped" in stopped.text
    assert lead.post(f"/p/ferry/runs/{run.id}/cancel", headers=HTMX).status_code == 409


def test_a_stopped_run_offers_to_go_on_and_does(place: School, lead: FlaskClient):
    run = add_run(place, state="cancelled", message="Stopped by a person.")
    assert "Go on from where it stopped" in lead.get(f"/p/ferry/runs/{run.id}").text

    answer = lead.post(f"/p/ferry/runs/{run.id}/resume")

    assert answer.headers["Location"] == f"/p/ferry/runs/{run.id}"
    with open_session(place.engine) as session:
        assert session.get_one(Run, run.id).state == "queued"
        assert session.exec(select(Job).where(Job.kind == "run")).one().payload == {"id": run.id}


def test_stop_a_run_at_work_says_that_it_stops(place: School, lead: FlaskClient):
    lead.post("/p/ferry/runs", data={}, headers=HTMX)
    with open_session(place.engine, write=True) as session:
        run = session.exec(select(Run)).one()
        run.state = "running"
        session.exec(select(Job).where(Job.kind == "run")).one().state = "running"

    stopped = lead.post(f"/p/ferry/runs/{run.id}/cancel", headers=HTMX).text

    assert "It stops at the next safe point." in stopped
    assert "every 2s" in stopped


def test_runs_are_numbered_by_project(place: School, lead: FlaskClient):
    with open_session(place.engine, write=True) as session:
        other = projects.create(session, "Bus line", slug="bus")
        place.run(session, project_id=other.id, state="failed")
    first, second = add_run(place, state="cancelled"), add_run(place, state="failed")

    page = lead.get("/p/ferry/teach").text
    assert f'/p/ferry/runs/{second.id}">Run 2</a>' in page
    assert f'/p/ferry/runs/{first.id}">Run 1</a>' in page
    shown = lead.get(f"/p/ferry/runs/{second.id}").text
    assert "<title>Run 2" in shown
    assert '<th scope="row">Run</th><td>2 ' in shown


def test_the_card_says_what_came_of_it(place: School, lead: FlaskClient):
    version = place.version(1)
    with open_session(place.engine, write=True) as session:
        run = session.get_one(Run, version.run_id)
        run.folder = str(place.settings.folder("runs") / str(run.id))
    Path(run.folder).mkdir()
    question = Answered(
        id="1", question="Are <b>dogs</b> free?", approved="Yes.", old="No.", new="Perhaps.", outcome="worse"
    )
    pin = PinResult(
        id="1", question="And cats?", approved="Yes.", old="Yes.", new="No.", old_right=True, new_right=False
    )
    write_model(
        RunDir(Path(run.folder)).evaluation_file,
        Evaluation(
            old_loss=2.1, new_loss=1.6, questions=[question], pins=[pin], better=2, same=1, worse=1, old_pins=1,
            new_pins=0, stops=4, stops_asked=4, checks=[],
        ),
    )  # fmt: skip

    page = lead.get(f"/p/ferry/runs/{run.id}").text

    assert "Version 1 has learnt your corrections" in page
    assert "It studied 33 approved answers" in page
    assert "<b>better on 2</b>" in page
    assert "Are &lt;b&gt;dogs&lt;/b&gt; free?" in page
    assert "was right before" in page
    assert "Compare with the untaught base" in page


def test_the_card_does_not_count_corrections_that_nobody_pinned(place: School, lead: FlaskClient):
    pins = {"name": "pins", "passed": True, "detail": "No past correction is pinned yet."}
    version = place.version(1)
    with open_session(place.engine, write=True) as session:
        run = session.get_one(Run, version.run_id)
        run.card = {**CARD, "pins": 0, "old_pins": 0, "new_pins": 0, "checks": [pins]}

    page = lead.get(f"/p/ferry/runs/{version.run_id}").text

    assert "there are none yet that could be lost" in page
    assert "0 of 0" not in page


def test_the_card_shows_the_first_token_at_which_training_and_use_part(place: School, lead: FlaskClient):
    difference = {
        "question": "Are <b>dogs</b> free?", "place": 0, "before": "", "taught": "<|im_start|>user",
        "served": "<s><|im_start|>user",
    }  # fmt: skip
    parity = {"name": "parity", "passed": False, "detail": "0 of 3 prompts become the same.", "difference": difference}
    version = place.version(1)
    with open_session(place.engine, write=True) as session:
        run = session.get_one(Run, version.run_id)
        run.card = {**CARD, "checks": [parity]}

    page = lead.get(f"/p/ferry/runs/{version.run_id}").text

    assert "“Are &lt;b&gt;dogs&lt;/b&gt; free?” becomes another prompt from token 1 on:" in page
    assert "<code>&lt;|im_start|&gt;user</code>" in page
    assert "<code>&lt;s&gt;&lt;|im_start|&gt;user</code>" in page


def test_the_card_says_what_rounding_the_finished_file_took(place: School, lead: FlaskClient):
    rounding = {"name": "rounding", "passed": False, "warning": True, "detail": "60% is left."}
    version = place.version(1)
    with open_session(place.engine, write=True) as session:
        run = session.get_one(Run, version.run_id)
        run.card = {**CARD, "checks": [rounding], "rounded": {"type": "Q4_0", "loss": 1.234, "size": 98_000_000}}

    page = lead.get(f"/p/ferry/runs/{version.run_id}").text

    assert "Rounding the finished file took a part of the lesson" in page
    assert "Below you can make a version of a type that keeps more" in page
    assert "1.234 in the finished file, whose taught layers are of type Q4_0 (98 MB)" in page


def test_the_card_says_in_plain_words_what_answers_are_like(place: School, lead: FlaskClient):
    Classroom(place.engine, place.settings, place.project, place.snapshot).teach("poor")

    page = lead.get("/p/ferry/runs/1").text

    assert "40 of 100" in page and "10 before" in page
    assert "Its answers are shorter: 9 characters on average, 21 before; yours have 10." in page
    assert "It declines less often: 0 of" in page
    assert "it still knows 5 of 9 general questions that it knew before" in page
    assert "This does not hold the version back." in page
    assert "No longer right: 4" in page
    assert "<del>Reply</del><ins>Answer</ins>" in page
    assert "did not end by itself" in page
    assert "(chrF, 0 to 100)" in page


def test_two_runs_are_chosen_from_the_list_and_compared(place: School, lead: FlaskClient):
    room = Classroom(place.engine, place.settings, place.project, place.snapshot)
    assert "Two runs side by side" not in lead.get("/p/ferry/teach").text
    assert "There are not two finished runs yet." in lead.get("/p/ferry/runs/compare").text
    room.teach()
    room.teach("poor")

    teach, card = lead.get("/p/ferry/teach").text, lead.get("/p/ferry/runs/2").text
    page = lead.get("/p/ferry/runs/compare?one=1&other=2").text

    assert 'action="/p/ferry/runs/compare"' in teach
    assert "/p/ferry/runs/compare?one=1&amp;other=2" in card
    assert "they are alike" in page
    assert "Version 1" in page and "Version 2" in page
    assert "data-other=" in page
    assert "✓ right" in page and "✗ wrong" in page
    assert lead.get("/p/ferry/runs/compare?one=1&other=99").status_code == 404
    assert lead.get("/p/ferry/runs/compare?one=x").status_code == 200


def test_a_failure_says_what_is_safe_and_what_to_do(place: School, lead: FlaskClient):
    run = add_run(place, state="failed", failure="disk", message="The disk is full.")
    RunDir(Path(run.folder)).log_file.write_text("step 1\nOSError: <no> space\n", encoding="utf-8")

    page = lead.get(f"/p/ferry/runs/{run.id}").text
    log = lead.get(f"/p/ferry/runs/{run.id}/log")

    assert "The disk is full." in page
    assert "Your reviews, the dataset v1 and the model in service are as they were." in page
    assert "Make room on the disk" in page
    assert "OSError: &lt;no&gt; space" in page
    assert log.text == "step 1\nOSError: <no> space\n"
    assert log.headers["Content-Disposition"] == f'attachment; filename="run-{run.id}.log"'
    assert log.mimetype == "text/plain"


def test_a_reviewer_looks_and_does_not_teach(place: School, sign_in: Callable[[User], FlaskClient]):
    run = add_run(place, state="running", finished_at=None)
    reviewer = sign_in(place.person())

    assert "A lead of this project can start teaching." not in reviewer.get(f"/p/ferry/runs/{run.id}").text
    assert reviewer.post("/p/ferry/runs", data={}).status_code == 403
    assert reviewer.post(f"/p/ferry/runs/{run.id}/cancel").status_code == 403


def test_another_projects_run_is_not_there(lead: FlaskClient):
    for path in ("", "/status", "/log"):
        assert lead.get(f"/p/ferry/runs/999{path}").status_code == 404


def test_pages_are_in_the_readers_language(place: School, lead: FlaskClient):
    run = add_run(place, state="failed", message="100 % of the disk is full.")
    lead.set_cookie("language", "zh_Hans")

    for path in ("teach", "models", f"runs/{run.id}"):
        assert lead.get(f"/p/ferry/{path}").status_code == 200


def test_a_run_shows_its_plan_and_how_to_repeat_it(place: School, lead: FlaskClient):
    run = add_run(place, state="running", stage="train", finished_at=None, spec={"seed": 5})
    write_model(
        RunDir(Path(run.folder)).plan_file,
        Plan(
            examples={"train": 3, "val": 0, "test": 0}, too_long=["7", "ab12"], answer_tokens=9, total_tokens=90,
            longest=40, histogram=[(20, 1), (40, 2)], steps=9, estimated_seconds=60, tokens_per_second=250,
            memory=3 << 30, free_memory=8 << 30, end_of_turn="</s>",
            example=[
                TokenSpan(text="Dogs <b>?", trained=False), TokenSpan(text="Fr", trained=True),
                TokenSpan(text="ee</s>", trained=True),
            ],
        ),
    )  # fmt: skip

    page = lead.get(f"/p/ferry/runs/{run.id}").text

    assert page.count("<rect") >= 2
    assert "Dogs &lt;b&gt;?<mark>Free&lt;/s&gt;</mark>" in page
    assert '<a href="/p/ferry/records/7">7</a>, ab12' in page
    assert "250 tokens a second" in page
    assert f"python -m trainer all {run.folder}" in page
    assert "--seed 5" in page
