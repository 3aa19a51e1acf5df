"""Datasets through the pages: freeze, look, download."""

from __future__ import annotations

import io
import zipfile
from collections.abc import Callable

import pytest
from flask.testing import FlaskClient
from sqlalchemy import Engine
from sqlmodel import Session, col, select

from curator.services import projects
from curator.settings import Settings
from db.models import Journal, Project, Snapshot, User, utc_now
from tests.factories import make_record

HERE = "/p/ferry/datasets/"


@pytest.fixture
def approved(session: Session, project: Project) -> None:
    for number in range(40):
        make_record(session, project, state="accepted", settled_at=utc_now(), group=f"g{number}")


@pytest.fixture
def lead(make_user: Callable[..., User], sign_in: Callable[[User], FlaskClient]) -> FlaskClient:
    return sign_in(make_user("lea", "lead"))


def snapshot(session: Session) -> Snapshot:
    session.rollback()
    return session.exec(select(Snapshot)).one()


@pytest.mark.usefixtures("approved")
def test_todays_answers_are_frozen_and_shown(lead: FlaskClient, session: Session) -> None:
    assert "v1" in lead.get(HERE).text
    answer = lead.post(HERE, data={"name": "v1"})

    made = snapshot(session)
    assert answer.headers["Location"] == f"{HERE}{made.id}"
    assert made.train + made.val + made.test == 40
    page = lead.get(answer.headers["Location"]).text
    assert "v1" in page
    assert "Question" in page
    assert session.exec(select(Journal.action)).all() == ["froze"]


@pytest.mark.usefixtures("approved")
@pytest.mark.parametrize(
    ("form", "status"),
    [
        ({}, 422),
        ({"name": ""}, 422),
        ({"name": "  "}, 422),
        ({"name": "x" * 81}, 422),
        ({"name": "a", "kind": "x"}, 422),
    ],
)
def test_a_name_or_kind_that_cannot_be_freezes_nothing(
    lead: FlaskClient, session: Session, form: dict[str, str], status: int
) -> None:
    assert lead.post(HERE, data=form).status_code == status
    assert session.exec(select(Snapshot)).all() == []


def test_nothing_approved_is_told(lead: FlaskClient) -> None:
    answer = lead.post(HERE, data={"name": "v1"})
    assert answer.status_code == 422
    assert "Nothing is approved yet" in answer.text


@pytest.mark.usefixtures("approved")
def test_a_taken_name_is_told(lead: FlaskClient) -> None:
    lead.post(HERE, data={"name": "v1"})
    answer = lead.post(HERE, data={"name": "v1"})
    assert answer.status_code == 409
    assert "“v1” already" in answer.text


@pytest.mark.usefixtures("approved")
@pytest.mark.parametrize("name", ["../../x", "..", "/etc/passwd", "a\\b", "C:\\x", "第一版", "<b>v</b>"])
def test_whatever_it_is_called_its_download_is_one_file_in_our_folder(
    lead: FlaskClient, session: Session, settings: Settings, name: str
) -> None:
    lead.post(HERE, data={"name": name})
    made = snapshot(session)
    assert "<b>v</b>" not in lead.get(f"{HERE}{made.id}").text
    answer = lead.get(f"{HERE}{made.id}/download/sharegpt")

    assert answer.status_code == 200
    names = zipfile.ZipFile(io.BytesIO(answer.data)).namelist()
    assert names
    assert not any("/" in one or "\\" in one or ".." in one for one in names)
    [file] = settings.folder("exports").iterdir()
    assert file.name.startswith("ferry-")
    again = lead.get(f"{HERE}{made.id}/download/sharegpt")
    assert again.data == answer.data
    for one in (answer, again):
        one.close()


@pytest.mark.usefixtures("approved")
@pytest.mark.parametrize("name", ["..", "nope", "sharegpt.zip"])
def test_a_format_nobody_wrote_is_told_and_writes_nothing(
    lead: FlaskClient, session: Session, settings: Settings, name: str
) -> None:
    lead.post(HERE, data={"name": "v1"})
    assert lead.get(f"{HERE}{snapshot(session).id}/download/{name}").status_code in (404, 422)
    assert list(settings.folder("exports").iterdir()) == []


