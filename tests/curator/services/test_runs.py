"""Runs: when one may start, what its folder holds, how it ends, what people are told."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import Engine
from sqlmodel import select

from curator.errors import Conflict, Invalid, NotFound
from curator.services import jobs, run_folder, runs
from curator.settings import Settings
from db.models import Job, Project, Record, Run
from db.session import open_session
from tests.curator.teaching import Classroom, add_records, classroom
from trainer.recipe import BaseRef, TrainSpec
from trainer.rundir import RunDir


@pytest.fixture
def room(engine: Engine, settings: Settings, tmp_path: Path) -> Classroom:
    return classroom(engine, settings, tmp_path)


def readiness(room: Classroom) -> runs.Readiness:
    with open_session(room.engine) as session:
        return runs.readiness(session, session.get_one(Project, room.project.id), room.settings)


def test_a_project_with_enough_approved_answers_is_ready(room: Classroom):
    found = readiness(room)

    assert found.ready and found.why is None
    assert (found.approved, found.since_last, found.minimum, found.live_run) == (40, 40, 4, None)
    assert found.minutes[""] > found.minutes["quick"] > 1


def test_what_is_called_ready_can_be_started_even_with_nothing_to_steer_by(room: Classroom):
    room.snapshot.val = 0  # a split by hash may leave a small dataset so

    assert readiness(room).ready
    assert room.start().state == "queued"


def test_without_approved_answers_it_says_how_many_are_missing(room: Classroom):
    with open_session(room.engine, write=True) as session:
        for record in session.exec(select(Record)):
            record.state = "new"

    assert str(readiness(room).why) == "0 answers are approved; teaching needs 4. Review 4 more."


def test_without_a_base_or_its_file_it_says_so(room: Classroom):
    (Path(room.settings.home).parent / "base.gguf").unlink()
    assert "is gone" in str(readiness(room).why)

    with open_session(room.engine, write=True) as session:
        session.get_one(Project, room.project.id).base_id = None
    assert isinstance(readiness(room).why, NotFound)


def test_a_full_disk_is_told_before_teaching(room: Classroom, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(run_folder, "MARGIN", 1 << 60)

    assert "of disk" in str(readiness(room).why)


def test_only_what_was_approved_since_the_last_lesson_counts_as_new(room: Classroom):
    room.teach()
    with open_session(room.engine, write=True) as session:
        add_records(session, room.project, 0)
        for record in session.exec(select(Record).limit(3)):
            record.settled_at = jobs.utc_now()

    found = readiness(room)

    assert (found.approved, found.since_last) == (40, 3)
    assert found.minutes[""] < 1, "by the rate of the run before, not by the table"


def test_two_lessons_at_once_are_refused_by_the_table_itself(room: Classroom):
    run = room.start()
    assert not readiness(room).ready

    with pytest.raises(Conflict):
        room.start()
    with open_session(room.engine, write=True) as session:
        session.get_one(Run, run.id).state = "finished"  # so that only the job is in the way
        with pytest.raises(Conflict):
            runs.start(session, room.project, room.snapshot, None, {})

    assert room.job().payload == {"id": run.id}


@pytest.mark.parametrize(
    ("overrides", "named"),
    [
        ({"colour": "red"}, "colour"),
        ({"epochs": -1}, "epochs"),
        ({"lora": {"rank": 0}}, "lora.rank"),
        ({"base": 1}, "base"),
    ],
)
def test_a_recipe_that_cannot_be_is_refused_by_name(room: Classroom, overrides: dict[str, object], named: str):
    with pytest.raises(Invalid, match=named):
        room.start(**overrides)

    with open_session(room.engine) as session:
        assert session.exec(select(Run)).first() is None
        assert session.exec(select(Job)).first() is None


def test_recipe_and_overrides_reach_the_spec(room: Classroom):
    with open_session(room.engine, write=True) as session:
        session.get_one(Project, room.project.id).recipe = {"epochs": 2, "lora": {"rank": 4, "alpha": 8}}
    room.project.recipe = {"epochs": 2, "lora": {"rank": 4, "alpha": 8}}

    run = room.start(epochs=1)
    with open_session(room.engine) as session:
        run_folder.write(session, run, room.settings)

    spec = RunDir(room.folder()).spec()
    assert (spec.epochs, spec.lora.rank, spec.seed) == (1, 4, room.project.seed)
    assert (spec.base.name, spec.snapshot_sha256) == ("tiny", room.snapshot.sha256)


def test_the_folder_holds_the_snapshot_and_the_pins(room: Classroom):
    run = room.start()
    with open_session(room.engine) as session:
        folder = run_folder.write(session, run, room.settings)
        stamp = folder.spec_file.stat().st_mtime_ns
        run_folder.write(session, run, room.settings)

    counts = [len(folder.examples(split)) for split in run_folder.SPLITS]
    assert counts == [room.snapshot.train, room.snapshot.val, room.snapshot.test]
    assert folder.spec_file.stat().st_mtime_ns == stamp, "what is there is left as it is"
    [pin] = folder.pins()
    assert [message.content for message in pin.messages] == ["Be brief.", "Are dogs free?"]


def test_a_folder_left_by_another_run_of_the_same_number_is_moved_aside(room: Classroom):
    """After an older database was restored, numbers are given again; the old model must not pass for the new."""
    run = room.start(epochs=1)
    left = room.folder()
    left.mkdir()
    (left / "spec.json").write_text(room_spec(room, run, epochs=9))
    (left / "model.gguf").write_text("of the other run")

    with open_session(room.engine) as session:
        folder = run_folder.write(session, run, room.settings)

    assert folder.spec().epochs == 1
    assert not folder.model_gguf.exists()
    assert [aside.name.startswith(f"{run.id}.before-") for aside in left.parent.iterdir() if aside != left] == [True]


def room_spec(room: Classroom, run: Run, **changes: Any) -> str:
    base = BaseRef(name="tiny", gguf="elsewhere.gguf", sha256="0" * 64)
    return TrainSpec.model_validate(run.spec | {"run": "x", "base": base} | changes).model_dump_json()


def test_a_disk_that_fills_up_fails_the_run_in_a_sentence(room: Classroom, monkeypatch: pytest.MonkeyPatch):
    def full(*_arguments: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(run_folder, "write_lines", full)
    room.teach()

    assert (room.run().state, room.run().failure, room.job().state) == ("failed", "disk", "done")
    assert "No space left on device. Make room" in room.run().message


def test_a_finished_run_has_a_card_a_version_and_progress(room: Classroom):
    room.teach()

    run, version = room.run(), room.version()
    card = runs.card(run)
    assert card and card.passed
    assert card.sentence == (
        f"Learnt from {room.snapshot.train} approved answers in 2 min. On {room.snapshot.test} questions it never saw: "
        f"better on {room.snapshot.test}, same on 0, worse on 0. Pinned questions right: 1 of 1, before 0. "
        "Nearness to approved answers: 60 of 100, before 10. Still knows 9 of 9 general questions."
    )
    assert (version.number, version.state, version.gate_passed) == (1, "built", True)
    assert version.tag.startswith("ferry:v1-") and len(version.tag) == len("ferry:v1-") + 8
    folder = Path(version.folder)
    assert folder.name == "ferry-v1"
    assert sorted(file.name for file in folder.iterdir()) == [
        "Modelfile", "README.md", "adapter.gguf", "evaluation.json", "model.gguf",
            "result.json",
    ]  # fmt: skip
    assert room.job("publish").payload == {"id": version.id}
    progress = runs.progress(run)
    assert (progress.share, progress.step, progress.steps) == (1.0, 10, 10)
    assert progress.losses[0] == (1, 2.0)
    assert list(runs.stage_ends(run)) == ["plan", "train", "convert", "evaluate"]
    assert not (room.folder() / "checkpoints").exists()


def test_a_version_that_failed_the_gate_is_built_but_not_published(room: Classroom):
    room.teach("poor")

    card = runs.card(room.run())
    assert (room.run().state, room.version().gate_passed, room.job("publish")) == ("finished", False, None)
    assert card and "Not good enough yet: 2.00 before, 1.00 now." in card.sentence


@pytest.mark.parametrize(
    ("mode", "failure", "words"),
    [
        ("crash", "internal", "exit code 3"),
        ("killed", "memory", "ran out of memory"),
        ("refuses", "diverged", "The loss ran away. Teach slower."),
    ],
)
def test_a_failed_run_says_why(room: Classroom, mode: str, failure: str, words: str):
    room.start()
    room.worker(mode).run_until_idle()

    run = room.run()
    assert (run.state, run.failure, room.job().state) == ("failed", failure, "done")
    assert words in run.message
    assert runs.log_tail(run)[:2] == ["plan begins", "train begins"]
    assert room.version() is None
    assert readiness(room).ready, "a failed lesson is not in the way of the next"


def test_a_lesson_that_the_system_killed_for_its_memory_is_tried_again_with_less_at_once(room: Classroom):
    room.start()
    room.worker("killed once").run_until_idle()

    limits = run_folder.folder_of(room.run(), room.settings).limits()
    assert limits is not None and (limits.micro_tokens, limits.checkpointing) == (512, True)
    assert room.run().state == "finished"
    assert runs.log_tail(room.run()).count("train begins") == 2


def test_a_log_tail_is_short_and_bears_any_bytes(room: Classroom):
    run = room.start()
    run.folder = str(room.folder())
    run_folder.folder_of(run, room.settings).log_file.write_bytes(b"\xff\xfe\n" * 500)

    assert len(runs.log_tail(run)) == 40


def test_a_run_that_waits_is_cancelled_at_once(room: Classroom):
    run = room.start()
    with open_session(room.engine, write=True) as session:
        runs.cancel(session, session.get_one(Run, run.id))

    assert (room.run().state, room.job().state) == ("cancelled", "cancelled")
    with open_session(room.engine, write=True) as session, pytest.raises(Conflict):
        runs.cancel(session, room.run())
    assert room.start().id != run.id


@pytest.mark.parametrize("mode", ["crash", "refuses"])
def test_a_run_that_failed_goes_on_when_asked_and_repeats_no_finished_stage(room: Classroom, mode: str):
    run = room.start()
    room.worker(mode).run_until_idle()
    with open_session(room.engine, write=True) as session:
        runs.resume(session, session.get_one(Run, run.id))
    room.worker().run_until_idle()

    with open_session(room.engine) as session:
        assert session.get_one(Run, run.id).state == "finished"
    assert room.version().run_id == run.id


def test_a_run_that_is_under_way_or_done_cannot_be_resumed(room: Classroom):
    run = room.start()
    with open_session(room.engine, write=True) as session, pytest.raises(Conflict):
        runs.resume(session, session.get_one(Run, run.id))
    room.worker().run_until_idle()
    with open_session(room.engine, write=True) as session, pytest.raises(Conflict):
        runs.resume(session, session.get_one(Run, run.id))


def test_a_stopped_run_waits_while_another_is_taught(room: Classroom):
    stopped = room.start()
    with open_session(room.engine, write=True) as session:
        runs.cancel(session, session.get_one(Run, stopped.id))
    room.start()
    with open_session(room.engine, write=True) as session, pytest.raises(Conflict):
        runs.resume(session, session.get_one(Run, stopped.id))


def test_a_run_cut_off_before_its_version_was_saved_makes_it_once(room: Classroom):
    """The folder is in place, the transaction was lost: the next attempt makes the same version again."""
    orphan = room.settings.folder("versions") / "ferry-v1"
    orphan.mkdir()
    (orphan / "stale").touch()

    room.teach()

    assert not (orphan / "stale").exists()
    assert (orphan / "model.gguf").exists()
    assert room.version().number == 1


def test_another_projects_run_is_not_found(room: Classroom, session):
    run = room.start()
    other = Project(slug="other", name="Other")

    with pytest.raises(NotFound):
        runs.get(session, other, run.id or 0)


def test_the_card_survives_in_the_database_alone(room: Classroom):
    room.teach()

    assert json.loads(json.dumps(room.run().card))["checks"][0]["name"] == "held_out"
