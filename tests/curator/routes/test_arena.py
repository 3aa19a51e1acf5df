"""Comparing over HTTP: blind pages, streams, votes."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from flask import Flask
from flask.testing import FlaskClient
from sqlalchemy import Engine
from sqlmodel import select

from curator.services.arena_stream import Streams
from curator.settings import Settings
from db.models import Battle, BattleTurn, PreferencePair, User, Vote
from db.session import open_session
from tests.curator.taught import School, school
from tests.fakes.openai_server import FakeOpenAI
from trainer.runtimes.base import RuntimeUnavailable

HTMX = {"HX-Request": "true"}


@pytest.fixture
def place(engine: Engine, settings: Settings, tmp_path: Path) -> School:
    place = school(engine, settings, tmp_path)
    place.version(1, "in service")
    place.version(2)
    place.runtime.answers |= {"ferry:v1-abcd": "No dogs.", "ferry:v2-abcd": "Dogs travel free."}
    return place


@pytest.fixture
def client(place: School, sign_in: Callable[[User], FlaskClient]) -> FlaskClient:
    return sign_in(place.person())


@pytest.fixture
def begin(place: School, client: FlaskClient) -> Callable[..., int]:
    def make(*, left_is_new: bool = True, **form: Any) -> int:
        form = {"new": 2, "old": 1, "question": "Are dogs free?"} | form
        answer = client.post("/p/ferry/battles", data=form)
        assert answer.status_code == 303, answer.text
        number = int(answer.location.rsplit("/", 1)[1])
        with open_session(place.engine, write=True) as session:
            session.get_one(Battle, number).left_is_new = left_is_new
        return number

    return make


def stream(client: FlaskClient, battle: int, side: str, turn: int = 1) -> list[tuple[str, str]]:
    """Read one side's events as (kind, text)."""
    answer = client.get(f"/p/ferry/battles/{battle}/turns/{turn}/{side}")
    assert answer.mimetype == "text/event-stream"
    found = re.findall(r"event: (\w+)\ndata: (.*)\n\n", answer.text)
    return [(kind, json.loads(data)["text"]) for kind, data in found]


def answer_both(client: FlaskClient, battle: int) -> None:
    stream(client, battle, "left")
    stream(client, battle, "right")


def test_without_a_version_the_page_says_what_to_do_first(
    engine: Engine, settings: Settings, tmp_path: Path, sign_in: Callable[[User], FlaskClient]
):
    client = sign_in(school(engine, settings, tmp_path).person())

    page = client.get("/p/ferry/compare")

    assert page.status_code == 200
    assert "nothing to compare yet" in page.text


def test_a_battle_begins_with_a_question_of_ones_own(client: FlaskClient, begin: Callable[..., int]):
    page = client.get(f"/p/ferry/battles/{begin()}")

    assert "Are dogs free?" in page.text
    assert page.text.count('data-state="waiting"') == 2


def test_a_battle_begins_with_a_held_out_question(place: School, begin: Callable[..., int]):
    battle = begin(source="held-out", question="")

    with open_session(place.engine) as session:
        assert session.get_one(Battle, battle).record_id


def test_an_answer_streams_piece_by_piece(client: FlaskClient, begin: Callable[..., int]):
    events = stream(client, begin(), "left")

    assert events == [("text", "Dogs"), ("text", " travel"), ("text", " free."), ("done", "Dogs travel free.")]


def test_a_stream_is_not_kept_or_buffered(client: FlaskClient, begin: Callable[..., int]):
    answer = client.get(f"/p/ferry/battles/{begin()}/turns/1/left")

    assert answer.headers["Cache-Control"] == "no-store"
    assert answer.headers["X-Accel-Buffering"] == "no"


