"""The desk over HTTP: with htmx, without JavaScript, and when somebody else was faster."""

from __future__ import annotations

import re
from collections.abc import Callable
from itertools import count

import pytest
from flask import Flask
from flask.testing import FlaskClient
from sqlmodel import Session, select

from db.models import Project, Record, Retraction, Review, User
from tests.factories import make_record, reload

HTMX = {"HX-Request": "true"}
_numbers = count(1)


@pytest.fixture
def user(make_user: Callable[..., User]) -> User:
    return make_user()


@pytest.fixture
def client(sign_in: Callable[[User], FlaskClient], user: User) -> FlaskClient:
    return sign_in(user)


def decide(client: FlaskClient, record: Record, verdict: str = "accept", *, htmx: bool = True, **fields: object):
    data = {"version": record.version, "request_id": f"request-{next(_numbers)}", "verdict": verdict, **fields}
    return client.post(f"/p/ferry/records/{record.id}/reviews", data=data, headers=HTMX if htmx else {})


def reviews_of(session: Session) -> list[Review]:
    session.rollback()
    session.expire_all()
    return list(session.exec(select(Review).order_by(Review.id)))


def test_the_desk_shows_the_question_the_answer_and_what_was_read(client, session, project):
    make_record(
        session, project, question="Is it free?", answer="Yes.", passages=[("fares.pdf", "Free under 7.", 0.83)]
    )

    page = client.get("/p/ferry/review")

    assert page.status_code == 200
    for wanted in ("Is it free?", "Yes.", "fares.pdf", "Free under 7.", "0.83", "1 left in this queue"):
        assert wanted in page.text
    assert page.text.count('id="card"') == 1


def test_opening_the_desk_reserves_the_record(client, session, project, user):
    record = make_record(session, project)

    client.get("/p/ferry/review")

    reload(session, record)
    assert record.claimed_by == user.id


def test_a_decision_answers_the_next_card_and_a_notice_with_undo(client, session, project):
    first, second = make_record(session, project), make_record(session, project)

    answer = decide(client, first, rating=4)

    assert answer.status_code == 200
    assert second.question in answer.text and first.question not in answer.text
    assert answer.text.count('id="card"') == 1 and "<html" not in answer.text
    assert "Accepted" in answer.text and 'hx-post="/p/ferry/reviews/undo"' in answer.text
    assert [(r.record_id, r.verdict, r.rating) for r in reviews_of(session)] == [(first.id, "accept", 4)]


def test_the_last_decision_answers_that_nothing_is_left(client, session, project):
    answer = decide(client, make_record(session, project), "skip")

    assert "Nothing left to review" in answer.text
    assert "You skipped 1 record." in answer.text and "/p/ferry/reviews/unskip" in answer.text


def test_skipped_records_come_back_when_asked_for(client, session, project):
    record = make_record(session, project)
    decide(client, record, "skip")

    answer = client.post("/p/ferry/reviews/unskip", headers=HTMX)

    assert record.question in answer.text and "1 skipped record is back." in answer.text


def test_a_correction_is_saved_as_typed(client, session, project):
    record = make_record(session, project, question="Is it free?", answer="Yes, under 5.")

    answer = decide(client, record, question="Is it free?", answer="Yes, under 7.\r\nWith an adult.")

    assert "Accepted with your edit" in answer.text
    assert [(r.question, r.answer) for r in reviews_of(session)] == [(None, "Yes, under 7.\nWith an adult.")]


def test_an_emptied_answer_is_refused_and_nothing_is_saved(client, session, project):
    answer = decide(client, make_record(session, project), answer="")

    assert answer.status_code == 422 and "cannot be empty" in answer.text
    assert answer.headers["HX-Retarget"] == "#problem"
    assert reviews_of(session) == []


def test_a_rejection_without_a_reason_is_refused(client, session, project):
    answer = decide(client, make_record(session, project), "reject")

    assert answer.status_code == 422 and "at least one reason" in answer.text


