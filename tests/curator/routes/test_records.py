"""The list of records, and one with its history."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from flask.testing import FlaskClient

from curator.services import reviews
from curator.services.reviews import ReviewForm
from db.models import User
from tests.factories import make_record, reload


@pytest.fixture
def client(sign_in: Callable[[User], FlaskClient], make_user: Callable[..., User]) -> FlaskClient:
    return sign_in(make_user("vera", "viewer"))


def test_an_empty_project_says_what_to_do(sign_in, make_user, project):
    page = sign_in(make_user("lead", "lead")).get("/p/ferry/records")

    assert "There are no records yet" in page.text and "Import a log" in page.text


def test_the_list_counts_the_states_and_filters_by_them(client, session, project):
    make_record(session, project, question="Still new?")
    make_record(session, project, question="Accepted already?", state="accepted", rating=4, edited=True)

    every, accepted = client.get("/p/ferry/records").text, client.get("/p/ferry/records?state=accepted").text

    assert "Still new?" in every and "Accepted already?" in every and "corrected" in every
    assert "Still new?" not in accepted and "Accepted already?" in accepted
    assert 'aria-current="page">Accepted <span class="num">1</span>' in accepted


def test_a_long_list_goes_on_behind_the_last_record(client, session, project):
    for number in range(53):
        make_record(session, project, question=f"Number {number}?")

    first = client.get("/p/ferry/records").text
    second = client.get(f"/p/ferry/records?after={first.split('after=')[1].split(chr(34))[0]}").text

    assert "Number 49?" in first and "Number 50?" not in first
    assert "Number 50?" in second and "Number 52?" in second and "More records" not in second


@pytest.mark.parametrize("query", ["state=nonsense", "after=x", "after=-1", "after=99999999999999999999999"])
def test_a_meaningless_address_is_no_crash(client, session, project, query):
    make_record(session, project)

    assert client.get(f"/p/ferry/records?{query}").status_code == 200


def test_a_record_shows_what_was_decided_and_by_whom(client, session, project, make_user):
    record = make_record(session, project, question="Is it free?", answer="Yes, under 5.")
    form = ReviewForm(
        version=1, request_id="request-a", verdict="accept", rating=4, reasons=["stale"], question=None,
        answer="Yes, under 7.", comment="See fares 2026",
    )  # fmt: skip
    reviews.add(session, record, make_user("noor"), form)
    session.commit()

    page = client.get(f"/p/ferry/records/{record.id}").text

    for wanted in ("Noor", "4 of 5", "Out of date", "<del>5</del>", "<ins>7</ins>", "See fares 2026"):
        assert wanted in page.replace("<del>5.</del>", "<del>5</del>").replace("<ins>7.</ins>", "<ins>7</ins>")
    assert "verdict" not in page  # a viewer decides nothing


def test_a_reviewer_decides_on_the_records_own_page_without_javascript(sign_in, session, project, make_user):
    record = make_record(session, project)
    other = make_record(session, project)
    client = sign_in(make_user("noor"))
    page = client.get(f"/p/ferry/records/{record.id}")
    answer = client.post(
        f"/p/ferry/records/{record.id}/reviews",
        data={
            "version": 1,
            "request_id": "request-b",
            "verdict": "accept",
            "question": record.question,
            "answer": record.answer,
        },
        headers={"Referer": f"http://localhost/p/ferry/records/{record.id}"},
    )

    assert (
        'name="verdict" value="accept"' in page.text
        and 'hx-post="/p/ferry/records' not in page.text.split("<textarea")[0]
    )
    assert answer.status_code == 303 and answer.headers["Location"].endswith(f"/p/ferry/records/{record.id}")
    reload(session, record, other)
    assert (record.state, record.edited, other.claimed_by) == ("accepted", False, None)


@pytest.mark.parametrize("address", ["/p/ferry/records/999", "/p/ferry/records/99999999999999999999999"])
def test_a_record_that_is_not_there_is_a_404(client, project, address):
    assert client.get(address).status_code == 404
