"""Blindness, settings, guidelines, gold, overview and the session's summary over HTTP."""

from __future__ import annotations

from itertools import count

import pytest
from sqlmodel import Session, select

from curator.services import calibration, guidelines, reviews
from curator.services.reviews import ReviewForm
from db.models import Journal, Project, Record, Review
from tests.factories import make_record, reload

GOOD = {"name": "Ferry", "guidelines": "", "system_prompt": "", "prompt_style": "question"}
_numbers = count(1)


def opine(session, record: Record, person, verdict="accept", **fields) -> Review:
    given = {"version": record.version, "request_id": f"several-{next(_numbers)}", "verdict": verdict, **fields}
    review = reviews.add(session, record, person, ReviewForm.model_validate({"reasons": ["stale"], **given}))
    session.commit()
    return review


@pytest.fixture
def lead(make_user, sign_in):
    return sign_in(make_user("lea", "lead"))


@pytest.fixture
def blind(session: Session, project: Project) -> Record:
    project.reviews_needed = 2
    session.add(project)
    return make_record(session, project)


def test_a_records_page_shows_no_opinion_before_ones_own(session, project, blind, make_user, sign_in, lead):
    noor, lin = make_user("noor"), make_user("lin")
    path, first, second = f"/p/ferry/records/{blind.id}", sign_in(noor), sign_in(lin)
    opine(session, blind, noor, comment="My secret view.")

    assert "My secret view." in first.get(path).text
    assert "My secret view." not in second.get(path).text and "My secret view." not in lead.get(path).text

    opine(session, blind, lin, "reject")
    assert "My secret view." in second.get(path).text and "My secret view." in lead.get(path).text


def test_a_conflict_on_what_waits_for_a_lead_tells_nobodys_opinion(session, project, blind, make_user, sign_in):
    opine(session, blind, make_user("noor"), "unsure", comment="My secret view.")

    answer = sign_in(make_user("lin")).post(
        f"/p/ferry/records/{blind.id}/reviews",
        data={"version": 1, "request_id": "late-request", "verdict": "accept", "answer": "Mine."},
        headers={"HX-Request": "true"},
    )

    assert answer.status_code == 409 and "It waits for a lead now." in answer.text and "Mine." in answer.text
    assert "My secret view." not in answer.text and "Noor" not in answer.text


# --- settings -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("needed", ["0", "4", "-1", "many"])
def test_reviews_needed_is_one_to_three(lead, session, project, needed):
    assert lead.post("/p/ferry/settings", data={**GOOD, "reviews_needed": needed}).status_code == 422
    reload(session, project)
    assert project.reviews_needed == 1


def test_reviews_needed_and_reasons_are_saved(lead, session, project):
    rows = {
        "reason_key": ["too_long", ""],
        "reason_place": ["2", "1"],
        "reason_en": ["Long", "Rude"],
        "reason_zh": ["", "无礼"],
    }
    lead.post("/p/ferry/settings", data={**GOOD, "reviews_needed": "2", **rows})

    reload(session, project)
    assert project.reviews_needed == 2
    assert [(r["key"], r["en"], r["zh"]) for r in project.reasons] == [
        ("rude", "Rude", "无礼"),
        ("too_long", "Long", "Long"),
    ]
    page = lead.get("/p/ferry/settings").text
    assert 'value="无礼"' in page and '<option value="2" selected>' in page


def test_settings_without_reasons_leave_them(lead, session, project):
    lead.post("/p/ferry/settings", data=GOOD)
    reload(session, project)
    assert len(project.reasons) == 8


def test_all_reasons_can_go(lead, session, project):
    lead.post(
        "/p/ferry/settings", data={**GOOD, "reason_key": "stale", "reason_place": "x", "reason_en": "", "reason_zh": ""}
    )
    reload(session, project)
    assert project.reasons == []


def test_guidelines_have_a_page_of_versions(lead, session, project, make_user, sign_in):
    for text in ("Be kind.", "Be <b>very</b> kind."):
        lead.post("/p/ferry/settings", data={**GOOD, "guidelines": text})
    lead.post("/p/ferry/settings", data={**GOOD, "guidelines": "Be <b>very</b> kind."})

    page = sign_in(make_user("noor")).get("/p/ferry/guidelines?old=1&new=2").text

    session.rollback()
    assert len(guidelines.history(session, project)) == 2
    assert "Version 2" in page and "Lea" in page and "From version 1 to version 2" in page
    assert "<del>kind</del><ins>&lt;b&gt;very&lt;/b&gt; kind</ins>." in page
    assert lead.get("/p/ferry/guidelines?old=x&new=99").status_code == 200


def test_a_project_without_guidelines_says_so(lead):
    assert "no guidelines yet" in lead.get("/p/ferry/guidelines").text


# --- gold ---------------------------------------------------------------------------------------------


