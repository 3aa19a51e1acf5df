"""Comparing with a model elsewhere: what is asked of it, what a vote means, and what is never kept of it."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from pydantic import SecretStr
from sqlalchemy import Engine
from sqlmodel import select

from curator.errors import Invalid, NotFound
from curator.services import arena, arena_stream, battles, outside, standings, versions
from curator.settings import Settings, load_settings
from db.models import Battle, PreferencePair, User, Vote
from db.session import open_session
from tests.curator.taught import School, answer, answer_both, school, stored
from tests.fakes.openai_server import FakeOpenAI
from trainer.runtimes.fake import FakeRuntime
from trainer.runtimes.table import RUNTIMES


@pytest.fixture
def fake() -> Iterator[FakeOpenAI]:
    with FakeOpenAI({"gpt-4o": "Dogs travel free.", "qwen-max": "No idea."}) as fake:
        yield fake


@pytest.fixture
def settings(settings: Settings, fake: FakeOpenAI) -> Settings:
    fake.token = "sk-1"
    return settings.model_copy(update={"compare_url": fake.url, "compare_token": SecretStr("sk-1")})


@pytest.fixture
def place(engine: Engine, settings: Settings, tmp_path: Path) -> School:
    place = school(engine, settings, tmp_path)
    place.version(1, "in service")
    place.runtime.answers["ferry:v1-abcd"] = "Dogs pay."
    return place


@pytest.fixture
def user(place: School) -> User:
    return place.person()


def begin(place: School, user: User, new: int = 1, name: str = "gpt-4o", *, left_is_new: bool = True, **more: Any):
    with open_session(place.engine, write=True) as session:
        question = more.get("question", "Are dogs free?")
        battle = arena.start(session, place.project, user, new, 0, question, name)
        battle.left_is_new = left_is_new
        session.add(battle)
    return battle


def decide(place: School, battle: Battle, user: User, winner: Any) -> Vote:
    with open_session(place.engine, write=True) as session:
        return arena.vote(session, place.project, session.get_one(Battle, battle.id), user, winner)


def pairs(place: School) -> list[PreferencePair]:
    with open_session(place.engine) as session:
        return list(session.exec(select(PreferencePair)))


def standing(place: School) -> list[tuple[int | None, int | None, str, int, int]]:
    with open_session(place.engine) as session:
        return [
            (one.new.number if one.new else None, one.old.number if one.old else None, one.outside, one.tally.new,
             one.tally.old)
            for one in standings.every(session, place.project)
        ]  # fmt: skip


def test_each_side_is_asked_where_its_model_is(place: School, fake: FakeOpenAI, user: User):
    battle = begin(place, user, left_is_new=False)  # left is the one elsewhere

    answer_both(place, battle)

    turn = stored(place, battle)
    assert (turn.left, turn.right) == ("Dogs travel free.", "Dogs pay.")
    body = fake.requests[-1][1]
    assert body["model"] == "gpt-4o"
    assert [message["content"] for message in body["messages"]] == ["Be brief.", "Are dogs free?"]
    assert [call.tag for call in place.runtime.calls if call.method == "chat"] == ["ferry:v1-abcd"]


def test_follow_ups_go_on_with_its_own_answers(place: School, fake: FakeOpenAI, user: User):
    battle = begin(place, user)
    answer_both(place, battle)
    with open_session(place.engine, write=True) as session:
        arena.follow_up(session, session.get_one(Battle, battle.id), user, "And cats?")

    answer_both(place, battle, position=2)

    said = [message["content"] for message in fake.requests[-1][1]["messages"]]
    assert said == ["Be brief.", "Are dogs free?", "Dogs travel free.", "And cats?"]


@pytest.mark.parametrize("winner", ["left", "right"])
def test_a_vote_counts_and_names_the_model_but_never_becomes_a_preference_pair(place: School, user: User, winner: str):
    battle = begin(place, user)
    answer_both(place, battle)

    vote = decide(place, battle, user, winner)

    assert vote.new_won == (winner == "left")
    assert standing(place) == [(1, None, "gpt-4o", int(winner == "left"), int(winner == "right"))]
    assert pairs(place) == []
    with open_session(place.engine) as session:
        names = battles.view(session, battle, user.id).names
    assert names == {"left": battles.Name(1, True), "right": battles.Name(None, False, "gpt-4o")}


def test_the_right_answer_is_preferred_over_ours_and_over_nothing_written_elsewhere(place: School, user: User):
    battle = begin(place, user)
    answer_both(place, battle)

    with open_session(place.engine, write=True) as session:
        arena.correct(session, place.project, session.get_one(Battle, battle.id), user, "Dogs travel free in the hold.")

    (pair,) = pairs(place)
    assert (pair.chosen, pair.rejected) == ("Dogs travel free in the hold.", "Dogs pay.")
    assert not any("Dogs travel free." in str(message) for message in pair.prompt)


def test_tallies_of_other_models_and_of_the_base_stay_apart(place: School, user: User):
    place.runtime.answers["base"] = "?"
    for name, winner in (("gpt-4o", "left"), ("qwen-max", "left"), ("gpt-4o", "right")):
        battle = begin(place, user, name=name)
        answer_both(place, battle)
        decide(place, battle, user, winner)
    with open_session(place.engine, write=True) as session:
        ours = arena.start(session, place.project, user, 1, 0, "Are dogs free?")
    answer_both(place, ours)
    decide(place, ours, user, "tie")

    assert sorted(standing(place), key=str) == sorted(
        [(1, None, "gpt-4o", 1, 1), (1, None, "qwen-max", 1, 0), (1, None, "", 0, 0)], key=str
    )
    with open_session(place.engine) as session:
        version = place.versions[1].id
        assert standings.of_pair(session, place.project, version, None, "gpt-4o").tally.votes == 2
        assert standings.of_pair(session, place.project, version, None).tally.ties == 1


def test_the_base_can_meet_it_too(place: School, user: User, runtime_of_new: FakeRuntime):
    battle = begin(place, user, new=0)

    answer_both(place, battle)
    decide(place, battle, user, "left")

    with open_session(place.engine) as session:
        names = battles.view(session, battle, user.id).names
    assert names and names["left"].number is None and not names["left"].outside
    assert next(call.tag for call in runtime_of_new.calls if call.method == "chat").startswith("base-")
    assert standing(place) == [(None, None, "gpt-4o", 1, 0)]
    assert pairs(place) == []


@pytest.fixture
def runtime_of_new(place: School, monkeypatch: pytest.MonkeyPatch) -> FakeRuntime:
    """Let new versions, and with them the base, go to the fake runtime."""
    monkeypatch.setattr(versions, "choose_runtime", lambda _settings: place.runtime)
    return place.runtime


def test_held_out_questions_are_asked_once_for_each_model(place: School, user: User):
    with open_session(place.engine) as session:
        version = place.versions[1]
        total = arena.held_out(session, place.project, user, version, None, "gpt-4o").total
    asked = {begin(place, user, question=None).record_id for _ in range(total)}

    assert len(asked) == total
    with open_session(place.engine) as session:
        assert arena.held_out(session, place.project, user, version, None, "gpt-4o").asked == total
        assert arena.held_out(session, place.project, user, version, None, "qwen-max").asked == 0
        assert arena.held_out(session, place.project, user, version, None).asked == 0


def test_the_base_has_no_held_out_questions(place: School, user: User):
    with pytest.raises(Invalid, match="no question is kept from it"):
        begin(place, user, new=0, question=None)


@pytest.mark.parametrize("name", [" ", "a\nb", "x" * 201, "\u202egpt"])
def test_a_name_that_cannot_be_one_is_refused(place: School, user: User, name: str):
    with pytest.raises(Invalid, match="cannot be the name of a model"):
        begin(place, user, name=name)


def test_what_goes_wrong_there_tells_no_name_and_ours_still_answers(place: School, fake: FakeOpenAI, user: User):
    battle = begin(place, user)
    for word, kind in (("busy", "unavailable"), ("cut", "unavailable"), ("refuses", "failed")):
        fake.misbehave = word
        assert list(answer(place, battle, "right"))[-1] == arena_stream.Piece("error", kind)
    del fake.answers["gpt-4o"]
    fake.misbehave = ""
    assert list(answer(place, battle, "right"))[-1] == arena_stream.Piece("error", "missing")
    assert list(answer(place, battle, "left"))[-1].text == "Dogs pay."


def test_a_server_that_is_set_no_more_is_a_missing_model(place: School, user: User):
    battle = begin(place, user)
    place.settings = place.settings.model_copy(update={"compare_url": ""})

    assert list(answer(place, battle, "right"))[-1] == arena_stream.Piece("error", "missing")
    with pytest.raises(NotFound, match="CURATOR_COMPARE_URL"):
        outside.open_server(place.settings)


def test_the_offer_says_where_questions_go_or_why_there_is_none(settings: Settings, fake: FakeOpenAI):
    assert outside.offer(settings) == outside.Offer("127.0.0.1", local=True, names=["gpt-4o", "qwen-max"])

    wrong = settings.model_copy(update={"compare_token": SecretStr("sk-2")})
    assert "CURATOR_COMPARE_TOKEN" in outside.offer(wrong).trouble
    assert "cannot be used" in outside.offer(settings.model_copy(update={"compare_url": "gpt"})).trouble


def test_it_is_no_place_to_publish_to():
    assert "openai" not in RUNTIMES
    assert not hasattr(outside.OpenAIServer, "publish") and not hasattr(outside.OpenAIServer, "copy")


def test_its_key_can_be_read_from_a_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    (tmp_path / "key").write_text("sk-9\n")
    monkeypatch.setenv("CURATOR_COMPARE_TOKEN_FILE", str(tmp_path / "key"))

    assert load_settings(home=tmp_path).compare_token.get_secret_value() == "sk-9"
