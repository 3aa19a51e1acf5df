"""Publishing to a llama-server that somebody started, through the app's own services and real llama.cpp servers."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
from flask.testing import FlaskClient
from sqlalchemy import Engine, update

from curator.services import bases, connect, handover, publishing, versions
from curator.settings import Settings, load_settings
from db.models import Job, ModelVersion, Project, User, utc_now
from db.session import open_session
from tests.curator.teaching import Classroom, classroom
from tests.curator.test_cli import run
from tests.fakes.llama_router import LlamaRouter
from tests.trainer.llama_servers import llama_server
from trainer.evaluation import Evaluation
from trainer.rundir import RunDir, write_model

NOWHERE = "http://127.0.0.1:9"


@pytest.fixture
def room(engine: Engine, settings: Settings, tmp_path: Path) -> Classroom:
    return classroom(engine, settings, tmp_path)


def at(room: Classroom, url: str, models: Path | None = None) -> None:
    """Let versions go to this server from now on."""
    room.settings = room.settings.model_copy(update={"llama_server_url": url, "llama_server_models": models})


def light(room: Classroom) -> None:
    """Let what is to be tried later be due now, and do it."""
    with open_session(room.engine, write=True) as session:
        session.exec(update(Job).values(run_after=utc_now()))
    room.worker(queue="light").run_until_idle()


def taught(room: Classroom, *, examined: bool = False) -> ModelVersion:
    """Teach a version. What the stand-in trainer writes down as its answers is made up, so mostly it is left out."""
    version = room.teach()
    folder = RunDir(room.folder())
    found = folder.evaluation()
    if found and not examined:
        write_model(folder.evaluation_file, found.model_copy(update={"questions": []}))
    return version


def again(room: Classroom, version: ModelVersion) -> None:
    with open_session(room.engine, write=True) as session:
        versions.request_publish(session, session.get_one(ModelVersion, version.id), None)
    light(room)


def promote(room: Classroom, version: ModelVersion) -> None:
    with open_session(room.engine, write=True) as session:
        project, found = session.get_one(Project, room.project.id), session.get_one(ModelVersion, version.id)
        versions.promote(session, project, found, None, "")
    light(room)


def now(room: Classroom, version: ModelVersion) -> ModelVersion:
    with open_session(room.engine) as session:
        return session.get_one(ModelVersion, version.id)


def file_of(version: ModelVersion) -> Path:
    return Path(version.folder) / "model.gguf"


def test_a_version_waits_for_a_server_that_is_away_and_is_recognised_when_it_is_there(room: Classroom):
    at(room, NOWHERE)
    version = taught(room)
    light(room)
    assert (now(room, version).state, room.job("publish").state) == ("built", "queued")
    assert "does not answer" in now(room, version).message

    with llama_server(file_of(version), alias=version.tag) as running:
        at(room, running.url)
        light(room)

    found = now(room, version)
    assert (found.state, found.runtime, found.message) == ("published", "llama-server", "")


def test_a_server_with_something_else_is_said_and_nothing_is_published(room: Classroom):
    version = taught(room)
    with llama_server(file_of(version), alias="mine") as running:
        at(room, running.url)
        light(room)

    found = now(room, version)
    assert (found.state, found.runtime, room.job("publish").state) == ("built", "", "failed")
    assert f"serves mine, not '{version.tag}'. Start it with the command on the version's page" in found.message


def test_answers_that_are_not_those_of_the_examination_keep_it_back(room: Classroom):
    version = taught(room, examined=True)
    with llama_server(file_of(version), alias=version.tag) as running:
        at(room, running.url)
        light(room)

    assert now(room, version).state == "built"
    assert "does not answer as" in now(room, version).message


def test_going_back_says_that_the_server_has_to_be_started_again(
    room: Classroom, sign_in: Callable[[User], FlaskClient], make_lead: Callable[[], User]
):
    first, second = taught(room), taught(room)
    with llama_server(file_of(first), alias=first.tag) as running:
        at(room, running.url)
        light(room)
        promote(room, now(room, first))
        assert (now(room, first).state, room.job("alias").state) == ("in service", "done")
    with llama_server(file_of(second), alias=second.tag) as running:
        at(room, running.url)
        again(room, second)
        promote(room, now(room, second))
        assert (now(room, second).state, now(room, first).state) == ("in service", "published")

        with open_session(room.engine, write=True) as session:
            versions.roll_back(session, session.get_one(Project, room.project.id), None, "")
        light(room)

    back = now(room, first)
    assert (back.state, room.job("alias").state) == ("in service", "failed")
    assert f"serves {second.tag}, not '{first.tag}'" in back.message
    assert "serves ferry:v2" in sign_in(make_lead()).get("/p/ferry/models").text

    with llama_server(file_of(first), alias=first.tag) as running:
        at(room, running.url)
        again(room, first)
    assert (now(room, first).state, now(room, first).message, room.job("alias").state) == ("in service", "", "done")


@pytest.fixture
def make_lead(make_user_in_ferry: Callable[..., User]) -> Callable[[], User]:
    return lambda: make_user_in_ferry("moira", "lead")


@pytest.fixture
def make_user_in_ferry(room: Classroom) -> Callable[..., User]:
    from curator.services import accounts

    def make(login: str, role: str) -> User:
        with open_session(room.engine, write=True) as session:
            user = accounts.create_user(session, login, login.title())
            accounts.set_role(session, user, room.project, role)
        return user

    return make


def test_a_router_follows_promotion_going_back_and_retiring(room: Classroom, tmp_path: Path):
    folder = tmp_path / "models"
    folder.mkdir()
    with LlamaRouter(folder) as router:
        at(room, router.url, folder)
        first, second = taught(room), taught(room)
        light(room)
        base_tag = versions.base_tag(room_base(room))
        names = {f"{tag}.gguf" for tag in (base_tag, first.tag, second.tag)}
        assert {file.name for file in folder.iterdir()} == names

        current = folder / "ferry:current.gguf"
        promote(room, now(room, first))
        assert current.samefile(file_of(first))
        promote(room, now(room, second))
        assert current.samefile(file_of(second))
        with open_session(room.engine, write=True) as session:
            project = session.get_one(Project, room.project.id)
            versions.roll_back(session, project, None, "")
            versions.retire(session, session.get_one(ModelVersion, second.id), None)
        light(room)

        assert current.samefile(file_of(first))
        assert not (folder / f"{second.tag}.gguf").exists() and not Path(second.folder).exists()
        assert router.models["ferry:current"].state == "loaded"

        (folder / f"{first.tag}.gguf").unlink()
        router.scan()
        with open_session(room.engine, write=True) as session:
            publishing.request_repair(session)
        light(room)
        assert (folder / f"{first.tag}.gguf").samefile(file_of(first)), "what the server forgot is loaded again"


def room_base(room: Classroom):
    with open_session(room.engine) as session:
        return bases.get(session, session.get_one(Project, room.project.id).base_id)


def test_retiring_frees_the_files_even_while_a_server_holds_them(room: Classroom):
    version = taught(room)
    with llama_server(file_of(version), alias=version.tag) as running:
        at(room, running.url)
        light(room)
        with open_session(room.engine, write=True) as session:
            versions.retire(session, session.get_one(ModelVersion, version.id), None)
        light(room)

    assert (now(room, version).state, room.job("remove").state) == ("retired", "done")
    assert not Path(version.folder).exists()


def test_what_is_known_of_a_version_is_read_from_its_run(room: Classroom):
    version = taught(room, examined=True)
    folder = RunDir(room.folder())
    plan = folder.plan()
    assert plan
    with open_session(room.engine) as session:
        found = handover.to_publish(session, version).taught
        assert handover.of_version(session, version).taught.answers == ()  # a page does not read a whole run
    assert found.tokens == ()  # the stand-in's lesson is none of the dataset's
    lesson = folder.examples("train")[0].messages[-1].content
    spans = [
        span.model_copy(update={"text": text})
        for span, text in zip(plan.example, ("", lesson, "<|im_end|>"), strict=True)
    ]
    write_model(folder.plan_file, plan.model_copy(update={"example": spans}))
    with open_session(room.engine) as session:
        assert handover.to_publish(session, version).taught.tokens == ("", lesson, "<|im_end|>")
    evaluation = folder.evaluation()
    assert isinstance(evaluation, Evaluation)
    assert [one.new for one in found.answers] == [one.new for one in evaluation.questions]
    assert [turn.role for turn in found.answers[0].messages] == ["system", "user"]


def test_both_servers_at_once_are_refused_in_a_sentence(room: Classroom):
    said = run(
        "doctor", "--home", room.settings.home, code=2, CURATOR_OLLAMA_URL=NOWHERE, CURATOR_LLAMA_SERVER_URL=NOWHERE
    )

    assert "CURATOR_LLAMA_SERVER_URL cannot be" in said and "versions go to one place" in said


def test_an_empty_folder_is_none_and_a_tilde_is_the_home(monkeypatch: pytest.MonkeyPatch, tmp_path: Path):
    monkeypatch.setenv("HOME", str(tmp_path))
    for text, folder in (("", None), ("~/models", tmp_path / "models")):
        monkeypatch.setenv("CURATOR_LLAMA_SERVER_MODELS", text)
        assert load_settings().llama_server_models == folder


def test_the_server_is_chosen_where_it_is_set(settings: Settings):
    settings = settings.model_copy(update={"llama_server_url": NOWHERE})
    assert versions.choose_runtime(settings).name == "llama-server"


def test_doctor_tells_what_the_server_has(room: Classroom, tmp_path: Path):
    version = taught(room)
    home = room.settings.home
    with llama_server(file_of(version), alias=version.tag, key="k") as running:
        env = {"CURATOR_LLAMA_SERVER_URL": running.url, "CURATOR_LLAMA_SERVER_TOKEN": "k"}
        said = run("doctor", "--home", home, code=1, **env)
        assert f"it serves {version.tag}" in said and "is started by hand" in said
        assert "MISSING  llama-server" not in said
    assert "MISSING  llama-server (http" in run("doctor", "--home", home, code=1, **env)
    folder = tmp_path / "models"
    folder.mkdir()
    with LlamaRouter(folder) as router:
        env = {"CURATOR_LLAMA_SERVER_URL": router.url, "CURATOR_LLAMA_SERVER_MODELS": str(folder)}
        assert "loads versions from" in run("doctor", "--home", home, code=1, **env)


def test_other_programs_are_told_how_to_reach_it(room: Classroom, session):
    settings = room.settings.model_copy(update={"llama_server_url": "http://10.0.0.5:8080/"})

    found = connect.of_project(session, room.project, settings)

    assert (found.base_url, found.model, found.kind, found.near) == (
        "http://10.0.0.5:8080/v1", "ferry:current", "llama-server", False,
    )  # fmt: skip
    assert found.system == "Be brief."
