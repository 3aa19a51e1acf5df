"""Streams of a battle: what both sides are asked, how answers are stored, and what goes wrong."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import Engine
from sqlmodel import Session

from curator.errors import Conflict
from curator.services import arena, arena_stream, battles
from curator.settings import Settings
from db.models import Battle, Passage, Project, Record, User
from db.session import open_session
from tests.curator.taught import School, answer, answer_both, begin_battle, school, stored
from trainer.runtimes.base import ModelMissing, RuntimeUnavailable


@pytest.fixture
def place(engine: Engine, settings: Settings, tmp_path: Path) -> School:
    """A project with version 1 in service and a newer version 2."""
    place = school(engine, settings, tmp_path)
    place.version(1, "in service")
    place.version(2)
    return place


@pytest.fixture
def user(place: School) -> User:
    return place.person()


@pytest.fixture
def begin(place: School, user: User) -> Callable[..., Battle]:
    return partial(begin_battle, place, user)


def test_both_sides_get_the_system_prompt_and_the_question(place: School, begin: Callable[..., Battle]):
    battle = begin(left_is_new=False)

    answer_both(place, battle)

    chats = [call for call in place.runtime.calls if call.method == "chat"]
    assert [call.tag for call in chats] == ["ferry:v1-abcd", "ferry:v2-abcd"]  # left is the old one here
    assert [call.side for call in chats] == [0, 1]
    assert chats[0].messages == chats[1].messages
    assert [message.content for message in chats[0].messages] == ["Be brief.", "Are dogs free?"]
    assert chats[0].options == chats[1].options


def test_answers_are_stored_when_whole_and_replayed_without_asking_again(place: School, begin: Callable[..., Battle]):
    battle = begin()
    first = list(answer(place, battle, "left"))
    asked = len(place.runtime.calls)

    again = list(answer(place, battle, "left"))

    assert first[0].kind == "text"
    assert "".join(piece.text for piece in first[:-1]) == first[-1].text == "ferry:v2-abcd says: Are dogs free?"
    assert again == [arena_stream.Piece("done", first[-1].text)]
    assert len(place.runtime.calls) == asked


def test_leaving_in_the_middle_stops_the_model_and_stores_nothing(
    place: School, begin: Callable[..., Battle], monkeypatch: pytest.MonkeyPatch
):
    held: list[Any] = []  # a runtime that is still referred to is not stopped by going out of sight
    chat = place.runtime.chat
    monkeypatch.setattr(place.runtime, "chat", lambda *given, **more: held.append(chat(*given, **more)) or held[-1])
    battle = begin()
    pieces = answer(place, battle, "left")
    next(pieces)

    pieces.close()

    assert place.runtime.stopped == 1
    assert stored(place, battle).left is None


def test_of_two_streams_of_one_side_the_first_to_end_counts_for_both(place: School, begin: Callable[..., Battle]):
    battle = begin()
    one, other = answer(place, battle, "left"), answer(place, battle, "left")
    place.runtime.answers["ferry:v2-abcd"] = "Said first."
    next(one)
    place.runtime.answers["ferry:v2-abcd"] = "Said last."
    next(other)

    ended = [list(one)[-1], list(other)[-1]]

    assert ended == [arena_stream.Piece("done", "Said first.")] * 2
    assert stored(place, battle).left == "Said first."


def test_no_transaction_is_open_while_a_model_talks(place: School, begin: Callable[..., Battle]):
    battle = begin()
    pieces = answer(place, battle, "left")
    next(pieces)

    with open_session(place.engine, write=True) as session:  # would wait for the lock and fail
        session.get_one(Project, place.project.id).name = "Renamed meanwhile"

    assert list(pieces)[-1].kind == "done"


def test_one_side_fails_and_the_other_still_answers(place: School, begin: Callable[..., Battle], user: User):
    battle = begin()
    place.runtime.fail_with = RuntimeUnavailable("ferry:v2-abcd at http://10.0.0.7 is gone")
    place.runtime.fail_only = {"ferry:v2-abcd"}

    left, right = list(answer(place, battle, "left")), list(answer(place, battle, "right"))

    assert left == [arena_stream.Piece("error", "unavailable")]  # says nothing of which model it is
    assert right[-1].kind == "done"
    assert stored(place, battle).left_error == "unavailable"
    with pytest.raises(Conflict), open_session(place.engine, write=True) as session:
        arena.vote(session, place.project, battle, user, "right")


def test_a_side_that_failed_can_be_asked_again(place: School, begin: Callable[..., Battle], user: User):
    battle = begin()
    place.runtime.fail_with = ModelMissing("gone")
    answer_both(place, battle)
    place.runtime.fail_with = None

    answer_both(place, battle)

    turn = stored(place, battle)
    assert (turn.left_error, turn.right_error) == ("", "")
    assert battles.answered(turn)


def test_an_answer_that_breaks_off_is_an_error_and_not_half_an_answer(place: School, begin: Callable[..., Battle]):
    battle = begin()
    place.runtime.break_after = 2

    pieces = list(answer(place, battle, "left"))

    assert [piece.kind for piece in pieces] == ["text", "text", "error"]
    assert stored(place, battle).left is None


def test_the_base_is_made_loadable_before_it_is_asked(place: School, begin: Callable[..., Battle]):
    battle = begin(old=0)

    answer_both(place, battle)

    base = next(tag for tag in place.runtime.served if tag.startswith("base-"))
    assert stored(place, battle).right == f"{base} says: Are dogs free?"


def test_follow_ups_continue_each_sides_own_conversation(place: School, begin: Callable[..., Battle], user: User):
    battle = begin()
    answer_both(place, battle)
    with open_session(place.engine, write=True) as session:
        arena.follow_up(session, battle, user, "And cats?")

    answer_both(place, battle, position=2)

    right = [call for call in place.runtime.calls if call.method == "chat"][-1]
    assert [message.content for message in right.messages] == [
        "Be brief.", "Are dogs free?", "ferry:v1-abcd says: Are dogs free?", "And cats?",
    ]  # fmt: skip


def test_passages_are_laid_out_as_in_training(session: Session, place: School, begin: Callable[..., Battle]):
    battle = begin(question=None)
    with open_session(place.engine, write=True) as own:
        own.add(Passage(record_id=battle.record_id or 0, position=0, document="fares.pdf", text="Dogs travel free."))
        project = own.get_one(Project, place.project.id)
        project.prompt_style = "passages"

    asked = battles.messages(session, project, battle, 1, "left")

    question = session.get_one(Record, battle.record_id).question
    assert asked[-1].content == f"[1] fares.pdf\nDogs travel free.\n\n{question}"


def test_places_for_streams_run_out_and_come_back():
    places = arena_stream.Streams(most=3, each=2)

    assert [places.enter(1), places.enter(1), places.enter(1)] == [True, True, False]
    assert [places.enter(2), places.enter(2)] == [True, False]
    places.leave(1)
    assert places.enter(2)
