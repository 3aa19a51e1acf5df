"""Battles: what both sides are asked, how answers are stored, votes and what follows from them."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from pathlib import Path
from threading import Thread
from typing import Any

import pytest
from sqlalchemy import Engine
from sqlmodel import Session, col, select

from curator.errors import Conflict, Forbidden, Invalid, NotFound
from curator.services import arena, battles, standings
from curator.settings import Settings
from db.models import Battle, PreferencePair, Project, SnapshotExample, User
from db.session import open_session
from tests.curator.taught import School, answer_both, begin_battle, school


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


def cast_vote(place: School, battle: Battle, user: User, winner: Any) -> Any:
    with open_session(place.engine, write=True) as session:
        return arena.vote(session, place.project, battle, user, winner)


def pairs(place: School) -> list[PreferencePair]:
    with open_session(place.engine) as session:
        return list(session.exec(select(PreferencePair).order_by(col(PreferencePair.id))))


def test_the_usual_pair_is_the_newest_against_the_one_in_service(session: Session, place: School):
    new, old = arena.pair(session, place.project)

    assert (new and new.number, old and old.number) == (2, 1)


def test_the_version_in_service_is_measured_against_the_base(session: Session, place: School):
    new, old = arena.pair(session, place.project, new=1)

    assert (new and new.number, old) == (1, None)


def test_sides_are_shuffled(place: School, user: User):
    with open_session(place.engine, write=True) as session:
        begun = [arena.start(session, place.project, user, 2, 1, "Hello?") for _ in range(60)]

    assert 10 < sum(battle.left_is_new for battle in begun) < 50


def test_a_follow_up_waits_for_both_answers(session: Session, place: School, begin: Callable[..., Battle], user: User):
    battle = begin()

    with pytest.raises(Conflict):
        arena.follow_up(session, battle, user, "And cats?")


@pytest.mark.parametrize(("winner", "left_is_new", "new_won"), [
    ("left", True, True), ("left", False, False), ("right", True, False), ("right", False, True),
    ("tie", True, None), ("both bad", False, None),
])  # fmt: skip
def test_a_vote_knows_whether_the_new_one_won(
    place: School, begin: Callable[..., Battle], user: User, winner: str, left_is_new: bool, new_won: bool | None
):
    battle = begin(left_is_new=left_is_new)
    answer_both(place, battle)

    assert cast_vote(place, battle, user, winner).new_won is new_won


def test_a_second_vote_is_answered_with_the_first(place: School, begin: Callable[..., Battle], user: User):
    battle = begin()
    answer_both(place, battle)
    cast_vote(place, battle, user, "left")

    assert cast_vote(place, battle, user, "right").winner == "left"
    assert len(pairs(place)) == 1


def test_two_votes_at_once_are_one(place: School, begin: Callable[..., Battle], user: User):
    battle = begin()
    answer_both(place, battle)
    threads = [Thread(target=cast_vote, args=(place, battle, user, side)) for side in ("left", "right") * 4]

    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert len(pairs(place)) == 1


def test_nobody_votes_on_somebody_elses_battle(place: School, begin: Callable[..., Battle]):
    battle = begin()
    answer_both(place, battle)

    with pytest.raises(Forbidden):
        cast_vote(place, battle, place.person("moira"), "left")


def test_a_decisive_vote_becomes_a_pair_and_a_tie_does_not(place: School, begin: Callable[..., Battle], user: User):
    one, other = begin(), begin()
    answer_both(place, one)
    answer_both(place, other)

    cast_vote(place, one, user, "right")
    cast_vote(place, other, user, "tie")

    (pair,) = pairs(place)
    assert pair.battle_id == one.id
    assert (pair.chosen, pair.rejected) == ("ferry:v1-abcd says: Are dogs free?", "ferry:v2-abcd says: Are dogs free?")
    assert [message["content"] for message in pair.prompt] == ["Be brief.", "Are dogs free?"]


def test_the_pair_of_a_long_battle_is_where_the_answers_first_differ(
    place: School, begin: Callable[..., Battle], user: User
):
    place.runtime.answers["Are dogs free?"] = "Yes."
    battle = begin()
    answer_both(place, battle)
    with open_session(place.engine, write=True) as session:
        arena.follow_up(session, battle, user, "And cats?")
    answer_both(place, battle, position=2)

    cast_vote(place, battle, user, "left")

    (pair,) = pairs(place)
    assert [message["content"] for message in pair.prompt] == ["Be brief.", "Are dogs free?", "Yes.", "And cats?"]


def test_a_written_answer_is_preferred_over_both(place: School, begin: Callable[..., Battle], user: User):
    battle = begin()
    answer_both(place, battle)

    with open_session(place.engine, write=True) as session:
        given = arena.correct(session, place.project, battle, user, "Yes, on a lead.")

    assert given.winner == "both bad"
    assert [(pair.chosen, pair.rejected) for pair in pairs(place)] == [
        ("Yes, on a lead.", "ferry:v2-abcd says: Are dogs free?"),
        ("Yes, on a lead.", "ferry:v1-abcd says: Are dogs free?"),
    ]


def test_after_a_decisive_vote_no_answer_is_written(
    session: Session, place: School, begin: Callable[..., Battle], user: User
):
    battle = begin()
    answer_both(place, battle)
    cast_vote(place, battle, user, "left")

    with pytest.raises(Conflict):
        arena.correct(session, place.project, battle, user, "Yes, on a lead.")


def test_a_held_out_question_comes_from_the_test_split_and_keeps_its_group(place: School, begin: Callable[..., Battle]):
    battle = begin(question=None)

    with open_session(place.engine) as session:
        example = session.exec(select(SnapshotExample).where(SnapshotExample.record_id == battle.record_id)).one()
    assert example.split == "test"
    assert battle.group == example.group


def test_held_out_questions_do_not_repeat_until_all_were_asked(
    session: Session, place: School, begin: Callable[..., Battle], user: User
):
    total = arena.held_out(session, place.project, user, place.versions[2], place.versions[1]).total
    session.rollback()

    asked = {begin(question=None).record_id for _ in range(total)}

    held = arena.held_out(session, place.project, user, place.versions[2], place.versions[1])
    assert total > 1
    assert len(asked) == total == held.asked


def test_a_question_typed_again_falls_on_the_same_side_of_the_split(begin: Callable[..., Battle]):
    assert begin("Are dogs free?").group == begin("are dogs FREE").group


@pytest.mark.parametrize(("new", "old"), [(2, 2), (0, 0)])
def test_a_model_is_not_compared_with_itself(session: Session, place: School, user: User, new: int, old: int):
    with pytest.raises(Invalid):
        arena.start(session, place.project, user, new, old, "Hello?")


def test_a_version_that_is_not_loaded_cannot_be_compared(session: Session, place: School, user: User):
    place.version(3, "built")

    with pytest.raises(Conflict):
        arena.start(session, place.project, user, 3, 1, "Hello?")


def test_another_projects_battle_is_not_there(session: Session, place: School, begin: Callable[..., Battle]):
    battle = begin()
    other = Project(slug="other", name="Other")
    session.add(other)
    session.flush()

    with pytest.raises(NotFound):
        arena.get(session, other, battle.id or 0)


def test_votes_on_the_same_two_models_add_up_whichever_was_called_new(
    session: Session, place: School, begin: Callable[..., Battle], user: User
):
    for new, old, winner in ((2, 1, "left"), (1, 2, "right"), (2, 1, "tie")):
        battle = begin(new=new, old=old)  # left is what was called new
        answer_both(place, battle)
        cast_vote(place, battle, user, winner)

    (found,) = standings.every(session, place.project)

    assert found.new and found.new.number == 2
    assert (found.tally.new, found.tally.old, found.tally.ties) == (2, 0, 1)


def test_the_view_names_no_model_before_the_vote(place: School, begin: Callable[..., Battle], user: User):
    battle = begin(question=None)
    answer_both(place, battle)

    with open_session(place.engine) as session:
        before = battles.view(session, battle, user.id)
    cast_vote(place, battle, user, "left")
    with open_session(place.engine) as session:
        after = battles.view(session, battle, user.id)

    assert (before.names, before.approved) == (None, None)
    assert after.names == {"left": battles.Name(2, True), "right": battles.Name(1, False)}
    assert after.approved
