"""The list of records, and one with its history."""

from __future__ import annotations

import re
from collections.abc import Callable

import pytest
from flask.testing import FlaskClient

from curator.services import calibration, prepare, reviews, search
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


def test_what_makes_no_sense_in_the_address_is_named_and_the_rest_counts(client, session, project):
    make_record(session, project, language="zh", question="问题？")
    make_record(session, project, language="en", question="English?")

    page = client.get("/p/ferry/records?language=zh&order=password_hash&source=9e9&longest=-1&since=2026-02-30")

    assert page.status_code == 200 and "问题？" in page.text and "English?" not in page.text
    assert "left out: log, from, longest, order" in page.text


@pytest.mark.parametrize(
    "query", [f"q={'x' * 10_000}", "q=%00", "q=%22%22%22*", "source=" + "9" * 5_000, "twins=<b>", "q=<b>"]
)
def test_whatever_an_address_says_the_list_answers_and_says_no_html(client, session, project, query):
    make_record(session, project, question="<b>x</b>")

    page = client.get(f"/p/ferry/records?{query}")

    assert page.status_code == 200 and "<b>" not in page.text.split("<main")[1].replace("<b>{", "")


def test_each_filter_is_a_chip_that_removes_it(client, session, project, make_user):
    record = make_record(session, project, language="zh", thumbs=-1, refusal=True, cluster_id=None)
    query = "language=zh&signal=down&signal=refusal&state=new&order=newest"

    page = client.get(f"/p/ferry/records?{query}").text
    chips = page.split('aria-label="Filters in use"')[1].split("</ul>")[0]

    assert f"/records/{record.id}" in page and "1 record<" in page
    for words, rest in (
        ("Thumbs down", "state=new&amp;signal=refusal&amp;language=zh&amp;order=newest"),
        ("Chinese", "state=new&amp;signal=down&amp;signal=refusal&amp;order=newest"),
    ):
        assert words in chips and f'href="/p/ferry/records?{rest}"' in chips


def test_reviewers_go_from_the_list_to_the_desk_or_decide_together_and_viewers_do_not(
    client, session, project, make_user, sign_in
):
    make_record(session, project, language="zh")
    reviewer = sign_in(make_user("noor"))
    page = reviewer.get("/p/ferry/records?language=zh&state=new").text

    assert 'href="/p/ferry/review?language=zh"' in page
    assert 'href="/p/ferry/batches/new?state=new&amp;language=zh"' in page and "/records/assign" not in page
    assert 'href="/p/ferry/review?order=doubt"' in reviewer.get("/p/ferry/records").text
    assert "batches/new" not in reviewer.get("/p/ferry/records?state=accepted").text
    assert "Review these" not in client.get("/p/ferry/records").text


def test_a_search_says_where_it_found_what_the_list_does_not_show(client, session, project):
    found = make_record(
        session, project, question="Dogs?", passages=[("rules.pdf", "A dog needs a <muzzle> on board.", 0.9)]
    )
    shown = make_record(session, project, question="Which muzzle?")
    search.put(session, [found, shown, make_record(session, project)])
    session.commit()

    page = client.get("/p/ferry/records?q=muzzle").text

    assert "2 records" in page and "Which <mark>muzzle</mark>?" in page
    assert "in a passage:" in page and "needs a &lt;<mark>muzzle</mark>&gt; on board" in page


def test_a_search_goes_on_behind_the_last_record(client, session, project):
    made = [make_record(session, project, question=f"Ferry {number}?") for number in range(53)]
    search.put(session, made)
    session.commit()

    first = client.get("/p/ferry/records?q=ferry").text
    second = client.get(re.search(r'href="([^"]*after=[^"]*)"', first).group(1).replace("&amp;", "&")).text

    assert "<mark>Ferry</mark> 52?" in first and "<mark>Ferry</mark> 2?" not in first
    assert "<mark>Ferry</mark> 2?" in second and "<mark>Ferry</mark> 0?" in second and "More records" not in second


def test_what_a_reviewer_is_yet_to_be_measured_by_is_in_no_list_of_theirs(session, project, make_user, sign_in, engine):
    noor, lea = make_user("noor"), make_user("lea", "lead")
    record = make_record(session, project, question="Are dogs free?", answer="No.")
    twin = make_record(session, project, question="Are dogs free", cluster_id=record.id)
    record.cluster_id = record.id
    word = {"version": 1, "verdict": "accept", "question": None, "answer": "Yes, on a lead."}
    reviews.add(session, record, lea, ReviewForm(**word, request_id="leas-word"))
    calibration.mark(session, record, lea, gold=True)
    session.commit()
    prepare.run(engine, project.id or 0)
    reviewer, lead = sign_in(noor), sign_in(lea)
    row, group = f'href="/p/ferry/records/{record.id}"', f"/p/ferry/twins/{record.id}"
    lists = ["", "?state=accepted", "?edited=1", "?gold=1", f"?reviewer={lea.id}", "?q=lead"]
    for address in lists:
        assert row not in reviewer.get(f"/p/ferry/records{address}").text, address
        assert row in lead.get(f"/p/ferry/records{address}").text, address
    assert "1 record<" in reviewer.get("/p/ferry/records").text
    assert "Accepted</span>" not in reviewer.get(group).text and "Accepted</span>" in lead.get(group).text

    reviewer.post(f"/p/ferry/records/{record.id}/reviews", data={**word, "version": 2, "request_id": "noors-word"})

    assert all(row in reviewer.get(f"/p/ferry/records{address}").text for address in lists)
    reload(session, record, twin)
    assert (record.state, record.cluster_id) == ("accepted", record.id)


def test_a_search_goes_to_the_desk_which_says_what_it_hands_out(sign_in, make_user, session, project, engine):
    make_record(session, project, question="Are dogs muzzled?")
    make_record(session, project, question="Is there food?", rank=-1)
    prepare.run(engine, project.id or 0)
    client = sign_in(make_user())
    page = client.get("/p/ferry/records?state=new&q=muzzled&order=weak").text
    assert 'href="/p/ferry/review?q=muzzled&amp;order=newest">Review these' in page

    desk = client.get("/p/ferry/review?q=muzzled&order=weak&state=new").text

    assert "Are dogs muzzled?" in desk and "Is there food?" not in desk and "1 left in this queue" in desk
    assert "“muzzled” · newest first ·" in desk and "To review ·" not in desk