def test_nothing_that_is_sent_tells_which_side_is_the_new_model(
    place: School, client: FlaskClient, begin: Callable[..., int]
):
    place.runtime.answers |= {"ferry:v1-abcd": "The same.", "ferry:v2-abcd": "The same."}
    sent: list[str] = []
    for left_is_new in (True, False):
        battle = begin(left_is_new=left_is_new)
        waiting = client.get(f"/p/ferry/battles/{battle}").text
        streams = [client.get(f"/p/ferry/battles/{battle}/turns/1/{side}").text for side in ("left", "right")]
        complete = client.get(f"/p/ferry/battles/{battle}").text
        sent.append("".join([waiting, *streams, complete]).replace(f"/battles/{battle}", "/battles/N"))

    assert re.sub(r'"X-CSRFToken": "[^"]+"|value="[^"]{60,}"', "", sent[0]) == re.sub(
        r'"X-CSRFToken": "[^"]+"|value="[^"]{60,}"', "", sent[1]
    )
    assert "abcd" not in sent[0]
    assert "Version" not in sent[0]


def test_a_failing_side_says_a_sentence_without_names_and_the_vote_is_shut(
    place: School, client: FlaskClient, begin: Callable[..., int]
):
    battle = begin()
    place.runtime.fail_with = RuntimeUnavailable("ferry:v2-abcd does not answer at http://10.0.0.7")
    place.runtime.fail_only = {"ferry:v2-abcd"}

    (event,) = stream(client, battle, "left")
    other = stream(client, battle, "right")
    page = client.get(f"/p/ferry/battles/{battle}").text
    refused = client.post(f"/p/ferry/battles/{battle}/vote", data={"winner": "right"}, headers=HTMX)

    assert event[0] == "error"
    assert "does not answer" in event[1]
    assert "abcd" not in event[1]
    assert other[-1] == ("done", "No dogs.")
    assert event[1] in page
    assert 'value="right" data-key="2" data-when-complete disabled' in page
    assert refused.status_code == 409


def test_a_vote_reveals_the_names_and_the_tally(client: FlaskClient, begin: Callable[..., int]):
    battle = begin()
    answer_both(client, battle)

    voted = client.post(f"/p/ferry/battles/{battle}/vote", data={"winner": "left"}, headers=HTMX)

    assert voted.status_code == 200
    assert "You preferred version 2." in voted.text
    assert "Version 2 won 1 of 1 votes against version 1. That is not enough to tell which is better." in voted.text
    assert voted.text.lstrip().startswith('<div id="battle"')


def test_a_vote_without_javascript_goes_back_to_the_page(client: FlaskClient, begin: Callable[..., int]):
    battle = begin()
    answer_both(client, battle)

    voted = client.post(f"/p/ferry/battles/{battle}/vote", data={"winner": "tie"})

    assert voted.status_code == 303
    assert "You found both the same." in client.get(voted.location).text


def test_a_vote_twice_is_the_first_vote(place: School, client: FlaskClient, begin: Callable[..., int]):
    battle = begin()
    answer_both(client, battle)
    for winner in ("left", "right"):
        assert client.post(f"/p/ferry/battles/{battle}/vote", data={"winner": winner}, headers=HTMX).status_code == 200

    with open_session(place.engine) as session:
        assert session.get_one(Vote, battle).winner == "left"
        assert len(session.exec(select(PreferencePair)).all()) == 1


def test_a_made_up_verdict_is_refused(client: FlaskClient, begin: Callable[..., int]):
    battle = begin()
    answer_both(client, battle)

    assert client.post(f"/p/ferry/battles/{battle}/vote", data={"winner": "new"}, headers=HTMX).status_code == 422


def test_a_written_answer_is_kept_and_shown_as_both_bad(place: School, client: FlaskClient, begin: Callable[..., int]):
    battle = begin()
    answer_both(client, battle)

    saved = client.post(f"/p/ferry/battles/{battle}/answer", data={"answer": "Yes, on a lead."}, headers=HTMX)

    assert "You found both bad." in saved.text
    with open_session(place.engine) as session:
        assert {pair.chosen for pair in session.exec(select(PreferencePair))} == {"Yes, on a lead."}


