"""Versions: published once, one in service, never none, always a way back."""

from __future__ import annotations

from pathlib import Path

import pytest
from sqlalchemy import Engine
from sqlmodel import Session, select

from curator.errors import Conflict, Invalid
from curator.services import bases, versions
from curator.settings import Settings
from db.models import Job, ModelVersion, Project, Run
from db.session import open_session
from tests.curator.teaching import Classroom, classroom
from trainer.runtimes.base import ModelMissing, RuntimeFailure, RuntimeUnavailable
from trainer.runtimes.fake import FakeRuntime


@pytest.fixture
def room(engine: Engine, settings: Settings, tmp_path: Path) -> Classroom:
    return classroom(engine, settings, tmp_path)


@pytest.fixture
def runtime(monkeypatch: pytest.MonkeyPatch) -> FakeRuntime:
    runtime = FakeRuntime()
    monkeypatch.setattr(versions, "open_runtime", lambda *_args, **_named: runtime)
    return runtime


def light(room: Classroom) -> None:
    room.worker(queue="light").run_until_idle()


def published(room: Classroom) -> ModelVersion:
    room.teach()
    light(room)
    return room.version()


def project(room: Classroom, session: Session) -> Project:
    return session.get_one(Project, room.project.id)


def promote(room: Classroom, version: ModelVersion | None, reason: str = "") -> None:
    with open_session(room.engine, write=True) as session:
        versions.promote(session, project(room, session), version, None, reason)


def pointer(room: Classroom) -> int | None:
    with open_session(room.engine) as session:
        return project(room, session).service_version_id


def served_tag(room: Classroom) -> str:
    """The name that the project's users are answered by."""
    with open_session(room.engine) as session:
        where = project(room, session)
        base = bases.get(session, where.base_id)
        version = session.get(ModelVersion, where.service_version_id or 0)
    return versions.answering(base, version, room.settings)[0]


def states(room: Classroom) -> list[str]:
    with open_session(room.engine) as session:
        return [version.state for version in versions.every(session, project(room, session))]


def test_a_version_that_passed_is_published_and_spoken_to(room: Classroom, runtime: FakeRuntime):
    version = published(room)

    assert (version.state, version.runtime, version.message) == ("published", "fake", "")
    publication = runtime.publications[version.tag]
    assert publication.merged == Path(version.folder) / "model.gguf"
    assert publication.adapter == Path(version.folder) / "adapter.gguf"
    assert publication.stop == ("<|im_end|>",)
    assert [call.tag for call in runtime.calls if call.method == "chat"] == [version.tag]
    assert served_tag(room) in runtime.served


def test_while_the_runtime_is_away_the_version_stays_built_and_is_tried_later(room: Classroom, runtime: FakeRuntime):
    runtime.fail_with = RuntimeUnavailable("Ollama does not answer.")
    version = published(room)

    assert (version.state, version.message) == ("built", "Ollama does not answer.")
    assert (room.job("publish").state, room.run().state) == ("queued", "finished")


def test_a_version_that_says_nothing_is_not_published(room: Classroom, runtime: FakeRuntime):
    room.teach()
    runtime.answers[room.version().tag] = " "
    light(room)

    assert room.version().state == "built"
    assert "says nothing" in room.version().message
    assert room.job("publish").state == "failed"


def test_a_damaged_file_never_reaches_the_runtime(room: Classroom, runtime: FakeRuntime):
    version = room.teach()
    (Path(version.folder) / "model.gguf").write_bytes(b"GGUF\x03\x00")
    light(room)

    assert room.version().state == "built"
    assert runtime.publications == {}


def test_what_a_crash_left_half_published_is_finished_by_the_repair(room: Classroom, runtime: FakeRuntime):
    runtime.fail_with = RuntimeFailure("It broke.")
    published(room)
    assert room.job("publish").state == "failed"
    runtime.fail_with = None

    with open_session(room.engine, write=True) as session:
        assert versions.repair(session, room.settings) == 1
    light(room)

    assert room.version().state == "published"


def test_promote_moves_the_pointer_the_states_and_the_alias(room: Classroom, runtime: FakeRuntime):
    version = published(room)

    promote(room, version, "Better on the timetable.")
    light(room)

    assert (pointer(room), states(room)) == (version.id, ["in service"])
    assert runtime.publications["ferry:current"] == runtime.publications[version.tag]
    with open_session(room.engine) as session:
        [promotion] = versions.promotions(session, project(room, session))
        assert (promotion.version_id, promotion.previous_id) == (version.id, None)
        assert promotion.reason == "Better on the timetable."
    assert served_tag(room) == version.tag


