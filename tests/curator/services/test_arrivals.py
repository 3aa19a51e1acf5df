"""Bases come in from each place, are tested, and say in a sentence why they do not."""

from __future__ import annotations

import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from pytest_httpserver import HTTPServer
from sqlalchemy import Engine
from sqlmodel import Session, select

from curator.errors import Conflict, Invalid
from curator.services import admission, arrivals, bases
from curator.settings import Settings
from curator.worker import Worker
from db.models import Arrival, Base, Job, Project
from db.session import open_session
from tests.curator.teaching import launcher
from tests.factories import reload
from tests.fakes.hub import FakeHub
from tests.trainer.bases.store import OllamaStore
from tests.trainer.originals import write_original
from tests.trainer.tiny import Shape, tiny_weights, write_tiny_llama_gguf
from tests.trainer.tiny_lora import write_adapter
from trainer.bases import hub, ollama_store, refusals


@pytest.fixture
def base_file(tmp_path: Path) -> Path:
    return write_tiny_llama_gguf(tmp_path / "base.gguf")


@pytest.fixture
def settings(settings: Settings, httpserver: HTTPServer) -> Settings:
    return settings.model_copy(update={"hub_url": httpserver.url_for("").rstrip("/")})


@pytest.fixture
def work(engine: Engine, settings: Settings) -> Callable[..., None]:
    """Do all jobs of both queues with the stand-in trainer."""

    def do(mode: str = "good") -> None:
        for queue in ("train", "light"):
            Worker(settings, queue, engine=engine, launcher=launcher(mode)).run_until_idle()  # pyright: ignore

    return do


def ask(session: Session, source: str, origin: str, file: str = "") -> Arrival:
    arrival = arrivals.request(session, source, origin, file)
    session.commit()
    return arrival


def only_base(session: Session) -> Base:
    session.rollback()
    return session.exec(select(Base)).one()


def test_a_file_is_used_where_it_lies_and_tested(session: Session, base_file: Path, work: Any) -> None:
    arrival = ask(session, "file", f" {base_file} ")

    work()

    reload(session, arrival)
    base = only_base(session)
    assert (arrival.state, arrival.base_id) == ("done", base.id)
    assert (base.path, base.source, base.origin) == (str(base_file), "file", "")
    assert (base.admission, base.admission_message, base.admission_detail) == ("passed", "", "3 of 3")
    assert base.parameters > 90_000