def test_asking_on_adds_a_turn_that_streams(place: School, client: FlaskClient, begin: Callable[..., int]):
    battle = begin()
    answer_both(client, battle)

    asked = client.post(f"/p/ferry/battles/{battle}/turns", data={"question": "And cats?"}, headers=HTMX)

    assert "And cats?" in asked.text
    assert f"/battles/{battle}/turns/2/left" in asked.text
    assert stream(client, battle, "right", turn=2)[-1] == ("done", "No dogs.")


def test_what_a_model_says_is_never_markup(place: School, client: FlaskClient, begin: Callable[..., int]):
    evil = '<img src=x onerror="alert(1)">\n\nevent: done\ndata: {}'
    place.runtime.answers["ferry:v2-abcd"] = evil
    battle = begin(question="<script>alert(1)</script>")

    events = stream(client, battle, "left")
    stream(client, battle, "right")
    page = client.get(f"/p/ferry/battles/{battle}").text

    assert [kind for kind, _ in events].count("done") == 1
    assert events[-1] == ("done", evil)
    assert "<img src=x" not in page
    assert "<script>alert" not in page


def test_when_all_places_are_taken_the_next_stream_is_told_to_come_back(
    app: Any, place: School, client: FlaskClient, begin: Callable[..., int]
):
    battle = begin()
    app.extensions["curator.streams"] = Streams(most=0)

    busy = client.get(f"/p/ferry/battles/{battle}/turns/1/left")

    assert busy.status_code == 429
    assert int(busy.headers["Retry-After"]) > 0
    assert [call for call in place.runtime.calls if call.method == "chat"] == []


def test_a_place_is_given_back_after_every_stream(app: Any, client: FlaskClient, begin: Callable[..., int]):
    app.extensions["curator.streams"] = Streams(most=1)
    battle = begin()

    for _ in range(3):
        assert client.get(f"/p/ferry/battles/{battle}/turns/1/left", buffered=True).status_code == 200


def test_a_browser_that_leaves_stops_the_model(app: Any, place: School, client: FlaskClient, begin: Callable[..., int]):
    app.extensions["curator.streams"] = Streams(most=1)
    battle = begin()
    answer = client.get(f"/p/ferry/battles/{battle}/turns/1/left", buffered=False)
    pieces = answer.iter_encoded()
    assert next(pieces)
    assert b"Dogs" in next(pieces)

    answer.close()

    assert place.runtime.stopped == 1
    assert client.get(f"/p/ferry/battles/{battle}/turns/1/right").status_code == 200
    with open_session(place.engine) as session:
        assert session.exec(select(BattleTurn)).one().left is None


def test_without_javascript_a_button_fetches_both_answers(client: FlaskClient, begin: Callable[..., int]):
    battle = begin()

    fetched = client.post(f"/p/ferry/battles/{battle}/turns/1/fetch")

    page = client.get(fetched.location).text
    assert "Dogs travel free." in page
    assert "No dogs." in page


def test_a_viewer_looks_but_does_not_vote(
    place: School, client: FlaskClient, begin: Callable[..., int], sign_in: Callable[[User], FlaskClient]
):
    battle = begin()
    answer_both(client, battle)
    viewer = sign_in(place.person("vera", "viewer"))

    assert viewer.get("/p/ferry/compare").status_code == 200
    assert 'name="winner"' not in viewer.get(f"/p/ferry/battles/{battle}").text
    assert viewer.post(f"/p/ferry/battles/{battle}/vote", data={"winner": "left"}).status_code == 403
    assert viewer.get(f"/p/ferry/battles/{battle}/turns/1/left").status_code == 403


def test_an_empty_question_is_refused_with_a_sentence(client: FlaskClient):
    answer = client.post("/p/ferry/battles", data={"new": 2, "old": 1, "question": "  "}, headers=HTMX)

    assert answer.status_code == 422
    assert "Type a question first." in answer.text


def test_pages_are_in_the_readers_language(client: FlaskClient, begin: Callable[..., int]):
    client.set_cookie("language", "zh_Hans")

    assert client.get(f"/p/ferry/battles/{begin()}").status_code == 200
    assert client.get("/p/ferry/compare").status_code == 200


