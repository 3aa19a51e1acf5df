"""Choosing a base model: what a lead and an admin see and may do."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
from flask.testing import FlaskClient
from sqlmodel import Session, select

from curator.services import bases
from db.models import Arrival, Base, Job, Journal, Project, User
from tests.factories import reload
from tests.trainer.bases.store import OllamaStore
from tests.trainer.tiny import write_tiny_llama_gguf
from trainer.bases import ollama_store, refusals


@pytest.fixture
def lead(make_user: Callable[..., User], sign_in: Callable[[User], FlaskClient]) -> FlaskClient:
    return sign_in(make_user("lea", "lead"))


@pytest.fixture
def admin(make_user: Callable[..., User], sign_in: Callable[[User], FlaskClient]) -> FlaskClient:
    return sign_in(make_user("ada", "", admin=True))


@pytest.fixture
def store(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> OllamaStore:
    monkeypatch.setenv("OLLAMA_MODELS", str(tmp_path / "models"))
    return OllamaStore(tmp_path / "models")


@pytest.fixture
def base(session: Session, tmp_path: Path, store: OllamaStore) -> Base:
    base = bases.register(session, write_tiny_llama_gguf(tmp_path / "base.gguf"), name="Tiny & small")
    session.commit()
    return base


def test_the_page_shows_what_is_here_and_what_could_be(lead: FlaskClient, base: Base, store: OllamaStore) -> None:
    store.add_model("gone", write_tiny_llama_gguf(store.root / "x.gguf", seed=4)).unlink()
    store.add_model("qwen2.5:0.5b", write_tiny_llama_gguf(store.root / "y.gguf", seed=5))

    page = lead.get("/p/ferry/bases").text

    assert "Tiny &amp; small" in page and "not checked yet" in page and "Teach this one" in page
    assert "to learn 100 answers" in page
    assert ollama_store.MISSING.replace("'", "&#39;") in page
    assert "English, Chinese, many more" in page
    assert "Qwen3-0.6B" in page and "SmolLM2-1.7B-Instruct" in page
    assert "Qwen2.5-0.5B-Instruct" in page
    assert "Path of the GGUF file" not in page


def test_choosing_one_is_noted_and_shown_in_the_settings(
    lead: FlaskClient, session: Session, project: Project, base: Base
) -> None:
    answer = lead.post(f"/p/ferry/bases/{base.id}/choose", headers={"HX-Request": "true"})

    reload(session, project)
    assert project.base_id == base.id
    assert "this project’s" in answer.text and "Teach this one" not in answer.text
    assert session.exec(select(Journal.action)).all() == ["chose base"]
    assert "Tiny &amp; small" in lead.get("/p/ferry/settings").text


def test_one_that_failed_its_check_is_refused_in_its_own_words(
    lead: FlaskClient, session: Session, project: Project, base: Base
) -> None:
    base.admission, base.admission_message = "failed", refusals.ROPE
    session.add(base)
    session.commit()

    answer = lead.post(f"/p/ferry/bases/{base.id}/choose")
    lead.set_cookie("language", "zh_Hans")
    chinese = lead.post(f"/p/ferry/bases/{base.id}/choose").text

    reload(session, project)
    assert answer.status_code == 422 and "rope scaling" in answer.text
    assert "请添加生成该文件的全精度文件夹" in chinese
    assert project.base_id is None
    page = lead.get("/p/ferry/bases").text
    assert "请添加生成该文件的全精度文件夹" in page and "选用这一个" not in page


def test_a_check_can_be_asked_for_and_the_page_follows_it(
    lead: FlaskClient, session: Session, base: Base, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("curator.services.admission.find_spec", lambda _name: True)

    answer = lead.post(f"/p/ferry/bases/{base.id}/check", headers={"HX-Request": "true"})

    assert session.exec(select(Job.kind)).all() == ["admit"]
    assert "being checked" in answer.text and 'hx-trigger="every 2s"' in answer.text
    assert lead.get("/p/ferry/bases/list").text.count("being checked") == 1


def test_one_from_the_hub_is_on_its_way_and_can_be_stopped(lead: FlaskClient, session: Session, base: Base) -> None:
    answer = lead.post("/p/ferry/bases", data={"source": "hub", "origin": "owner/tiny-GGUF", "file": ""})
    arrival = session.exec(select(Arrival)).one()
    session.commit()

    assert answer.headers["Location"] == "/p/ferry/bases"
    assert "waits its turn" in lead.get("/p/ferry/bases").text
    stopped = lead.post(f"/p/ferry/bases/arrivals/{arrival.id}/cancel", headers={"HX-Request": "true"})
    assert "owner/tiny-GGUF" not in stopped.text


@pytest.mark.parametrize(
    ("data", "said"),
    [
        ({"source": "hub", "origin": "../../etc/passwd"}, "named like owner/name"),
        ({"source": "file", "origin": "/etc/passwd"}, "not one of the choices"),
        ({"origin": "x"}, "source"),
    ],
)
def test_what_is_no_place_is_refused(lead: FlaskClient, session: Session, data: dict[str, str], said: str) -> None:
    answer = lead.post("/p/ferry/bases", data=data)

    assert answer.status_code == 422 and said in answer.text
    assert session.exec(select(Arrival)).all() == []


def test_paths_on_the_machine_are_for_admins(
    lead: FlaskClient, admin: FlaskClient, session: Session, base: Base
) -> None:
    assert lead.post("/p/ferry/bases/file", data={"path": base.path}).status_code == 403
    assert lead.post(f"/p/ferry/bases/{base.id}/folder", data={"folder": "/"}).status_code == 403

    assert "Path of the GGUF file" in admin.get("/p/ferry/bases").text
    assert admin.post("/p/ferry/bases/file", data={"path": base.path}).status_code == 303
    refused = admin.post(f"/p/ferry/bases/{base.id}/folder", data={"folder": "/nowhere"})
    assert refused.status_code == 422 and "There is no such folder" in refused.text


def test_a_base_whose_file_is_gone_says_so(lead: FlaskClient, base: Base) -> None:
    Path(base.path).unlink()

    page = lead.get("/p/ferry/bases").text

    assert "file is gone" in page and "Teach this one" not in page
