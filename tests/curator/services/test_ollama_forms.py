"""The wish for adapters, from the setting to what Ollama holds; a wish keeps no version back."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from flask.testing import FlaskClient
from sqlalchemy import Engine, update
from sqlmodel import Session

from curator.services import accounts, forms, publishing, versions
from curator.settings import Settings
from db.models import Base, Job, ModelVersion, Project, User, utc_now
from db.session import open_session
from tests.curator.teaching import Classroom, classroom
from tests.curator.test_cli import run
from tests.fakes.ollama_server import FakeOllama, Model
from tests.trainer.tiny import write_tiny_llama_gguf
from trainer.rundir import sha256_of
from trainer.runtimes.base import Publication, RuntimeUnavailable
from trainer.runtimes.fake import FakeRuntime
from trainer.runtimes.ollama import OllamaRuntime


@pytest.fixture
def ollama() -> Iterator[FakeOllama]:
    with FakeOllama("0.33.0") as server:
        yield server


@pytest.fixture
def settings(settings: Settings, ollama: FakeOllama) -> Settings:
    return settings.model_copy(update={"ollama_url": ollama.url, "ollama_form": "adapter"})


@pytest.fixture
def room(engine: Engine, settings: Settings, tmp_path: Path) -> Classroom:
    return classroom(engine, settings, tmp_path)


def work_off(room: Classroom) -> None:
    with open_session(room.engine, write=True) as session:
        session.exec(update(Job).values(run_after=utc_now()))
    room.worker(queue="light").run_until_idle()


def published(room: Classroom) -> ModelVersion:
    room.teach()
    work_off(room)
    return room.version()


def repaired(room: Classroom) -> ModelVersion:
    with open_session(room.engine, write=True) as session:
        publishing.request_repair(session)
    work_off(room)
    return room.version()


def change(room: Classroom, do: Callable[[Session, ModelVersion], Any]) -> ModelVersion:
    with open_session(room.engine, write=True) as session:
        do(session, session.get_one(ModelVersion, room.version().id))
    work_off(room)
    return room.version()


def size_of(version: ModelVersion, name: str) -> int:
    return (Path(version.folder) / name).stat().st_size


def base_of(ollama: FakeOllama) -> Model:
    return next(model for name, model in ollama.models.items() if name.startswith("base-"))


def test_a_version_is_an_adapter_on_the_base_and_frees_a_few_bytes(room: Classroom, ollama: FakeOllama) -> None:
    version = published(room)

    made = ollama.get(version.tag)
    assert (version.state, version.runtime, version.form, version.message) == ("published", "ollama", "adapter", "")
    assert made.adapters == [sha256_of(Path(version.folder) / "adapter.gguf")]
    assert made.weights == base_of(ollama).weights
    assert made.system == "Be brief."
    assert sha256_of(Path(version.folder) / "model.gguf") not in ollama.blobs
    assert version.frees == size_of(version, "adapter.gguf")


@pytest.mark.parametrize("number", ["0.24.0", "0.34.1", "0.35.0"])
def test_an_ollama_that_takes_none_gets_the_merged_file_and_the_reason_is_kept(
    room: Classroom, ollama: FakeOllama, number: str
) -> None:
    ollama.version = number
    version = published(room)

    assert (version.state, version.form) == ("published", "merged")
    assert version.message == (
        "It is loaded as one merged file, because it could not be loaded as an adapter: "
        f"Ollama {number} takes no adapters; 0.30.0 to 0.34.0 do."
    )
    assert sha256_of(Path(version.folder) / "adapter.gguf") not in ollama.blobs
    assert version.frees == size_of(version, "model.gguf")


def test_an_adapter_that_the_engine_cannot_use_leaves_the_merged_file(
    room: Classroom, ollama: FakeOllama, monkeypatch: pytest.MonkeyPatch
) -> None:
    error = "llama-server process has terminated: exit status 1"
    monkeypatch.setattr("tests.fakes.ollama_server.refused_by_engine", lambda _w, adapters, _v: error * bool(adapters))
    version = published(room)

    assert (version.state, version.form, ollama.get(version.tag).adapters) == ("published", "merged", [])
    assert "engine ended when it was to load the model" in version.message


def test_an_adapter_that_is_passed_over_leaves_the_merged_file(
    room: Classroom, ollama: FakeOllama, monkeypatch: pytest.MonkeyPatch
) -> None:
    ollama.misbehave = "adapter_ignored"
    version = published(room)

    assert (version.state, version.form, ollama.get(version.tag).adapters) == ("published", "merged", [])
    assert "answers just as with the base alone" in version.message


def test_a_base_that_somebody_replaced_gets_no_adapter(room: Classroom, ollama: FakeOllama, tmp_path: Path) -> None:
    with open_session(room.engine) as session:
        tag = versions.base_tag(session.get_one(Base, room.project.base_id))
    other = write_tiny_llama_gguf(tmp_path / "other.gguf", ffn=160).read_bytes()
    ollama.blobs["1" * 64], ollama.models[f"{tag}:latest"] = other, Model("1" * 64, len(other))
    version = published(room)

    assert (version.state, version.form) == ("published", "merged")
    assert f"{tag} is not the base that was taught" in version.message


def from_ollama(room: Classroom, origin: str) -> Base:
    with open_session(room.engine, write=True) as session:
        base = session.get_one(Base, room.project.base_id)
        base.source, base.origin = "ollama", origin
    return base


def test_a_base_from_ollama_carries_the_adapter_under_its_own_name(room: Classroom, ollama: FakeOllama) -> None:
    base = from_ollama(room, "smollm:135m")
    ollama.blobs[base.sha256] = Path(base.path).read_bytes()
    ollama.models["smollm:135m"] = Model(base.sha256, base.size, template="chatml")
    version = published(room)

    assert (version.form, version.message) == ("adapter", "")
    assert ollama.get(version.tag).weights == base.sha256


@pytest.mark.parametrize("there", ["nothing", "another model", "one with a renderer"])
def test_where_that_name_does_not_serve_the_base_of_ours_does(room: Classroom, ollama: FakeOllama, there: str) -> None:
    base = from_ollama(room, "smollm:135m")
    if there == "another model":
        ollama.blobs["1" * 64] = write_tiny_llama_gguf(Path(base.path).with_name("o.gguf"), ffn=160).read_bytes()
        ollama.models["smollm:135m"] = Model("1" * 64, 9, template="chatml")
    if there == "one with a renderer":
        ollama.blobs[base.sha256] = Path(base.path).read_bytes()
        ollama.models["smollm:135m"] = Model(base.sha256, 9, template="chatml", renderer="qwen3.5")
    version = published(room)

    assert (version.state, version.form, version.message) == ("published", "adapter", "")
    assert ollama.pulls == []
    assert ollama.get(version.tag).weights == base_of(ollama).weights


def fails_on_adapters(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let an Ollama go away whenever an adapter is created in it."""
    real = OllamaRuntime._create

    def create(self: OllamaRuntime, publication: Publication, *rest: Any) -> None:
        if publication.on:
            raise RuntimeUnavailable("Ollama at http://x broke off. Try again; if it stays so, look at Ollama's log.")
        real(self, publication, *rest)

    monkeypatch.setattr(OllamaRuntime, "_create", create)