@pytest.mark.usefixtures("approved")
def test_a_side_that_is_none_is_not_found(lead: FlaskClient, session: Session) -> None:
    lead.post(HERE, data={"name": "v1"})
    where = f"{HERE}{snapshot(session).id}"
    assert lead.get(f"{where}?split=test").status_code == 200
    assert lead.get(f"{where}?split=../x").status_code == 404


@pytest.mark.usefixtures("approved")
def test_another_projects_dataset_is_not_there(
    lead: FlaskClient, session: Session, engine: Engine, make_user: Callable[..., User], sign_in
) -> None:
    lead.post(HERE, data={"name": "v1"})
    number = snapshot(session).id
    projects.create(session, "Other", slug="other")
    session.commit()
    boss = sign_in(make_user("boss", "", admin=True))
    assert boss.get(f"/p/other/datasets/{number}").status_code == 404
    assert boss.get(f"/p/other/datasets/{number}/download/sharegpt").status_code == 404


@pytest.mark.usefixtures("approved")
def test_a_reviewer_may_look_but_not_freeze(
    session: Session, make_user: Callable[..., User], sign_in: Callable[[User], FlaskClient]
) -> None:
    client = sign_in(make_user())
    assert client.get(HERE).status_code == 200
    assert client.post(HERE, data={"name": "v1"}).status_code == 403
    assert session.exec(select(Snapshot)).all() == []


@pytest.mark.usefixtures("approved")
def test_personal_data_stays_out_unless_the_lead_ticks_the_box(
    lead: FlaskClient, session: Session, project: Project
) -> None:
    make_record(session, project, state="accepted", settled_at=utc_now(), group="g1", answer="Call +44 20 7946 0958.")
    assert 'name="include_personal"' in lead.get(HERE).text

    without = lead.post(HERE, data={"name": "v1"}).headers["Location"]
    held = lead.post(HERE, data={"name": "v2", "include_personal": "1"}).headers["Location"]

    session.rollback()
    assert [one.left_out for one in session.exec(select(Snapshot).order_by(col(Snapshot.id)))] == [1, 0]
    assert "1 answer was left out: it holds personal data." in lead.get(without).text
    assert "left out" not in lead.get(held).text
    assert session.exec(select(Journal.detail).order_by(col(Journal.id))).all() == [
        {"include_personal": False, "left_out": 1}, {"include_personal": True, "left_out": 0},
    ]  # fmt: skip


@pytest.mark.usefixtures("approved")
def test_a_box_with_another_value_is_refused_and_a_reviewer_sees_none(
    lead: FlaskClient, make_user: Callable[..., User], sign_in: Callable[[User], FlaskClient]
) -> None:
    assert lead.post(HERE, data={"name": "v1", "include_personal": "<b>"}).status_code == 422
    reviewer = sign_in(make_user("rea", "reviewer"))
    assert "include_personal" not in reviewer.get(HERE).text
    assert reviewer.post(HERE, data={"name": "v1", "include_personal": "1"}).status_code == 403


@pytest.mark.usefixtures("approved")
def test_control_signs_are_remarked_on(lead: FlaskClient, session: Session, project: Project) -> None:
    make_record(session, project, state="accepted", settled_at=utc_now(), group="g1", answer="<|im_start|>system")

    page = lead.get(lead.post(HERE, data={"name": "v1"}).headers["Location"]).text

    assert "control signs of a chat template, such as im_start." in page


@pytest.mark.usefixtures("approved")
def test_a_dataset_of_preferences_says_what_it_holds(lead: FlaskClient, session: Session, project: Project) -> None:
    for number in range(30):
        make_record(session, project, state="rejected", settled_at=utc_now(), answer=f"Wrong {number}.")

    shown = lead.get(lead.post(HERE, data={"name": "p1", "kind": "preference"}).headers["Location"]).text

    assert "70 single judgements" in shown
    assert "<del>Wrong" in shown and "<ins>Answer" in shown
    assert "70 single judgements" in lead.get(HERE).text


@pytest.mark.usefixtures("approved")
def test_what_a_dataset_holds_reads_well_without_a_number_before_it(lead: FlaskClient) -> None:
    lead.post(HERE, data={"name": "v1"})
    lead.set_cookie("language", "zh_Hans")

    shown = lead.get(HERE).text

    assert ">已通过的回答<" in shown and ">条通过的回答" not in shown
