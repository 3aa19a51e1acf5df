"""Disagreements over HTTP: both sides on one page, one key each, and the next one."""

from __future__ import annotations

import re
from itertools import count

import pytest
from flask.testing import FlaskClient
from sqlmodel import Session, select

from curator.services import reviews
from curator.services.reviews import ReviewForm
from db.models import Project, Record, Review
from tests.factories import make_record, reload

HTMX = {"HX-Request": "true"}
PATH = "/p/ferry/adjudication"
_numbers = count(1)


@pytest.fixture
def people(session, project: Project, make_user):
    project.reviews_needed = 2
    session.add(project)
    return make_user("noor"), make_user("lin"), make_user("lea", "lead")


@pytest.fixture
def lead(people, sign_in) -> FlaskClient:
    return sign_in(people[2])


def opine(session, record: Record, person, verdict="accept", **fields) -> Review:
    given = {"version": record.version, "request_id": f"opinion-{next(_numbers)}", "verdict": verdict, **fields}
    review = reviews.add(session, record, person, ReviewForm.model_validate(given))
    session.commit()
    return review


def dispute(session: Session, project: Project, people, **texts) -> tuple[Record, Review, Review]:
    record = make_record(session, project, **{"question": "Is it free?", "answer": "Under 5.", **texts})
    first = opine(session, record, people[0], answer="Under 7.")
    return record, first, opine(session, record, people[1], answer="Under <b>9</b>.", comment="See fares.")


def settle(client: FlaskClient, record: Record, *, htmx: bool = True, **fields):
    data = {"version": record.version, "request_id": f"settle-{next(_numbers)}", **fields}
    return client.post(f"{PATH}/{record.id}", data=data, headers=HTMX if htmx else {})


@pytest.mark.parametrize("role", ["viewer", "reviewer", ""])
def test_only_a_lead_settles(session, project, people, make_user, sign_in, role):
    record, first, _ = dispute(session, project, people)
    client = sign_in(make_user("sam", role))

    assert client.get(PATH).status_code in (403, 404)
    assert settle(client, record, take=first.id).status_code in (403, 404)
    reload(session, record)
    assert record.state == "unsure"


def test_nothing_waits_is_said(lead):
    page = lead.get(PATH)

    assert page.status_code == 200 and "Nothing waits for a lead" in page.text


def test_both_sides_stand_on_one_page(lead, session, project, people):
    record, first, second = dispute(session, project, people)

    page = lead.get(PATH).text

    assert "1 waits for a lead" in page and "Is it free?" in page
    assert "1 · Noor: Accepted" in page and "2 · Lin: Accepted" in page and "See fares." in page
    assert "<del>5</del><ins>7</ins>" in page and "<b>9</b>" not in page  # each against the original
    assert re.search(r"From Noor’s to Lin’s</h2>\s*<p[^>]*>Under <del>7</del><ins>&lt;b&gt;9&lt;/b&gt;</ins>", page)
    assert f'name="take" value="{first.id}" data-key="1"' in page
    assert f'name="take" value="{second.id}" data-key="2"' in page
    assert f'name="version" value="{record.version}"' in page and page.count('id="card"') == 1


def test_one_key_takes_a_side_and_shows_the_next(lead, session, project, people):
    record, _, second = dispute(session, project, people)
    dispute(session, project, people, question="And dogs?")

    answer = settle(lead, record, take=second.id)

    assert answer.status_code == 200 and "And dogs?" in answer.text and "<html" not in answer.text
    assert "1 waits for a lead" in answer.text and "/adjudication/undo" in answer.text
    reload(session, record)
    settled = session.get(Review, record.settled_by)
    assert (record.state, settled.answer, settled.adjudication) == ("accepted", "Under <b>9</b>.", True)


def test_without_javascript_the_next_page_follows(lead, session, project, people):
    record, first, _ = dispute(session, project, people)

    answer = settle(lead, record, htmx=False, take=first.id)

    assert answer.status_code == 303 and answer.headers["Location"] == f"{PATH}?after={record.id}"
    assert "Nothing waits for a lead" in lead.get(answer.headers["Location"]).text