def test_an_ollama_that_goes_away_is_asked_again_and_not_given_something_else(
    room: Classroom, monkeypatch: pytest.MonkeyPatch
) -> None:
    room.teach()
    with monkeypatch.context() as patch:
        fails_on_adapters(patch)
        room.worker(queue="light").run_until_idle()
        assert (room.version().state, room.job("publish").state) == ("built", "queued")

    work_off(room)
    assert (room.version().state, room.version().form) == ("published", "adapter")


def test_an_ollama_that_goes_away_of_each_adapter_has_the_merged_file_in_the_end(
    room: Classroom, monkeypatch: pytest.MonkeyPatch
) -> None:
    fails_on_adapters(monkeypatch)
    room.teach()
    for _ in range(3):
        work_off(room)

    assert (room.version().state, room.version().form) == ("published", "merged")
    assert "Ollama at http://x broke off" in room.version().message


def test_after_an_update_of_ollama_a_version_answers_on_and_is_loaded_again_as_one_file(
    room: Classroom, ollama: FakeOllama
) -> None:
    version = published(room)
    change(
        room, lambda session, one: versions.promote(session, session.get_one(Project, room.project.id), one, None, "")
    )
    ollama.version = "0.35.0"

    version = repaired(room)
    assert (version.state, version.form) == ("in service", "adapter")
    assert version.message.startswith(
        "Ollama 0.35.0 takes no adapters any more. This version, which is one, still answers"
    )
    home, url = room.settings.home, ollama.url
    said = run("doctor", "--home", home, code=1, CURATOR_OLLAMA_URL=url, CURATOR_OLLAMA_FORM="adapter")
    assert (
        f"MISSING  {version.tag} is an adapter, which this Ollama still runs but takes no more: load it again" in said
    )
    assert "ok       CURATOR_OLLAMA_FORM=adapter: versions are merged all the same" in said

    version = change(room, lambda session, one: versions.request_publish(session, one, None))
    assert (version.state, version.form) == ("in service", "merged")
    assert "Ollama 0.35.0 takes no adapters; 0.30.0 to 0.34.0 do." in version.message
    assert ollama.get("ferry:current") == ollama.get(version.tag)
    assert ollama.get(version.tag).adapters == []
    assert "takes no more" not in run("doctor", "--home", home, code=1, CURATOR_OLLAMA_URL=url)


