"""`curator version`: the same as the models page, for people at a terminal."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from sqlalchemy import Engine

from curator.services import versions
from curator.settings import Settings
from db.models import Project
from db.session import open_session
from tests.curator.teaching import Classroom, classroom
from tests.curator.test_cli import run
from tests.fakes.ollama_server import FakeOllama
from tests.fakes.openai_server import FakeOpenAI


@pytest.fixture
def room(engine: Engine, settings: Settings, tmp_path: Path) -> Classroom:
    return classroom(engine, settings, tmp_path)


def light(room: Classroom) -> None:
    room.worker(queue="light").run_until_idle()


def test_versions_are_listed_promoted_and_put_back(room: Classroom) -> None:
    home = room.settings.home
    with FakeOllama() as ollama:
        room.settings = room.settings.model_copy(update={"ollama_url": ollama.url})
        tags = [room.teach().tag, room.teach().tag]
        light(room)
        listed = run("version", "list", "--home", home).splitlines()
        assert [re.split(r"  +", line)[:4] for line in listed] == [
            ["v2", "published", tags[1], "ollama"], ["v1", "published", tags[0], "ollama"],
        ]  # fmt: skip

        assert run("version", "promote", "1", "--reason", "Tried", "--home", home) == "v1 is in service\n"
        assert run("version", "promote", "2", "--home", home) == "v2 is in service\n"
        assert run("version", "back", "--home", home) == "v1 is in service\n"
        assert "in service already" in run("version", "promote", "1", "--home", home, code=2)
        assert "in service or retired" in run("version", "retire", "1", "--home", home, code=2)
        light(room)
        assert ollama.get("ferry:current") == ollama.get(tags[0])

        said = run("version", "retire", "2", "--home", home)
        assert re.fullmatch(r"v2 is retired, which frees \d+ MB here and \d+ MB in Ollama\n", said)
        light(room)
        assert tags[1] not in ollama.models


def test_a_version_is_exported_and_shown_by_hand(room: Classroom, tmp_path: Path) -> None:
    version = room.teach()
    home = room.settings.home

    files = run("version", "export", "1", tmp_path / "out", "--home", home).split()
    shown = run("version", "show", "1", "--home", home)

    assert [Path(file).name for file in files] == ["model.gguf", "adapter.gguf", "Modelfile", "README.md"]
    assert f"cd {version.folder}" in shown
    assert f"ollama create {version.tag} -f Modelfile" in shown
    assert "There is no version 9" in run("version", "export", "9", tmp_path / "x", "--home", home, code=2)


def test_pruning_spares_what_is_in_service_and_the_way_back(room: Classroom) -> None:
    for _ in range(5):
        room.teach()
    with open_session(room.engine, write=True) as session:
        project = session.get_one(Project, room.project.id)
        for version in versions.every(session, project):
            versions.loaded(session, version, "fake")
    home = room.settings.home
    for number in (2, 1):
        run("version", "promote", number, "--home", home)

    assert "would be retired" in run("version", "prune", "--keep", "1", "--home", home)
    assert run("version", "prune", "--keep", "1", "--yes", "--home", home).endswith("2 retired\n")
    with open_session(room.engine) as session:
        states = {one.number: one.state for one in versions.every(session, project)}
    assert states == {1: "in service", 2: "published", 3: "retired", 4: "retired", 5: "published"}


def test_doctor_says_what_this_ollama_allows_and_which_bases_are_here(room: Classroom) -> None:
    with FakeOllama("0.33.0") as ollama:
        said = run("doctor", "--home", room.settings.home, code=1, CURATOR_OLLAMA_URL=ollama.url)
    assert "Ollama 0.33.0 at" in said and "rewrites them, so digests cannot be compared" in said
    assert "MISSING  Ollama 0.33.0 has a known security hole (CVE-2026-103663)" in said
    assert re.search(r"tiny \(SHA-256 [0-9a-f]{12}\) is not checked yet", said)

    said = run("doctor", "--home", room.settings.home, code=1, CURATOR_OLLAMA_URL=ollama.url)
    assert "MISSING  Ollama does not answer at" in said


def test_number_types_are_measured_listed_and_made(room: Classroom, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("curator.services.run_folder.MARGIN", 0)  # the test machine's disk is not what is tested
    room.teach()
    home = room.settings.home
    assert "not measured yet" in run("version", "types", "1", "--home", home)
    assert "not measured yet" in run("version", "make", "1", "--type", "Q4_0", "--home", home, code=2)

    assert "being measured" in run("version", "types", "1", "--measure", "--home", home)
    assert run("version", "types", "1", "--home", home) == "They are being measured.\n"
    room.worker().run_until_idle()

    listed = run("version", "types", "1", "--home", home).splitlines()
    assert listed[:3] == [
        "F16  400 MB  loss 1.000  the same, to within 1 %  -",
        "Q8_0  300 MB  loss 1.002  the same, to within 1 %  v1",
        "Q4_0  100 MB  loss 1.200  about four fifths of what it learnt  -",
    ]
    assert listed[4].startswith("Q6_K  -  The rows of 3")

    assert "of type Q4_0 is being made" in run("version", "make", "1", "--type", "Q4_0", "--home", home)
    assert "of this type already" in run("version", "make", "1", "--type", "Q8_0", "--home", home, code=2)
    assert "cannot become a file of type Q9" in run("version", "make", "1", "--type", "Q9", "--home", home, code=2)
    room.worker().run_until_idle()
    assert "about four fifths of what it learnt  v2" in run("version", "types", "2", "--home", home)
    assert run("version", "list", "--home", home).startswith("v2  built  ferry:v2-")
    assert [Path(file).name for file in run("version", "export", "2", home / "out", "--home", home).split()] == [
        "model.gguf", "Modelfile", "README.md",
    ]  # fmt: skip


def test_doctor_tells_of_the_server_to_compare_with(room: Classroom) -> None:
    home = room.settings.home
    with FakeOpenAI(token="sk-1") as fake:
        said = run("doctor", "--home", home, code=1, CURATOR_COMPARE_URL=fake.url, CURATOR_COMPARE_TOKEN="sk-1")
        assert "ok       1 models to compare with at 127.0.0.1\n" in said
        said = run("doctor", "--home", home, code=1, CURATOR_COMPARE_URL=fake.url)
    assert "MISSING  127.0.0.1 refuses the token. Check CURATOR_COMPARE_TOKEN." in said
    assert "compare" not in run("doctor", "--home", home, code=1)