def roll_back(room: Classroom) -> None:
    with open_session(room.engine, write=True) as session:
        versions.roll_back(session, project(room, session), None, "")


def test_going_back_puts_the_version_before_into_service(room: Classroom, runtime: FakeRuntime):
    first = published(room)
    promote(room, first)
    second = published(room)
    promote(room, second)
    assert states(room) == ["in service", "published"]

    roll_back(room)
    assert (pointer(room), states(room)) == (first.id, ["published", "in service"])

    roll_back(room)
    assert pointer(room) == second.id, "going back can be undone, too"


def test_going_back_from_the_first_version_is_the_base(room: Classroom, runtime: FakeRuntime):
    promote(room, published(room))

    roll_back(room)

    assert (pointer(room), states(room)) == (None, ["published"])
    with pytest.raises(Conflict):
        roll_back(room)


def test_what_is_not_published_cannot_be_promoted(room: Classroom):
    version = room.teach()

    with pytest.raises(Conflict):
        promote(room, version)

    assert pointer(room) is None


def test_a_version_that_failed_its_checks_needs_a_reason(room: Classroom, runtime: FakeRuntime):
    version = room.teach("poor")
    with open_session(room.engine, write=True) as session:
        versions.request_publish(session, version, None)
    light(room)

    with pytest.raises(Invalid):
        promote(room, room.version(), "  ")
    promote(room, room.version(), "The old one is worse still.")

    assert pointer(room) == version.id


@pytest.mark.parametrize("name", ["parity", "differs"])
def test_a_version_that_would_not_be_served_as_it_was_taught_is_loaded_for_no_reason(room: Classroom, name: str):
    version = room.teach("poor")
    with open_session(room.engine, write=True) as session:
        version.gate = [{"name": name, "passed": False, "detail": "Token 7 differs."}]

        with pytest.raises(Invalid, match="otherwise than it was taught"):
            versions.request_publish(session, version, None)

    with open_session(room.engine) as session:
        assert session.exec(select(Job).where(Job.kind == "publish")).first() is None


def test_of_two_promotions_at_once_one_wins(room: Classroom, runtime: FakeRuntime):
    first, second = published(room), published(room)
    with open_session(room.engine) as session:
        stale = project(room, session)
    promote(room, first)

    with open_session(room.engine, write=True) as session, pytest.raises(Conflict, match="Somebody else"):
        versions.promote(session, stale, second, None, "")

    assert pointer(room) == first.id
    assert states(room) == ["published", "in service"]


def test_the_version_in_service_cannot_be_retired_and_another_frees_its_room(room: Classroom, runtime: FakeRuntime):
    first, second = published(room), published(room)
    promote(room, second)

    with open_session(room.engine, write=True) as session, pytest.raises(Conflict):
        versions.retire(session, session.get_one(ModelVersion, second.id), None)
    with open_session(room.engine, write=True) as session:
        versions.retire(session, session.get_one(ModelVersion, first.id), None)
    light(room)

    assert states(room) == ["in service", "retired"]
    assert not Path(first.folder).exists() and Path(second.folder).exists()
    assert first.tag not in runtime.served and second.tag in runtime.served
    with open_session(room.engine) as session:
        run = session.get_one(Run, first.run_id)
    assert not (Path(run.folder) / "model.gguf").exists()
    assert (Path(run.folder) / "evaluation.json").exists()


def test_retiring_bears_a_runtime_that_forgot_the_version(room: Classroom, runtime: FakeRuntime):
    version = published(room)
    runtime.remove(version.tag)
    with pytest.raises(ModelMissing):
        runtime.show(version.tag)
    with open_session(room.engine, write=True) as session:
        versions.retire(session, session.get_one(ModelVersion, version.id), None)
    light(room)

    assert room.job("remove").state == "done"


def test_a_home_that_moved_is_followed(room: Classroom, runtime: FakeRuntime):
    version = published(room)
    with open_session(room.engine, write=True) as session:
        session.get_one(ModelVersion, version.id).folder = "/nowhere/versions/ferry-v1"
        versions.repair(session, room.settings)

    assert room.version().folder == version.folder


def test_ollama_is_chosen_when_it_is_set_and_the_embedded_runtime_otherwise(settings: Settings):
    with_ollama = settings.model_copy(update={"ollama_url": "http://127.0.0.1:9"})

    assert versions.choose_runtime(settings).name == "llamacpp"
    assert versions.choose_runtime(with_ollama).name == "ollama"
