"""Saved views over HTTP, and the desk that goes on where one was."""

from __future__ import annotations

import pytest

from tests.factories import make_record, reload


@pytest.fixture
def client(sign_in, make_user):
    return sign_in(make_user("noor"))


def test_a_view_without_a_name_or_of_everybody_is_refused(client, session, project):
    assert client.post("/p/ferry/views/", data={"name": " "}).status_code == 422
    assert client.post("/p/ferry/views/", data={}).status_code == 422
    assert client.post("/p/ferry/views/", data={"name": "x" * 61}).status_code == 422
    assert client.post("/p/ferry/views/", data={"name": "x", "shared": "1"}).status_code == 403
    assert client.post("/p/ferry/views/999/delete").status_code == 404
    assert client.post(f"/p/ferry/views/{2**70}/delete").status_code == 404


def test_a_view_is_kept_shown_opened_and_forgotten(client, session, project):
    make_record(session, project, language="zh", question="问题？")

    kept = client.post("/p/ferry/views/?language=zh&signal=up", data={"name": "<b>中文</b>"}, follow_redirects=True)

    assert "<b>中文" not in kept.text and "&lt;b&gt;中文&lt;/b&gt;" in kept.text
    page = client.get("/p/ferry/records").text
    assert 'href="/p/ferry/records?signal=up&amp;language=zh">&lt;b&gt;' in page
    number = kept.text.split("/p/ferry/views/")[1].split("/")[0]
    client.post(f"/p/ferry/views/{number}/delete")
    assert "中文&lt;/b&gt;</a>" not in client.get("/p/ferry/records").text


def test_the_desk_goes_on_with_the_choice_one_had_last(client, session, project, make_user):
    make_record(session, project, language="en", question="English?")
    chinese = make_record(session, project, language="zh", question="问题？")

    first, again = client.get("/p/ferry/review?language=zh").text, client.get("/p/ferry/review").text
    everything = client.get("/p/ferry/review?order=doubt").text

    for page in (first, again):
        assert "问题？" in page and "Chinese" in page and f"/p/ferry/records/{chinese.id}/reviews?language=zh" in page
    assert "English?" in everything and "English?" in client.get("/p/ferry/review").text
    reload(session, chinese)
