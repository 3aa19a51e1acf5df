"""Going on from an earlier version, and learning from preferences: what the run folder then holds."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import Engine
from sqlmodel import select

from curator.errors import Invalid, NotFound
from curator.services import continuing, run_folder, snapshots
from curator.settings import Settings
from db.models import Base, ModelVersion, PreferencePair, Project, Record, Run, Snapshot
from db.session import open_session
from tests.curator.teaching import Classroom, classroom
from trainer.rundir import RunDir


@pytest.fixture
def room(engine: Engine, settings: Settings, tmp_path: Path) -> Classroom:
    room = classroom(engine, settings, tmp_path)
    room.teach()
    adapter = RunDir(Path(room.run().folder)).adapter
    adapter.mkdir(exist_ok=True)
    (adapter / "adapter_config.json").write_text("{}")
    return room


def approve_more(room: Classroom, numbers: range) -> Snapshot:
    with open_session(room.engine, write=True) as session:
        project = session.get_one(Project, room.project.id)
        first = session.exec(select(Record)).first()
        assert first is not None
        session.add_all(
            Record(
                project_id=project.id or 0, source_id=first.source_id, digest=f"more{n}", group=f"more{n}",
                question=f"New {n}?", answer=f"New answer {n}.", state="accepted",
            )
            for n in numbers
        )  # fmt: skip
        session.flush()
        return snapshots.freeze(session, project, f"v{numbers.stop}")


def written(room: Classroom, **overrides: Any) -> RunDir:
    run = room.start(**overrides)
    with open_session(room.engine) as session:
        return run_folder.write(session, session.get_one(Run, run.id), room.settings)


def test_what_is_new_comes_first_and_a_share_of_the_old_comes_again(room: Classroom):
    old = {example.id for example in RunDir(room.folder()).examples("train")}
    room.snapshot = approve_more(room, range(100, 140))

    folder = written(room, continues=1, replay=0.3)

    learnt = [example.id for example in folder.examples("train")]
    again = [id_ for id_ in learnt if id_ in old]
    assert 0 < len(again) < 0.6 * len(old)
    assert len(set(learnt) - old) > 20
    assert learnt[-len(again) :] == again
    assert (folder.start / "adapter_config.json").exists()
    assert folder.spec().continues == 1


def test_with_nothing_new_everything_is_learnt_again(room: Classroom):
    old = [example.id for example in RunDir(room.folder()).examples("train")]

    assert [example.id for example in written(room, continues=1).examples("train")] == old


def test_a_share_of_nothing_or_all_is_what_it_says(room: Classroom):
    old = {example.id for example in RunDir(room.folder()).examples("train")}
    room.snapshot = approve_more(room, range(100, 120))
    with open_session(room.engine) as session:
        taught = [
            {e.id for e in continuing.lessons(session, room.snapshot, "train", session.get_one(Snapshot, 1), share)}
            for share in (0.0, 1.0)
        ]

    assert not taught[0] & old
    assert taught[1] >= old


def test_a_run_that_goes_on_has_the_shape_of_the_version_it_goes_on_from(room: Classroom):
    with open_session(room.engine, write=True) as session:
        before = session.get_one(Run, room.run().id)
        before.spec = before.spec | {"lora": {"rank": 4, "alpha": 8, "dropout": 0.0, "target_modules": ["q_proj"]}}
        session.add(before)

    assert room.start(continues=1).spec["lora"]["rank"] == 4


@pytest.mark.parametrize(
    ("broken", "error", "words"),
    [("unknown", NotFound, "no version 9"), ("gone", Invalid, "files of version 1"), ("base", Invalid, "another base")],
)
def test_a_version_that_cannot_be_gone_on_from_is_refused_before_anything_starts(
    room: Classroom, broken: str, error: type[Exception], words: str
):
    if broken == "gone":
        shutil.rmtree(room.folder() / "adapter")
    if broken == "base":
        with open_session(room.engine, write=True) as session:
            other = Base(name="other", path="other.gguf", sha256="0" * 64, architecture="llama", size=1)
            session.add(other)
            session.flush()
            version = session.get_one(ModelVersion, room.version().id)
            version.base_id = other.id or 0
            session.add(version)

    with pytest.raises(error, match=words):
        room.start(continues=9 if broken == "unknown" else 1)


def test_only_versions_whose_adapter_is_there_are_offered(room: Classroom):
    with open_session(room.engine) as session:
        project = session.get_one(Project, room.project.id)
        assert [version.number for version in continuing.possible(session, project)] == [1]
        shutil.rmtree(room.folder() / "adapter")
        assert continuing.possible(session, project) == []


def test_preferences_are_learnt_as_pairs_each_under_its_own_name(room: Classroom):
    with open_session(room.engine, write=True) as session:
        project = session.get_one(Project, room.project.id)
        record = session.exec(select(Record)).first()
        assert record is not None
        session.add_all(
            PreferencePair(
                project_id=project.id or 0, record_id=record.id, group=f"p{n}",
                prompt=[{"role": "user", "content": f"Which {n}?"}], chosen=f"This {n}.", rejected="That.",
            )
            for n in range(20)
        )  # fmt: skip
        session.flush()
        room.snapshot = snapshots.freeze(session, project, "p1", kind="preference")

    with open_session(room.engine, write=True) as session:  # a pace for approved answers, ruinous for preferences
        session.get_one(Project, room.project.id).recipe = {"learning_rate": 1e-3, "epochs": 3, "batch_size": 4}
    room.project.recipe = {"learning_rate": 1e-3, "epochs": 3, "batch_size": 4}

    folder = written(room, continues=1)

    assert folder.spec().batch_size == 4
    pairs = [example for split in ("train", "val", "test") for example in folder.examples(split)]
    assert folder.spec().method == "dpo"
    assert folder.spec().learning_rate == 5e-6
    assert len(pairs) == 20
    assert all(e.rejected == "That." and e.messages[-1].content.startswith("This") for e in pairs)
    for split in ("train", "val", "test"):
        ids = [example.id for example in folder.examples(split)]
        assert len(ids) == len(set(ids))