def test_an_adapter_that_the_updated_ollama_forgot_comes_back_as_one_file(room: Classroom, ollama: FakeOllama) -> None:
    published(room)
    ollama.models.clear()
    ollama.version = "0.35.0"

    version = repaired(room)

    assert (version.state, version.form) == ("published", "merged")


def test_retiring_frees_what_was_said(room: Classroom, ollama: FakeOllama) -> None:
    first, second = published(room), published(room)
    held = sum(map(len, ollama.blobs.values()))

    retired = change(room, lambda session, one: versions.retire(session, one, None))

    assert retired.id == second.id
    copies = {sha for sha in ollama.blobs if sha != base_of(ollama).weights}
    assert copies >= set(ollama.get(first.tag).adapters)
    assert held - sum(map(len, ollama.blobs.values())) == second.frees
    assert second.tag not in ollama.models


def test_what_an_older_version_frees_is_measured_at_the_next_start(
    room: Classroom,
) -> None:
    version = published(room)
    change(room, lambda _session, one: setattr(one, "frees", None))

    assert repaired(room).frees == size_of(version, "adapter.gguf")


def test_the_wish_is_ollamas_alone(settings: Settings) -> None:
    publication = Publication("ferry:v1", Path("base.gguf"))
    base = Base(name="tiny", path="", sha256="a" * 64, architecture="llama", size=1)

    assert forms.wishes(publication, base, FakeRuntime(), settings) == [publication]


def test_the_page_says_as_what_a_version_lies_in_ollama_and_what_retiring_frees(
    room: Classroom, ollama: FakeOllama, sign_in: Callable[[User], FlaskClient]
) -> None:
    published(room)
    ollama.version = "0.35.0"
    published(room)
    with open_session(room.engine, write=True) as session:
        lead = accounts.create_user(session, "moira", "Moira")
        accounts.set_role(session, lead, room.project, "lead")
    client = sign_in(lead)

    page = client.get("/p/ferry/models", headers={"Accept-Language": "en"}).text
    assert "Ollama · an adapter on its base" in page and "Ollama · one merged file" in page
    assert "Load it again, under “Details”, and it becomes one merged file." in page
    assert "because it could not be loaded as an adapter: Ollama 0.35.0 takes no adapters" in page
    assert "kB in Ollama. The dataset and its results stay." in page
    page = client.get("/p/ferry/models", headers={"Accept-Language": "zh-CN"}).text
    assert "因为无法以适配器的形式加载：Ollama 0.35.0 不接受适配器" in page
    shown = client.get("/p/ferry/models/1", headers={"Accept-Language": "en"}).text
    assert "As an adapter on its base" in shown and "-f Modelfile.adapter" in shown
