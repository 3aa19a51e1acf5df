"""Preference pairs from battles."""

from __future__ import annotations

from pathlib import Path

from sqlalchemy import Engine
from sqlmodel import Session, select

from curator.services import preferences
from curator.settings import Settings
from db.models import Battle, PreferencePair
from tests.curator.taught import school
from trainer.spec import Message

PROMPT = [Message(role="system", content="Be brief."), Message(role="user", content="Are dogs free?")]


def begun(session: Session, engine: Engine, settings: Settings, tmp_path: Path) -> Battle:
    place = school(engine, settings, tmp_path)
    user, version = place.person(), place.version(1)
    battle = Battle(
        project_id=place.project.id, user_id=user.id, new_version_id=version.id, group="asked-once", left_is_new=True
    )
    session.add(battle)
    session.flush()
    return battle


def test_a_pair_keeps_prompt_group_and_battle(session, engine, settings, tmp_path):
    battle = begun(session, engine, settings, tmp_path)

    pair = preferences.add(session, battle, PROMPT, "Yes.", "No.")

    assert pair is not None
    assert (pair.group, pair.battle_id, pair.chosen, pair.rejected) == ("asked-once", battle.id, "Yes.", "No.")
    assert pair.prompt == [
        {"role": "system", "content": "Be brief."},
        {"role": "user", "content": "Are dogs free?"},
    ]


def test_equal_or_empty_answers_make_no_pair(session, engine, settings, tmp_path):
    battle = begun(session, engine, settings, tmp_path)

    assert preferences.add(session, battle, PROMPT, "Yes.", " Yes. ") is None
    assert preferences.add(session, battle, PROMPT, "Yes.", "") is None
    assert session.exec(select(PreferencePair)).all() == []


def test_two_pairs_of_one_battle_both_name_it(session, engine, settings, tmp_path):
    battle = begun(session, engine, settings, tmp_path)

    preferences.add(session, battle, PROMPT, "Yes, on a lead.", "No.")
    preferences.add(session, battle, PROMPT, "Yes, on a lead.", "Maybe.")

    pairs = session.exec(select(PreferencePair).order_by(PreferencePair.id)).all()
    assert [pair.battle_id for pair in pairs] == [battle.id, battle.id]
    assert {pair.group for pair in pairs} == {"asked-once"}