def test_undo_brings_the_record_back_with_what_was_typed(client, session, project):
    record = make_record(session, project, answer="Yes, under 5.")
    make_record(session, project)
    decide(client, record, answer="Yes, under 7.", rating=2, comment="See fares 2026")

    answer = client.post("/p/ferry/reviews/undo", headers=HTMX)

    assert answer.status_code == 200 and record.question in answer.text
    assert re.search(r"<textarea[^>]*name=\"answer\"[^>]*>\nYes, under 7\.</textarea>", answer.text)
    assert "See fares 2026" in answer.text and re.search(r'value="2"[^>]* checked', answer.text)
    assert f'name="version" value="{record.version + 2}"' in answer.text
    assert len(session.exec(select(Retraction)).all()) == 1


def test_undo_with_nothing_to_undo_says_so(client, project):
    answer = client.post("/p/ferry/reviews/undo", headers=HTMX)

    assert answer.status_code == 404 and "nothing to take back" in answer.text


def test_a_double_click_is_one_review(client, session, project):
    record = make_record(session, project)
    data = {"version": 1, "request_id": "the-same-one", "verdict": "accept"}

    answers = [client.post(f"/p/ferry/records/{record.id}/reviews", data=data, headers=HTMX) for _ in range(2)]

    assert [answer.status_code for answer in answers] == [200, 200]
    assert len(reviews_of(session)) == 1


def test_a_stale_edit_is_refused_and_keeps_the_experts_text(client, session, project, make_user, sign_in):
    record = make_record(session, project, answer="Yes, under 5.")
    decide(sign_in(make_user("lin")), record, answer="Theirs, under 6.")

    answer = decide(client, record, answer="Mine, <b>under 7</b>.", comment="my note", rating=3)

    assert answer.status_code == 409
    assert answer.text.count('id="card"') == 1 and "HX-Retarget" not in answer.headers
    assert re.search(r"name=\"answer\"[^>]*>\nMine, &lt;b&gt;under 7&lt;/b&gt;\.</textarea>", answer.text)
    assert "my note" in answer.text and 'name="rating" value="3"' in answer.text
    assert "<ins>Theirs</ins>" in answer.text
    assert "Lin" in answer.text and 'name="version" value="2"' in answer.text
    assert len(reviews_of(session)) == 1


def test_the_conflict_form_saves_over_the_newer_version(client, session, project, make_user, sign_in):
    record = make_record(session, project)
    decide(sign_in(make_user("lin")), record)
    refused = decide(client, record, answer="Mine.")
    data = dict(re.findall(r'name="(version|request_id)" value="([^"]*)"', refused.text))

    answer = client.post(
        f"/p/ferry/records/{record.id}/reviews", data={**data, "verdict": "accept", "answer": "Mine."}, headers=HTMX
    )

    assert answer.status_code == 200
    reload(session, record)
    assert (record.state, record.version, record.edited) == ("accepted", 3, True)


def test_without_javascript_a_decision_leads_back_to_the_desk(client, session, project):
    record = make_record(session, project)
    client.get("/p/ferry/review")

    answer = client.post(
        f"/p/ferry/records/{record.id}/reviews",
        data={"version": 1, "request_id": "request-plain", "verdict": "reject", "reasons": ["stale", "too_long"]},
        headers={"Referer": "http://localhost/p/ferry/review"},
    )
    page = client.get(answer.headers["Location"])

    assert answer.status_code == 303 and answer.headers["Location"].endswith("/p/ferry/review")
    assert "Rejected" in page.text and "Nothing left to review" in page.text
    assert [(r.verdict, r.reasons) for r in reviews_of(session)] == [("reject", ["stale", "too_long"])]


def test_without_javascript_a_stale_edit_is_a_whole_page_with_the_text(client, session, project, make_user, sign_in):
    record = make_record(session, project)
    decide(sign_in(make_user("lin")), record)

    answer = decide(client, record, answer="Mine.", htmx=False)

    assert answer.status_code == 409
    assert "<html" in answer.text and ">\nMine.</textarea>" in answer.text


def test_every_form_carries_the_csrf_token(app: Flask, client, session, project):
    app.config["WTF_CSRF_ENABLED"] = True
    record = make_record(session, project)
    page = client.get("/p/ferry/review").text
    token = re.search(r'name="csrf_token" value="([^"]+)"', page).group(1)

    assert decide(client, record).status_code == 400
    assert decide(client, record, csrf_token=token).status_code == 200


