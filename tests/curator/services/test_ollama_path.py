"""Publishing to Ollama through the app's own services, against a server that speaks its HTTP and can misbehave."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import Engine, update
from sqlmodel import Session, col, select

from curator.routes import arena as arena_routes
from curator.services import accounts, battles, publishing, versions
from curator.settings import Settings
from db.models import Job, ModelVersion, Project, User, utc_now
from db.session import open_session
from tests.curator.taught import School, begin_battle
from tests.curator.teaching import Classroom, classroom
from tests.fakes.ollama_server import FakeOllama
from trainer import net
from trainer.runtimes.fake import FakeRuntime
from trainer.runtimes.table import fake_at

CURRENT = "ferry:current"


@pytest.fixture
def ollama() -> Iterator[FakeOllama]:
    with FakeOllama() as server:
        yield server


@pytest.fixture
def settings(settings: Settings, ollama: FakeOllama) -> Settings:
    return settings.model_copy(update={"ollama_url": ollama.url})


@pytest.fixture
def room(engine: Engine, settings: Settings, tmp_path: Path) -> Classroom:
    return classroom(engine, settings, tmp_path)


def light(room: Classroom) -> None:
    room.worker(queue="light").run_until_idle()


def at_once(room: Classroom) -> None:
    """Let what is to be tried later be due now."""
    with open_session(room.engine, write=True) as session:
        session.exec(update(Job).values(run_after=utc_now()))


def published(room: Classroom) -> ModelVersion:
    room.teach()
    light(room)
    return room.version()


def promote(room: Classroom, version: ModelVersion | None) -> None:
    with open_session(room.engine, write=True) as session:
        versions.promote(session, session.get_one(Project, room.project.id), version, None, "")
    light(room)


def weights(ollama: FakeOllama, tag: str) -> str:
    return ollama.get(tag).weights


def in_service(room: Classroom) -> int | None:
    with open_session(room.engine) as session:
        return session.get_one(Project, room.project.id).service_version_id


def test_a_version_waits_for_an_ollama_that_is_away_instead_of_going_elsewhere(
    room: Classroom, ollama: FakeOllama
) -> None:
    ollama.misbehave = "busy"
    version = published(room)
    assert (version.state, version.runtime, room.job("publish").state) == ("built", "", "queued")
    assert "Ollama is busy" in version.message

    ollama.misbehave = ""
    at_once(room)
    light(room)
    assert (room.version().state, room.version().runtime) == ("published", "ollama")


def test_a_version_is_published_under_its_own_tag_beside_the_base(room: Classroom, ollama: FakeOllama) -> None:
    version = published(room)

    assert (version.state, version.runtime, version.message) == ("published", "ollama", "")
    assert version.tag.startswith("ferry:v1-")
    assert weights(ollama, version.tag) in ollama.blobs
    assert ollama.get(version.tag).parameters["stop"] == ["<|im_end|>"]
    assert any(name.startswith("base-") for name in ollama.models)
    with pytest.raises(Exception, match="not found"):
        ollama.get(CURRENT)


def test_the_current_name_follows_promotion_and_going_back(room: Classroom, ollama: FakeOllama) -> None:
    first = published(room)
    promote(room, first)
    assert ollama.get(CURRENT) == ollama.get(first.tag)
    second = published(room)
    ollama.get(second.tag).system = "told apart"
    promote(room, second)
    assert ollama.get(CURRENT).system == "told apart"

    with open_session(room.engine, write=True) as session:
        versions.roll_back(session, session.get_one(Project, room.project.id), None, "")
    light(room)

    assert in_service(room) == first.id
    assert ollama.get(CURRENT).system == "Be brief."
    assert {first.tag, second.tag} <= {name.removesuffix(":latest") for name in ollama.models} | set(ollama.models)


def test_the_base_can_be_put_back_and_the_current_name_follows(room: Classroom, ollama: FakeOllama) -> None:
    promote(room, published(room))
    with open_session(room.engine, write=True) as session:
        versions.roll_back(session, session.get_one(Project, room.project.id), None, "")
    light(room)

    base = next(name for name in ollama.models if name.startswith("base-"))
    assert in_service(room) is None
    assert ollama.get(CURRENT) == ollama.models[base]


def battle_place(room: Classroom) -> tuple[School, User]:
    place = School(room.engine, room.settings, room.project, room.snapshot, FakeRuntime())
    return place, place.person()


def streamed(app: Any, client: Any, battle_id: int, side: str) -> tuple[list[str], str]:
    """Answer the event names of a stream and the text of its last event."""
    answer = client.get(f"/p/ferry/battles/{battle_id}/turns/1/{side}")
    lines = answer.text.splitlines()
    kinds = [line.removeprefix("event: ") for line in lines if line.startswith("event:")]
    last = json.loads([line for line in lines if line.startswith("data:")][-1].removeprefix("data:"))
    return kinds, last["text"]


@pytest.fixture
def compared(room: Classroom, app: Any) -> Any:
    """A battle between version 1 and the base, both in Ollama, and a client of the person who began it."""
    published(room)
    place, user = battle_place(room)
    battle = begin_battle(place, user, new=1, old=0)
    with open_session(room.engine, write=True) as session:
        token = accounts.sign_in(session, user)
    client = app.test_client()
    client.set_cookie("curator_session", token)
    return place, battle, client


def test_a_comparison_streams_both_sides_from_ollama(compared: Any, app: Any, room: Classroom) -> None:
    _place, battle, client = compared
    left, right = (streamed(app, client, battle.id, side) for side in battles.SIDES)

    assert left[0][-1] == right[0][-1] == "done"
    assert "text" in left[0]
    assert left[1] == f"{room.version().tag} says: Are dogs free?"
    assert right[1].startswith("base-")


@pytest.mark.parametrize("wrong", ["error_in_stream", "stop_mid_stream", "cut_mid_stream", "half_json", "status_500"])
def test_ollama_failing_in_mid_answer_is_told_and_half_an_answer_is_not_kept(
    compared: Any, app: Any, ollama: FakeOllama, wrong: Any
) -> None:
    place, battle, client = compared
    ollama.misbehave = wrong
    kinds, said = streamed(app, client, battle.id, "left")
    assert kinds[-1] == "error"
    with app.test_request_context():
        assert said in arena_routes.troubles().values()
    with open_session(place.engine) as session:
        [turn] = battles.turns_of(session, battle)
    assert turn.left is None

    ollama.misbehave = ""
    assert streamed(app, client, battle.id, "left")[0][-1] == "done"


@pytest.mark.parametrize("wrong", ["error_in_stream", "stop_mid_stream", "wrong_file", "half_json", "cut_mid_stream"])
def test_ollama_failing_while_a_version_is_made_leaves_it_built_with_the_reason(
    room: Classroom, ollama: FakeOllama, wrong: Any
) -> None:
    room.teach()
    ollama.misbehave = wrong
    light(room)

    version = room.version()
    assert (version.state, version.runtime) == ("built", "")
    assert "Ollama" in version.message
    assert "Traceback" not in version.message
    assert (Path(version.folder) / "model.gguf").exists()

    ollama.misbehave = ""
    with open_session(room.engine, write=True) as session:
        versions.request_publish(session, session.get_one(ModelVersion, version.id), None)
    at_once(room)
    light(room)
    assert (room.version().state, room.version().message) == ("published", "")


def test_ollama_that_hangs_is_given_up_and_tried_again_later(
    room: Classroom, ollama: FakeOllama, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(net, "FIRST_SECONDS", 0.3)
    monkeypatch.setattr(net, "IDLE_SECONDS", 0.3)
    room.teach()
    runtime = versions.runtime_named("ollama", room.settings)
    monkeypatch.setattr(versions, "choose_runtime", lambda _settings: runtime)
    ollama.misbehave = "hang"
    light(room)

    assert room.version().state == "built"
    assert (room.job("publish").state, room.job("publish").attempt) == ("queued", 1)

    ollama.misbehave = ""
    ollama.release.set()
    at_once(room)
    light(room)
    assert room.version().state == "published"


def test_an_alias_that_ollama_was_too_sick_for_is_made_when_it_is_well(room: Classroom, ollama: FakeOllama) -> None:
    version = published(room)
    ollama.misbehave = "status_500"
    promote(room, version)
    assert in_service(room) == version.id, "the pointer is the truth, whatever Ollama does"

    ollama.misbehave = ""
    with open_session(room.engine, write=True) as session:
        publishing.request_repair(session)
    at_once(room)
    light(room)
    assert ollama.get(CURRENT) == ollama.get(version.tag)


def test_a_version_that_ollama_forgot_is_loaded_again_by_the_repair(room: Classroom, ollama: FakeOllama) -> None:
    version = published(room)
    promote(room, version)
    ollama.models.clear()
    ollama.blobs.clear()

    with open_session(room.engine, write=True) as session:
        publishing.request_repair(session)
    light(room)

    assert room.version().state == "in service"
    assert ollama.get(CURRENT) == ollama.get(version.tag)


def test_a_version_that_ollama_forgot_can_be_loaded_again_by_hand(room: Classroom, ollama: FakeOllama) -> None:
    version = published(room)
    ollama.models.clear()

    with open_session(room.engine, write=True) as session:
        versions.request_publish(session, session.get_one(ModelVersion, version.id), None)
    light(room)

    assert room.version().state == "published"
    assert weights(ollama, version.tag) in ollama.blobs


def test_a_project_and_its_tags_have_names_that_ollama_takes(session: Session) -> None:
    from curator.services import projects
    from trainer.runtimes.base import check_name

    for name in ("../x", "渡轮", "A B/C:D", "-"):
        project = projects.create(session, name)
        assert check_name(f"{project.slug}:v1-abcdef12")
    assert len(set(session.exec(select(col(Project.slug))))) == 4


def test_the_embedded_fake_of_this_home_was_not_asked(room: Classroom) -> None:
    published(room)
    assert fake_at(room.settings.home).calls == []
