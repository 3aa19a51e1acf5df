"""Drafts outlive everything but their decision; keys are one sign each."""

from __future__ import annotations

import re

import pytest

from curator.errors import Invalid
from curator.services import keys
from db.models import Draft, User
from tests.factories import make_record, reload


def test_what_is_typed_is_there_after_a_restart_until_it_is_saved(session, project, make_user, sign_in):
    record = make_record(session, project, answer="Old.", turns=[{"role": "assistant", "content": "Hm?"}])
    client = sign_in(make_user())
    typed = {
        "version": 1,
        "answer": "Half a thou",
        "comment": "see fares",
        "rating": 2,
        "turns.0": "Yes?",
        "passages.0": "useful",
    }

    assert client.post(f"/p/ferry/records/{record.id}/draft", data=typed).status_code == 204
    page = client.get("/p/ferry/review").text
    assert re.search(r'name="answer"[^>]*>\nHalf a thou</textarea>', page) and "see fares" in page
    assert re.search(r'name="turns.0"[^>]*>\nYes\?</textarea>', page) and re.search(r'value="2"[^>]* checked', page)

    decided = {"version": 1, "request_id": "request-1", "verdict": "accept", "answer": "A whole one."}
    client.post(f"/p/ferry/records/{record.id}/reviews", data=decided)
    reload(session, record)
    assert session.get(Draft, (1, record.id)) is None and record.edited
    session.commit()


def test_a_draft_that_changes_no_text_does_not_open_the_editor(session, project, make_user, sign_in):
    record = make_record(session, project, answer="Old.", turns=[{"role": "assistant", "content": "Hm?\r\nYes."}])
    client = sign_in(make_user())
    typed = {"version": 1, "question": record.question, "answer": "Old.", "turns.0": "Hm?\nYes.", "comment": "Why?"}

    client.post(f"/p/ferry/records/{record.id}/draft", data=typed)

    page = client.get("/p/ferry/review").text
    assert "Why?" in page and '<details class="edit">' in page and '<details class="turns">' in page


def test_a_draft_is_its_writers_own(session, project, make_user, sign_in):
    record = make_record(session, project)
    sign_in(make_user()).post(f"/p/ferry/records/{record.id}/draft", data={"version": 1, "answer": "Secret thought"})

    assert "Secret thought" not in sign_in(make_user("li")).get(f"/p/ferry/records/{record.id}").text


def test_masking_answers_the_typed_texts(session, project, make_user, sign_in):
    record = make_record(session, project)
    typed = {"question": "Am I ann@example.com?", "answer": "Yes.", "turns.2": "Card 4111 1111 1111 1111"}

    answer = sign_in(make_user()).post(f"/p/ferry/records/{record.id}/mask", data=typed)

    assert answer.json == {"question": "Am I [e-mail]?", "answer": "Yes.", "turns.2": "Card [card]"}


@pytest.mark.parametrize("key", ["5", "ab", "<", '"', "é", "\u202e", "ctrl+a"])
def test_a_key_is_one_plain_sign(key):
    with pytest.raises(Invalid):
        keys.remap(User(login="a", name="A"), {"accept": key}, single_keys=True)


def test_a_key_does_one_thing():
    with pytest.raises(Invalid, match=r"%\(key\)s is used twice|used twice"):
        keys.remap(User(login="a", name="A"), {"accept": "r"}, single_keys=True)


def test_keys_change_on_the_page_and_can_be_switched_off(session, project, make_user, sign_in):
    make_record(session, project)
    client = sign_in(make_user())

    client.post("/account/keys", data={"keys.accept": "y", "keys.nonsense": "z"})
    page = client.get("/p/ferry/review").text

    assert 'data-key="y ctrl+enter"' in page and ">Y</kbd>" in page and 'data-single-keys="off"' in page
    assert client.post("/account/keys", data={"keys.accept": '"><script>'}).status_code == 422


def test_a_draft_outlives_somebody_elses_decision_and_saving_it_shows_both(session, project, make_user, sign_in):
    record = make_record(session, project, answer="Old.")
    mine, theirs = sign_in(make_user()), sign_in(make_user("li"))
    mine.post(f"/p/ferry/records/{record.id}/draft", data={"version": 1, "answer": "Mine."})
    decided = {"version": 1, "request_id": "request-1", "verdict": "accept", "answer": "Theirs."}
    theirs.post(f"/p/ferry/records/{record.id}/reviews", data=decided)

    page = mine.get(f"/p/ferry/records/{record.id}").text
    saved = mine.post(
        f"/p/ferry/records/{record.id}/reviews",
        data={"version": 1, "request_id": "request-2", "verdict": "accept", "answer": "Mine."},
    )

    assert re.search(r'name="answer"[^>]*>\nMine\.</textarea>', page) and 'name="version" value="1"' in page
    assert saved.status_code == 409 and ">\nMine.</textarea>" in saved.text and "Theirs" in saved.text