def test_ones_own_text_starts_from_the_side_that_was_chosen(lead, session, project, people):
    record, first, _ = dispute(session, project, people)
    shown = lead.get(f"{PATH}?after={record.id - 1}&own={first.id}").text
    assert '<details id="own" open>' in shown and ">\nUnder 7.</textarea>" in shown

    settle(lead, record, verdict="accept", question="Is it free?", answer="Under 8.")

    reload(session, record)
    assert session.get(Review, record.settled_by).answer == "Under 8."


def test_a_rejection_needs_a_reason_and_keeps_the_page(lead, session, project, people):
    record, *_ = dispute(session, project, people)

    refused = settle(lead, record, verdict="reject", question="Is it free?", answer="Under 9.")
    assert refused.status_code == 422 and refused.headers["HX-Retarget"] == "#problem"

    assert settle(lead, record, verdict="reject", reasons="stale", answer="Under 9.").status_code == 200
    reload(session, record)
    assert (record.state, record.edited) == ("rejected", False)


def test_an_emptied_own_text_is_refused(lead, session, project, people):
    record, *_ = dispute(session, project, people)

    assert settle(lead, record, verdict="accept", answer="").status_code == 422


def test_what_somebody_settled_meanwhile_is_a_conflict_and_a_double_click_is_not(
    lead, session, project, people, make_user
):
    record, first, _ = dispute(session, project, people)
    data = {"version": record.version, "request_id": "the-same-one", "take": first.id}
    answers = [lead.post(f"{PATH}/{record.id}", data=data, headers=HTMX).status_code for _ in range(2)]
    late = settle(lead, record, take=first.id)

    assert answers == [200, 200] and late.status_code == 409 and "does not wait" in late.text
    session.rollback()
    assert len(session.exec(select(Review).where(Review.adjudication)).all()) == 1


def test_undo_brings_the_record_back(lead, session, project, people):
    record, first, _ = dispute(session, project, people)
    dispute(session, project, people, question="And dogs?")
    settle(lead, record, take=first.id)

    answer = lead.post(f"{PATH}/undo", headers=HTMX)

    assert "Is it free?" in answer.text and "2 wait for a lead" in answer.text and "Taken back." in answer.text
    reload(session, record)
    assert record.state == "unsure"


def test_later_goes_on_and_round(lead, session, project, people):
    first, *_ = dispute(session, project, people)
    second, *_ = dispute(session, project, people, question="And dogs?")

    assert "And dogs?" in lead.get(f"{PATH}?after={first.id}").text
    assert "Is it free?" in lead.get(f"{PATH}?after={second.id}").text
    assert lead.get(f"{PATH}?after={'9' * 30}").status_code == 200


def test_an_unsure_opinion_cannot_be_taken_and_keeps_its_number(lead, session, project, people):
    record = make_record(session, project)
    opine(session, record, people[0], "unsure", comment="Which year?")
    mine = opine(session, record, people[1], version=record.version)

    page = lead.get(PATH).text

    assert page.count('name="take"') == 1 and f'name="take" value="{mine.id}" data-key="2"' in page


def test_a_persons_own_keys_work_here(lead, session, project, people):
    dispute(session, project, people)
    usual = lead.get(PATH).text
    assert all(f'data-key="{key}' in usual for key in ("r", "e", "c", "s j", "u ctrl+z", "g", "?"))

    own = {"reject": "x", "edit": "y", "note": ",", "skip": ".", "next": "v", "undo": "z", "help": "!"}
    lead.post("/account/keys", data={f"keys.{action}": key for action, key in own.items()} | {"single_keys": "1"})
    page = lead.get(PATH).text

    assert set(re.findall(r'data-key="([^"]+)"', page)) == {
        "x", "y", ",", ". v", "z ctrl+z", "g", "!", "/", "ctrl+enter", "enter", *"12345678",
    }  # fmt: skip


def test_the_project_page_leads_there(lead, session, project, people):
    assert "wait for a lead" not in lead.get("/p/ferry/").text
    dispute(session, project, people)

    assert 'href="/p/ferry/adjudication">1 waits for a lead' in lead.get("/p/ferry/").text


def test_a_text_from_the_log_is_never_html(lead, session, project, people):
    text = "<script>alert(1)</script>"
    dispute(
        session, project, people, question=text, answer=text, passages=[(text, text, 0.5)],
        turns=[{"role": "user", "content": text}],
    )  # fmt: skip

    assert "<script>alert" not in lead.get(PATH).text