def test_a_lead_marks_a_settled_record_and_unmarks_it(lead, session, project, make_user, sign_in):
    record, reviewer = make_record(session, project), make_user("noor")
    path = f"/p/ferry/records/{record.id}/gold"
    assert lead.post(path, data={"gold": "1"}).status_code == 409
    opine(session, record, reviewer)
    assert sign_in(reviewer).post(path, data={"gold": "1"}).status_code == 403
    assert lead.post(path, data={}).status_code == 422

    marked = lead.post(path, data={"gold": "1"})
    reload(session, record)
    assert (marked.headers["Location"], record.gold) == (f"/p/ferry/records/{record.id}", True)

    lead.post(path, data={"gold": "0"})
    reload(session, record)
    assert (record.gold, record.state) == (False, "accepted")
    assert session.exec(select(Journal.action)).all() == ["marked gold", "unmarked gold"]


# --- figures ------------------------------------------------------------------------------------------


def test_the_overview_of_an_empty_project(lead):
    page = lead.get("/p/ferry/overview")

    assert page.status_code == 200
    for wanted in (
        "no base model yet",
        "Nobody has decided anything",
        "Too few records have been judged by two people",
    ):
        assert wanted in page.text


def test_the_overview_tells_who_did_what_and_how_alike(lead, session, project, make_user):
    project.reviews_needed = 2
    session.add(project)
    noor, lin, boss = make_user("noor"), make_user("lin"), make_user("boss", "lead")
    for number in range(24):
        record = make_record(session, project)
        verdict = "accept" if number % 2 else "reject"
        opine(session, record, noor, verdict, seconds=12, rating=3)
        opine(session, record, lin, verdict if number else "accept", seconds=14)
        if record.state == "unsure":
            opine(session, record, boss, "reject")
    make_record(session, project)

    page = lead.get("/p/ferry/overview").text

    for wanted in (
        "Noor",
        "Lin",
        "12 s",
        "decide alike",
        "Krippendorff",
        "24 records",
        "100 %",
        "49 decisions in two weeks",
    ):
        assert wanted in page
    assert page.count("<rect") == 14
    assert "Too few records have been rated" in page


def test_a_reviewer_sees_no_overview(make_user, sign_in):
    assert sign_in(make_user("noor")).get("/p/ferry/overview").status_code == 403


def test_the_summary_of_a_session(session, project, make_user, sign_in):
    noor = make_user("noor")
    client = sign_in(noor)
    assert "not decided anything yet" in client.get("/p/ferry/review/summary").text
    record, other = make_record(session, project, question="Is it <b>free</b>?"), make_record(session, project)
    make_record(session, project)
    opine(session, record, noor, answer="Better.", seconds=18)
    opine(session, other, noor, "reject", seconds=18)

    page = client.get("/p/ferry/review/summary").text

    for wanted in (
        "2 decided",
        "1 edited",
        "18 s each",
        "Your edit will be in run 1.",
        "Is it &lt;b&gt;free&lt;/b&gt;?",
        "Go on",
    ):
        assert wanted in page
    assert f'href="/p/ferry/records/{record.id}"' in page


def test_a_viewer_has_no_session(make_user, sign_in):
    assert sign_in(make_user("vera", "viewer")).get("/p/ferry/review/summary").status_code == 403


def test_a_reviewer_checks_themselves_on_gold_records_blind(session, project, make_user, sign_in):
    lead, noor = make_user("lead", "lead"), sign_in(make_user("noor"))
    records = [make_record(session, project, answer=f"Original {n}.") for n in range(2)]
    for n, record in enumerate(records):
        form = ReviewForm(version=1, request_id=f"settled-{n}", verdict="accept", question=None, answer="Settled text.")
        reviews.add(session, record, lead, form)
        calibration.mark(session, record, lead, gold=True)
    session.commit()

    first = noor.get("/p/ferry/review/measure").text
    own = noor.get(f"/p/ferry/records/{records[0].id}").text
    decided = {"version": records[0].version, "request_id": "judged-0", "verdict": "accept"}
    came_from = {"Referer": "http://localhost/p/ferry/review/measure"}
    answer = noor.post(f"/p/ferry/records/{records[0].id}/reviews", data=decided, headers=came_from)
    second = noor.get(answer.headers["Location"]).text
    decided = {"version": records[1].version, "request_id": "judged-1", "verdict": "accept"}
    noor.post(f"/p/ferry/records/{records[1].id}/reviews", data=decided)
    last = noor.get("/p/ferry/review/measure", follow_redirects=True).text

    for page in (first, own):
        assert "Original 0." in page and "Settled text" not in page and ">Accepted<" not in page
    assert "Original 1." in second and "Original 0." not in second
    assert "judged all of them" in last and "On 2 records that a lead has settled" in last