@pytest.mark.parametrize("text", ["<script>alert(1)</script>", '"><img src=x onerror=alert(1)>', "{{ 7*7 }}", "<!--"])
def test_a_text_from_the_log_is_never_html(client, session, project, text):
    make_record(
        session, project, question=text, answer=text, reference=text, turns=[{"role": "user", "content": text}],
        signals={"comment": text, "thumbs": -1}, passages=[(text, text, 0.5)],
    )  # fmt: skip
    page = client.get("/p/ferry/review").text

    assert "<script>alert" not in page and "<img src=x" not in page and "49" not in re.findall(r">\s*49\s*<", page)
    assert "<!--" not in page


def test_a_viewer_may_not_decide_and_a_stranger_sees_nothing(session, project, make_user, sign_in):
    record = make_record(session, project)
    viewer, stranger = sign_in(make_user("vera", "viewer")), sign_in(make_user("sam", ""))

    assert decide(viewer, record).status_code == 403
    assert viewer.get("/p/ferry/review").status_code == 403
    assert decide(stranger, record).status_code == 404
    assert reviews_of(session) == []


def test_a_reservation_is_renewed_by_its_holder_only_and_given_back(client, session, project, make_user, sign_in):
    record = make_record(session, project)
    client.get("/p/ferry/review")
    other = sign_in(make_user("lin"))

    assert client.post(f"/p/ferry/records/{record.id}/claim").status_code == 204
    assert other.post(f"/p/ferry/records/{record.id}/claim").status_code == 409
    assert other.post(f"/p/ferry/records/{record.id}/release").status_code == 204
    reload(session, record)
    assert record.claimed_by is not None

    until = record.claimed_until.isoformat()
    client.post(f"/p/ferry/records/{record.id}/release", data={"until": until})
    reload(session, record)
    assert record.claimed_by is None


def test_the_live_difference_marks_what_is_typed(client, session, project):
    record = make_record(session, project, question="Is it free?", answer="Within ten days.")

    answer = client.post(
        f"/p/ferry/records/{record.id}/diff", data={"question": "Is it free?", "answer": "Within <five> days."}
    )

    assert "<del>ten</del><ins>&lt;five&gt;</ins>" in answer.text and "question" not in answer.text.lower()


def test_the_live_difference_of_an_earlier_turn_is_against_what_was_said_then(client, session, project):
    turns = [{"role": "user", "content": "Dogs?"}, {"role": "assistant", "content": "No dogs."}]
    record = make_record(session, project, turns=turns)
    path, typed = f"/p/ferry/records/{record.id}/turns", {"turns.1": "Small <dogs>.", "answer": "Other."}

    answer = client.post(f"{path}/1/diff", data=typed).text

    assert answer.startswith(f'<div id="diff-{record.id}-1"') and "Other" not in answer
    assert "<del>No dogs</del><ins>Small &lt;dogs&gt;</ins>." in answer
    assert client.post(f"{path}/2/diff", data=typed).status_code == 404


def test_two_megabytes_of_text_go_through(client, session, project):
    record = make_record(session, project)
    long = "天" * 666_000

    assert decide(client, record, answer=long).status_code == 200
    assert reviews_of(session)[0].answer == long


def test_the_desk_speaks_of_over_a_thousand_instead_of_counting_on(client, session: Session, project: Project):
    first = make_record(session, project)
    session.add_all(
        Record(project_id=project.id, source_id=first.source_id, digest=f"many-{n}", group=f"g{n}", question="q")
        for n in range(1001)
    )
    session.commit()

    assert "over 1,000 left in this queue" in client.get("/p/ferry/review").text


def test_a_card_leads_to_its_near_duplicates(client, session, project):
    first = make_record(session, project)
    twin = make_record(session, project)
    for record in (first, twin):
        record.cluster_id = first.id
        session.add(record)
    session.commit()

    card = client.get("/p/ferry/review").text

    assert f'href="/p/ferry/twins/{first.id}"' in card and "1 like it" in card
    assert f"/p/ferry/records/{twin.id}" in client.get(f"/p/ferry/twins/{first.id}").text
