"""The sample project: whole, loaded once however often it is asked for."""

from __future__ import annotations

import json
from pathlib import Path

from sqlalchemy import Engine
from sqlmodel import col, func, select

from curator.services import bases, pins, sample, snapshots
from curator.settings import Settings
from db.models import Pin, Project, Record, Review, Source, User
from db.session import open_session
from tests.trainer.tiny import write_tiny_llama_gguf


def load(engine: Engine, settings: Settings, tmp_path: Path) -> Project:
    file = tmp_path / "base.gguf"
    if not file.exists():
        write_tiny_llama_gguf(file)
    with open_session(engine, write=True) as session:
        base = bases.register(session, file)
    return sample.load(engine, settings, base)


def counts(engine: Engine) -> list[int]:
    with open_session(engine) as session:
        tables = (Project, Source, Record, Review, Pin, User)
        return [session.exec(select(func.count()).select_from(table)).one() for table in tables]


def lines(name: str) -> list[dict[str, str]]:
    return [json.loads(line) for line in (sample.FOLDER / name).read_text().splitlines()]


def test_every_decision_and_pin_finds_its_record(engine: Engine, settings: Settings, tmp_path: Path):
    project = load(engine, settings, tmp_path)

    decisions, wanted = lines("decisions.jsonl"), lines("pins.jsonl")
    with open_session(engine) as session:
        assert session.exec(select(func.count()).select_from(Review)).one() == len(decisions)
        found = pins.every(session, project)
        assert len(found) == len(wanted) and all(pin.record_id for pin in found)
        accepted = session.exec(select(func.count()).where(col(Record.state) == "accepted")).one()
        assert accepted == sum(decision["verdict"] == "accept" for decision in decisions)
        assert session.get_one(Project, project.id).base_id is not None


def test_loading_again_adds_nothing(engine: Engine, settings: Settings, tmp_path: Path):
    load(engine, settings, tmp_path)
    once = counts(engine)

    load(engine, settings, tmp_path)

    assert counts(engine) == once


def test_it_can_be_frozen_with_all_three_sides(engine: Engine, settings: Settings, tmp_path: Path):
    project = load(engine, settings, tmp_path)

    with open_session(engine, write=True) as session:
        snapshot = snapshots.freeze(session, session.get_one(Project, project.id), "v1")

    assert snapshot.train > 100 and snapshot.val > 5 and snapshot.test > 5