def test_ollamas_file_keeps_its_place_and_its_name(
    session: Session, base_file: Path, tmp_path: Path, work: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OLLAMA_MODELS", str(tmp_path / "models"))
    blob = OllamaStore(tmp_path / "models").add_model("qwen2.5:0.5b", base_file)
    before = sorted((tmp_path / "models").rglob("*"))

    ask(session, "ollama", "qwen2.5:0.5b")
    work()

    base = only_base(session)
    assert (base.path, base.source, base.origin) == (str(blob), "ollama", "qwen2.5:0.5b")
    assert (base.name, base.licence, base.languages) == ("Qwen2.5-0.5B-Instruct", "Apache-2.0", "en zh +")
    assert sorted((tmp_path / "models").rglob("*")) == before


def test_a_repository_is_downloaded_into_the_home(
    session: Session, settings: Settings, base_file: Path, httpserver: HTTPServer, work: Any
) -> None:
    FakeHub(httpserver).add("owner/tiny-GGUF", "tiny-Q8_0.gguf", base_file.read_bytes())

    ask(session, "hub", f"{settings.hub_url}/owner/tiny-GGUF")
    work()

    base = only_base(session)
    assert Path(base.path).parent == settings.home / "bases"
    assert (base.source, base.origin, base.licence) == ("hub", "owner/tiny-GGUF", "apache-2.0")
    assert base.admission == "passed"


def test_a_download_that_breaks_off_is_tried_again_by_itself(
    session: Session, engine: Engine, base_file: Path, httpserver: HTTPServer, work: Any
) -> None:
    fake = FakeHub(httpserver)
    fake.add("owner/tiny-GGUF", "tiny-Q8_0.gguf", base_file.read_bytes())
    fake.cut = 300_000
    arrival = ask(session, "hub", "owner/tiny-GGUF")

    work()
    reload(session, arrival)
    assert arrival.state == "bringing"
    fake.cut = None
    job = session.exec(select(Job).where(Job.kind == "arrive")).one()
    job.run_after = job.created_at
    session.commit()
    work()

    reload(session, arrival)
    assert arrival.state == "done"
    assert fake.asked[-1][1].startswith("bytes=")


@pytest.mark.parametrize(
    ("source", "origin", "sentence"),
    [
        ("file", "/nowhere/x.gguf", "There is no file x.gguf. Choose another one."),
        ("file", "{adapter}", "adapter.gguf is an adapter, not a whole model. Choose the model it belongs to."),
        ("ollama", "gone", ollama_store.MISSING),
        ("hub", "owner/nothing", hub.NO_REPOSITORY),
    ],
)
def test_what_cannot_come_says_why_and_can_be_put_away(
    session: Session, tmp_path: Path, base_file: Path, httpserver: HTTPServer, work: Any, source: str, origin: str,
    sentence: str, monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    FakeHub(httpserver)
    monkeypatch.setenv("OLLAMA_MODELS", str(tmp_path / "models"))
    OllamaStore(tmp_path / "models").add_model("gone", base_file).unlink()
    adapter = write_adapter(base_file, tmp_path / "adapter.gguf")
    arrival = ask(session, source, origin.replace("{adapter}", str(adapter)))

    work()

    reload(session, arrival)
    assert (arrival.state, arrival.error) == ("failed", sentence)
    assert arrivals.shown(session) == [arrival]
    arrivals.cancel(session, arrival)
    assert arrivals.shown(session) == []
    assert session.exec(select(Base)).all() == []


def test_a_failed_one_can_be_tried_again(session: Session, tmp_path: Path, work: Any) -> None:
    arrival = ask(session, "file", str(tmp_path / "later.gguf"))
    work()
    write_tiny_llama_gguf(tmp_path / "later.gguf")
    reload(session, arrival)

    arrivals.again(session, arrival)
    session.commit()
    work()

    assert only_base(session).path == str(tmp_path / "later.gguf")
    assert arrivals.shown(session) == []


def test_the_same_one_is_not_brought_in_twice(session: Session, base_file: Path) -> None:
    first, second = ask(session, "file", str(base_file)), ask(session, "file", str(base_file))

    assert first.id == second.id


@pytest.mark.parametrize(("source", "origin"), [("web", "x"), ("file", " "), ("hub", "../x"), ("hub", "")])
def test_nonsense_is_refused_at_once(session: Session, source: str, origin: str) -> None:
    with pytest.raises(Invalid):
        arrivals.request(session, source, origin)


def test_one_that_waits_can_be_stopped(session: Session, base_file: Path, work: Any) -> None:
    arrival = ask(session, "file", str(base_file))
    arrivals.cancel(session, arrival)
    session.commit()

    work()

    reload(session, arrival)
    assert arrival.state == "cancelled"
    assert session.exec(select(Base)).all() == []


def test_a_base_that_fails_the_test_is_not_taught(
    session: Session, project: Project, base_file: Path, tmp_path: Path, work: Any
) -> None:
    ask(session, "file", str(base_file))
    work("poor")
    base = only_base(session)

    with pytest.raises(Invalid, match="rope scaling"):
        bases.choose(session, project, base)
    shape = Shape()
    bases.set_folder(session, base, str(write_original(tmp_path / "original", tiny_weights(shape), shape)))
    session.commit()
    with pytest.raises(Conflict, match="being checked"):
        bases.choose(session, project, base)
    session.commit()
    work()

    reload(session, base, project)
    bases.choose(session, project, base)
    assert project.base_id == base.id
    assert base.folder == str(tmp_path / "original")


def test_a_folder_of_another_model_is_refused_and_changes_nothing(
    session: Session, base_file: Path, tmp_path: Path
) -> None:
    base = bases.register(session, base_file)
    shape = Shape(hidden=128)

    with pytest.raises(Invalid, match="another model"):
        bases.set_folder(session, base, str(write_original(tmp_path / "original", tiny_weights(shape), shape)))

    assert base.folder == ""


def test_a_test_that_breaks_off_leaves_the_base_unchecked_but_usable(
    session: Session, project: Project, base_file: Path, work: Any
) -> None:
    ask(session, "file", str(base_file))
    work("crash")

    base = only_base(session)
    assert (base.admission, base.admission_message) == ("not checked", refusals.NOT_ANSWERED)
    bases.choose(session, project, base)


def test_without_the_runtime_it_says_so_and_queues_nothing(
    session: Session, base_file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(admission, "find_spec", lambda name: name != "xllamacpp" or None)
    base = bases.register(session, base_file)

    admission.request(session, base)

    assert (base.admission, base.admission_message) == ("not checked", refusals.NO_RUNTIME)
    assert session.exec(select(Job)).all() == []


def test_a_worker_that_leaves_gives_the_test_back(
    session: Session, engine: Engine, settings: Settings, base_file: Path
) -> None:
    base = bases.register(session, base_file)
    admission.request(session, base)
    session.commit()
    worker = Worker(settings, "light", engine=engine, launcher=launcher("slow", 0.2))
    threading.Timer(0.3, worker.leave).start()
    worker.run_once()

    with open_session(engine) as fresh:
        assert fresh.exec(select(Job).where(Job.kind == "admit")).one().state == "queued"