@pytest.fixture
def elsewhere(app: Flask) -> Iterator[FakeOpenAI]:
    """A server to compare with, and an app that knows it."""
    with FakeOpenAI({"gpt-4o": "Dogs? <b>Ask.</b>"}) as fake:
        known = app.extensions["curator.settings"].model_copy(update={"compare_url": fake.url})
        app.extensions["curator.settings"] = known
        yield fake


def test_the_page_fetches_what_can_be_compared_with_elsewhere(client: FlaskClient, elsewhere: FakeOpenAI):
    page = client.get("/p/ferry/compare")
    assert 'hx-get="/p/ferry/compare/elsewhere"' in page.text
    assert elsewhere.requests == []  # the page itself waits for nobody

    part = client.get("/p/ferry/compare/elsewhere", headers=HTMX)
    whole = client.get("/p/ferry/compare/elsewhere?new=1&outside=gpt-4o")

    assert part.text.startswith('<section id="elsewhere">')
    assert "<option>gpt-4o</option>" in part.text and "licence may forbid" in part.text
    assert "<option selected>gpt-4o</option>" in whole.text and "<html" in whole.text
    assert "another machine" not in part.text


def test_it_says_that_questions_leave_this_machine(app: Flask, client: FlaskClient, monkeypatch: pytest.MonkeyPatch):
    known = app.extensions["curator.settings"].model_copy(update={"compare_url": "https://gpt.example/v1"})
    app.extensions["curator.settings"] = known
    monkeypatch.setattr("trainer.runtimes.openai.OpenAIServer.models", lambda _self: ["gpt-4o"])

    part = client.get("/p/ferry/compare/elsewhere", headers=HTMX).text

    assert "another machine (gpt.example)" in part


def test_without_a_server_elsewhere_nothing_is_offered(client: FlaskClient):
    assert "elsewhere" not in client.get("/p/ferry/compare").text
    assert "CURATOR_COMPARE_URL" in client.get("/p/ferry/compare/elsewhere", headers=HTMX).text


def test_a_server_elsewhere_that_is_away_is_a_sentence_on_the_page(client: FlaskClient, elsewhere: FakeOpenAI):
    elsewhere.misbehave = "busy"

    page = client.get("/p/ferry/compare/elsewhere", headers=HTMX)

    assert page.status_code == 200
    assert "takes no more questions just now" in page.text


def test_a_battle_against_a_model_elsewhere_is_blind_until_the_vote(
    place: School, client: FlaskClient, begin: Callable[..., int], elsewhere: FakeOpenAI
):
    battle = begin(old=0, outside="gpt-4o")
    sent = [client.get(f"/p/ferry/battles/{battle}/turns/1/{side}").text for side in ("left", "right")]
    sent += [client.get(f"/p/ferry/battles/{battle}").text]
    assert "gpt-4o" not in "".join(sent) and "elsewhere" not in "".join(sent)

    shown = client.post(f"/p/ferry/battles/{battle}/vote", data={"winner": "right"}, headers=HTMX).text

    assert "You preferred gpt-4o." in shown
    assert "Version 2 is worse than" in shown or "Version 2 won 0 of 1 votes against gpt-4o" in shown
    assert '<input type="hidden" name="outside" value="gpt-4o">' in shown
    assert "is not kept to learn from" in shown
    with open_session(place.engine) as session:
        assert session.exec(select(PreferencePair)).all() == []
    assert "against gpt-4o" in client.get("/p/ferry/compare").text


def test_viewers_and_strangers_ask_no_server_elsewhere(
    place: School, sign_in: Callable[[User], FlaskClient], elsewhere: FakeOpenAI
):
    viewer = sign_in(place.person("vera", "viewer"))

    assert viewer.get("/p/ferry/compare/elsewhere").status_code == 403
    assert "elsewhere" not in viewer.get("/p/ferry/compare").text
    assert elsewhere.requests == []
