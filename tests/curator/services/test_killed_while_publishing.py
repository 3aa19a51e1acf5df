"""Killed at any moment of publishing and promoting: the next start puts it right, and users never notice."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import Engine, update
from sqlmodel import select

from curator.services import publishing, versions
from curator.settings import Settings
from db.models import Job, ModelVersion, Project, utc_now
from db.session import open_session
from tests.curator.teaching import Classroom, classroom
from tests.fakes.ollama_server import FakeOllama
from trainer.rundir import sha256_of
from trainer.runtimes.ollama import OllamaRuntime

CURRENT = "ferry:current"
FILES = {"merged": "model.gguf", "adapter": "adapter.gguf"}


class Killed(BaseException):
    """The process is gone: nothing in it may catch this and carry on."""


@pytest.fixture(params=["merged", "adapter"])
def form(request: pytest.FixtureRequest) -> str:
    return request.param


@pytest.fixture
def ollama(form: str) -> Iterator[FakeOllama]:
    with FakeOllama("0.35.0" if form == "merged" else "0.33.0") as server:
        yield server


@pytest.fixture
def room(engine: Engine, settings: Settings, ollama: FakeOllama, form: str, tmp_path: Path) -> Classroom:
    return classroom(engine, settings.model_copy(update={"ollama_url": ollama.url, "ollama_form": form}), tmp_path)


def whole_in(ollama: FakeOllama, version: ModelVersion) -> bool:
    """Tell whether Ollama has a version's own files under its tag, in the form that was wished."""
    folder, made = Path(version.folder), ollama.get(version.tag)
    if version.form == "merged":
        return (made.weights, made.adapters) == (sha256_of(folder / "model.gguf"), [])
    base = next(model for name, model in ollama.models.items() if name.startswith("base-"))
    return (made.weights, made.adapters) == (base.weights, [sha256_of(folder / "adapter.gguf")])


def light(room: Classroom) -> None:
    room.worker(queue="light").run_until_idle()


def dies(monkeypatch: pytest.MonkeyPatch, owner: Any, name: str, *, after: bool) -> None:
    """Let the process die at a call, before or after it has done its work."""
    real = getattr(owner, name)

    def call(*args: Any, **named: Any) -> None:
        if after:
            real(*args, **named)
        raise Killed

    monkeypatch.setattr(owner, name, call)


def killed(room: Classroom) -> None:
    with pytest.raises(Killed):
        light(room)


def start_again(room: Classroom) -> None:
    """Do what `curator up` does after a crash: the dead worker's lease is over, the repair is queued."""
    with open_session(room.engine, write=True) as session:
        session.exec(update(Job).where(Job.state == "running").values(lease_until=utc_now() - timedelta(1)))  # pyright: ignore
        publishing.request_repair(session)
    light(room)


def promote(room: Classroom, version: ModelVersion | None) -> None:
    with open_session(room.engine, write=True) as session:
        versions.promote(session, session.get_one(Project, room.project.id), version, None, "")


def in_service(room: Classroom) -> list[int]:
    with open_session(room.engine) as session:
        serving = session.exec(select(ModelVersion.number).where(ModelVersion.state == "in service")).all()
        assert {session.get_one(Project, room.project.id).service_version_id} - {None} == set(
            session.exec(select(ModelVersion.id).where(ModelVersion.state == "in service"))
        )
    return list(serving)


@pytest.fixture
def first(room: Classroom) -> ModelVersion:
    """A version in service, before the one that the tests are about."""
    room.teach()
    light(room)
    version = room.version()
    promote(room, version)
    light(room)
    return version


@pytest.mark.parametrize("after", [False, True], ids=["before", "after"])
@pytest.mark.parametrize("moment", ["_upload", "_create", "_show", "chat", "loaded", "frees"])
def test_a_version_whose_publisher_is_killed_is_whole_at_the_next_start(
    room: Classroom,
    ollama: FakeOllama,
    first: ModelVersion,
    monkeypatch: pytest.MonkeyPatch,
    form: str,
    moment: str,
    after: bool,
) -> None:
    room.teach()
    with monkeypatch.context() as patch:
        dies(patch, versions if moment == "loaded" else OllamaRuntime, moment, after=after)
        killed(room)
    assert room.version().state == ("published" if moment == "frees" else "built"), "half published is not published"
    assert in_service(room) == [1]
    assert ollama.get(CURRENT) == ollama.get(first.tag)

    start_again(room)

    second = room.version()
    assert (second.state, second.form, second.message, in_service(room)) == ("published", form, "", [1])
    assert whole_in(ollama, second)
    assert [name for name in ollama.models if name.startswith("ferry:")] == [first.tag, CURRENT, second.tag]


