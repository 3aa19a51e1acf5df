"""Many records at once over HTTP: seen first, decided as seen, taken back as one; and asked of somebody."""

from __future__ import annotations

import re
from collections.abc import Callable

import pytest
from flask.testing import FlaskClient

from db.models import User
from tests.factories import make_record, reload


@pytest.fixture
def client(sign_in: Callable[[User], FlaskClient], make_user: Callable[..., User]) -> FlaskClient:
    return sign_in(make_user("noor"))


def hidden(page: str) -> dict[str, str]:
    return dict(re.findall(r'name="(records|request_id)" value="([^"]*)"', page))


@pytest.mark.parametrize(
    "data",
    [
        {}, {"records": ""}, {"records": "1,x"}, {"records": "1;DROP"}, {"records": "-1"}, {"records": "9" * 30},
        {"records": ",".join(["1"] * 1001)}, {"verdict": "skip"}, {"verdict": "unsure"}, {"request_id": "x"},
        {"request_id": "x" * 65},
    ],
)  # fmt: skip
def test_nonsense_decides_nothing(client, session, project, data):
    record = make_record(session, project)
    given = {"records": str(record.id), "verdict": "accept", "request_id": "batch-request-1"}

    answer = client.post("/p/ferry/batches", data=data and {**given, **data})

    assert answer.status_code == 422
    reload(session, record)
    assert record.state == "new"


@pytest.mark.parametrize("address", [
    "batches/new?source=9e9&order=password_hash", f"batches/new?q={'x' * 5000}",
    "batches/new?twins=99999999999999999999",
])  # fmt: skip
def test_a_meaningless_choice_is_no_crash(client, session, project, address):
    make_record(session, project)

    assert client.get(f"/p/ferry/{address}").status_code == 200


@pytest.mark.parametrize("address", ["twins/5", f"twins/{2**70}", "batches/nobody-made-this"])
def test_what_is_not_there_is_a_404(client, project, address):
    assert client.get(f"/p/ferry/{address}").status_code == 404


def test_only_what_waits_can_be_decided_together(client, session, project):
    make_record(session, project, state="accepted")

    assert client.get("/p/ferry/batches/new?state=accepted").status_code == 422
    assert "Nothing here waits for your decision." in client.get("/p/ferry/batches/new?state=new").text


def test_a_filter_is_seen_decided_as_seen_and_taken_back_with_one_undo(client, session, project):
    chinese = [make_record(session, project, language="zh", question=f"问题{n}？") for n in range(22)]
    english = make_record(session, project, language="en")

    page = client.get("/p/ferry/batches/new?language=zh").text
    late = make_record(session, project, language="zh")
    answer = client.post("/p/ferry/batches", data={**hidden(page), "verdict": "accept"}, follow_redirects=True)

    assert "Chinese" in page and "22 records wait here" in page and "问题19？" in page and "问题20？" not in page
    assert "22 accepted" in answer.text and "One undo takes all of it back." in answer.text
    reload(session, *chinese, english, late)
    assert {record.state for record in chinese} == {"accepted"} and {english.state, late.state} == {"new"}

    undone = client.post(f"/p/ferry/batches/{hidden(page)['request_id']}/undo", follow_redirects=True)

    assert "22 decisions were taken back." in undone.text
    reload(session, *chinese)
    assert {(record.state, record.claimed_by) for record in chinese} == {("new", None)}


def test_undo_of_a_batch_does_not_take_back_what_came_after_it(client, session, project):
    first, second = make_record(session, project), make_record(session, project)
    for number, record in enumerate((first, second)):
        data = {"records": str(record.id), "verdict": "accept", "request_id": f"batch-request-{number}"}
        client.post("/p/ferry/batches", data=data)

    assert client.post("/p/ferry/batches/batch-request-0/undo").status_code == 409
    earlier = client.get("/p/ferry/batches/batch-request-0").text
    assert "Undo" not in earlier and "You have decided other records since." in earlier
    assert client.post("/p/ferry/batches/batch-request-1/undo").status_code == 303
    assert client.post("/p/ferry/batches/batch-request-1/undo").status_code == 409
    assert "These records wait for a decision again." in client.get("/p/ferry/batches/batch-request-1").text
    reload(session, first, second)
    assert (first.state, second.state) == ("accepted", "new")


def test_a_rejection_of_many_needs_a_reason(client, session, project):
    record = make_record(session, project)
    data = {"records": str(record.id), "verdict": "reject", "request_id": "batch-request-1"}

    assert client.post("/p/ferry/batches", data=data).status_code == 422
    answer = client.post("/p/ferry/batches", data={**data, "reasons": ["stale"]}, follow_redirects=True)
    assert "1 rejected" in answer.text


def test_nothing_left_to_decide_is_said(client, session, project):
    record = make_record(session, project, state="accepted")
    data = {"records": str(record.id), "verdict": "accept", "request_id": "batch-request-1"}

    assert "Nothing was decided" in client.post("/p/ferry/batches", data=data, follow_redirects=True).text


def test_a_group_shows_its_representative_and_what_differs(client, session, project):
    first = make_record(session, project, question="Is it free?", answer="Yes, under 5.")
    twin = make_record(session, project, question="Is it free?", answer="Yes, under <b>7</b>.", cluster_id=first.id)
    first.cluster_id = first.id
    session.add(first)
    session.commit()

    page = client.get(f"/p/ferry/twins/{first.id}").text

    assert "stands for the others" in page and "<ins>" in page and "&lt;b&gt;" in page and "<b>7</b>" not in page
    client.post("/p/ferry/batches", data={**hidden(page), "verdict": "accept"})
    reload(session, first, twin)
    assert (first.state, twin.state) == ("accepted", "accepted")


def test_a_viewer_sees_a_group_but_decides_nothing_and_only_a_lead_assigns(
    session, project, make_user, sign_in, client
):
    record = make_record(session, project)
    record.cluster_id = record.id
    session.add(record)
    session.commit()
    viewer = sign_in(make_user("vera", "viewer"))
    data = {"records": str(record.id), "verdict": "accept", "request_id": "batch-request-1"}

    assert "<button class=" not in viewer.get(f"/p/ferry/twins/{record.id}").text.split("<main")[1]
    assert viewer.get("/p/ferry/batches/new").status_code == 403
    assert viewer.post("/p/ferry/batches", data=data).status_code == 403
    assert client.post("/p/ferry/records/assign", data={"person": "1"}).status_code == 403


def test_a_lead_asks_somebody_and_frees_again(session, project, make_user, sign_in):
    lead, noor = make_user("lead", "lead"), make_user("noor")
    record, other = make_record(session, project, language="zh"), make_record(session, project)
    client = sign_in(lead)
    client.get("/p/ferry/records?language=zh")

    def post(person: object) -> str:
        return client.post(
            "/p/ferry/records/assign?language=zh", data={"person": person},
            headers={"Referer": "http://localhost/p/ferry/records?language=zh"}, follow_redirects=True,
        ).text  # fmt: skip

    assert "Noor is asked for 1 record." in post(noor.id) and "asked of Noor" in client.get("/p/ferry/records").text
    reload(session, record, other)
    assert (record.assigned_to, other.assigned_to) == (noor.id, None)
    assert "1 record is free for everybody." in post("")
    for person in ("x", "999999999999999999999999", "-1", str(2**31 - 1)):
        assert "Please" in post(person)