def test_an_upload_that_is_cut_off_is_not_taken_for_the_whole(
    room: Classroom, ollama: FakeOllama, monkeypatch: pytest.MonkeyPatch
) -> None:
    version = room.teach()
    with monkeypatch.context() as patch:
        patch.setattr("trainer.runtimes.ollama.PIECE", 4096)
        patch.setattr("curator.services.loading.Teller.__call__", _dies_at(0.5))
        killed(room)
    assert ollama.blobs == {}
    assert ollama.models == {}

    start_again(room)
    assert whole_in(ollama, room.version())
    assert room.version().frees == (Path(version.folder) / FILES[room.version().form]).stat().st_size


def _dies_at(share: float) -> Callable[..., None]:
    def tell(_self: Any, status: str, done: float | None) -> None:
        if status == "uploading" and (done or 0) > share:
            raise Killed

    return tell


@pytest.mark.parametrize("after", [False, True], ids=["before", "after"])
def test_a_name_that_was_not_moved_before_the_kill_is_moved_at_the_next_start(
    room: Classroom, ollama: FakeOllama, first: ModelVersion, monkeypatch: pytest.MonkeyPatch, after: bool
) -> None:
    room.teach()
    light(room)
    second = room.version()
    ollama.get(second.tag).system = "told apart"
    promote(room, second)
    with monkeypatch.context() as patch:
        dies(patch, OllamaRuntime, "copy", after=after)
        killed(room)
    assert in_service(room) == [2]

    start_again(room)

    assert ollama.get(CURRENT).system == "told apart"


def test_a_kill_within_the_promotion_leaves_what_was_there(
    room: Classroom, first: ModelVersion, monkeypatch: pytest.MonkeyPatch
) -> None:
    room.teach()
    light(room)
    with monkeypatch.context() as patch:
        dies(patch, versions.journal, "note", after=False)
        with pytest.raises(Killed):
            promote(room, room.version())

    start_again(room)

    assert in_service(room) == [1]


def test_the_name_is_repaired_after_going_back_to_the_base_too(
    room: Classroom, ollama: FakeOllama, first: ModelVersion, monkeypatch: pytest.MonkeyPatch
) -> None:
    promote(room, None)
    ollama.misbehave = "status_500"
    light(room)
    assert room.job("alias").state == "failed"

    ollama.misbehave = ""
    start_again(room)

    base = next(model for name, model in ollama.models.items() if name.startswith("base-"))
    assert ollama.get(CURRENT) == base


def test_who_promotes_while_the_name_is_being_moved_is_not_forgotten(
    room: Classroom, ollama: FakeOllama, first: ModelVersion, monkeypatch: pytest.MonkeyPatch
) -> None:
    room.teach()
    light(room)
    second, real, begun = room.version(), OllamaRuntime.copy, []
    ollama.get(second.tag).system = "told apart"
    promote(room, second)

    def copy(self: OllamaRuntime, source: str, destination: str) -> None:
        real(self, source, destination)
        if not begun:
            begun.append(source)
            promote(room, first)

    monkeypatch.setattr(OllamaRuntime, "copy", copy)
    light(room)

    assert in_service(room) == [1]
    assert ollama.get(CURRENT).system == "Be brief."


def test_a_version_retired_while_it_is_published_leaves_nothing_in_ollama(
    room: Classroom, ollama: FakeOllama, monkeypatch: pytest.MonkeyPatch
) -> None:
    version, real = room.teach(), OllamaRuntime.publish

    def publish(self: OllamaRuntime, publication: Any, progress: Any) -> Any:
        served = real(self, publication, progress)
        if publication.tag == version.tag:
            with open_session(room.engine, write=True) as session:
                versions.retire(session, session.get_one(ModelVersion, version.id), None)
        return served

    monkeypatch.setattr(OllamaRuntime, "publish", publish)
    light(room)

    assert room.version().state == "retired"
    assert not Path(version.folder).exists()
    assert [name for name in ollama.models if name.startswith("ferry:")] == []


def test_a_retired_version_that_still_lies_in_ollama_is_removed_at_the_next_start(
    room: Classroom, ollama: FakeOllama
) -> None:
    room.teach()
    light(room)
    version = room.version()
    with open_session(room.engine, write=True) as session:
        versions.retire(session, session.get_one(ModelVersion, version.id), None)
        session.exec(update(Job).where(Job.kind == "remove").values(state="failed"))  # pyright: ignore
    assert version.tag in ollama.models

    start_again(room)

    assert version.tag not in ollama.models
