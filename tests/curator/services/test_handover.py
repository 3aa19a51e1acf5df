"""A version in other hands: Modelfile, model card, the commands by hand, a folder to take away."""

from __future__ import annotations

import json
import shlex
from pathlib import Path

import pytest
from sqlalchemy import Engine

from curator.errors import Conflict, NotFound
from curator.services import handover
from curator.settings import Settings
from db.models import ModelVersion
from db.session import open_session
from tests.curator.teaching import Classroom, classroom
from tests.fakes.ollama_server import FakeOllama
from trainer.rundir import sha256_of
from trainer.runtimes.base import Publication
from trainer.runtimes.modelfile import by_hand, create_body, modelfile


@pytest.fixture
def room(engine: Engine, settings: Settings, tmp_path: Path) -> Classroom:
    return classroom(engine, settings, tmp_path)


@pytest.fixture
def version(room: Classroom) -> ModelVersion:
    return room.teach()


def publication(room: Classroom, version: ModelVersion) -> Publication:
    with open_session(room.engine) as session:
        return handover.of_version(session, version)


TEMPLATE = (
    '{{ if .System }}{{ "<|im_start|>system\\n" }}{{ .System }}{{ "<|im_end|>\\n" }}{{ end }}'
    '{{ if .Prompt }}{{ "<|im_start|>user\\n" }}{{ .Prompt }}{{ "<|im_end|>\\n<|im_start|>assistant\\n" }}{{ end }}'
    '{{ if .Response }}{{ .Response }}{{ "<|im_end|>\\n" }}{{ end }}'
)
"""Of the tiny base's chat template: in words that every Ollama knows from 0.1.14 on."""


def test_a_modelfile_says_all_that_the_api_is_told(room: Classroom, version: ModelVersion):
    body = create_body(publication(room, version), "abc")

    assert (Path(version.folder) / "Modelfile").read_text().splitlines() == [
        "FROM ./model.gguf",
        f'TEMPLATE """{TEMPLATE}"""',
        'SYSTEM """Be brief."""',
        "PARAMETER num_ctx 2048",
        "PARAMETER num_predict 1024",
        'PARAMETER stop """<|im_end|>"""',
    ]
    assert body["system"] == "Be brief."
    assert body["parameters"] == {"num_ctx": 2048, "num_predict": 1024, "stop": ["<|im_end|>"]}


@pytest.mark.parametrize("text", ['Say """hello"""', 'It ends with "', "Two\nlines\n\nPARAMETER stop x", "简洁回答。"])
def test_no_text_leaves_its_quotes(text: str):
    written = modelfile(Publication("ferry:v1", Path("base.gguf"), system=text))

    head, inside, tail = written.split('"""')
    assert (head, tail) == ("FROM ./model.gguf\nSYSTEM ", "\nPARAMETER num_ctx 2048\nPARAMETER num_predict 1024\n")
    assert inside.strip().replace('" " "', '"""') == text.strip()


def test_the_card_tells_lineage_and_evaluation_and_no_path(room: Classroom, version: ModelVersion):
    card = (Path(version.folder) / "README.md").read_text()

    assert "# Ferry line, version 1" in card
    assert room.snapshot.sha256 in card and sha256_of(Path(version.folder) / "model.gguf") in card
    assert f"better than tiny on {room.snapshot.test}" in card
    assert "- passed: held_out (2.00 before, 1.00 now)" in card
    assert str(room.settings.home) not in card and "{" not in card


def test_the_commands_by_hand_do_what_publishing_does(room: Classroom, version: ModelVersion):
    """The curl form is taken apart as a shell would, and sent to an Ollama."""
    with open_session(room.engine) as session:
        found = handover.for_hands(session, version)
    said = by_hand(found, "http://127.0.0.1:11434/proxy", token=True)

    assert f"ollama create {version.tag} -f Modelfile" in said.ollama
    assert f"llama-server -m model.gguf --alias {version.tag} --jinja" in said.llama_server
    digest, upload, create = said.curl.splitlines()
    assert digest == "DIGEST=$(sha256sum model.gguf | cut -d ' ' -f 1)"
    assert '-X POST "http://127.0.0.1:11434/proxy/api/blobs/sha256:$DIGEST"' in upload
    assert '-H "Authorization: Bearer $OLLAMA_TOKEN"' in upload and '"Authorization: Bearer $OLLAMA_TOKEN"' in create
    body = json.loads(shlex.split(create.replace('"$DIGEST"', "abc"))[-1])
    assert body == create_body(found, "abc")


def test_a_version_can_be_taken_away_whole(room: Classroom, version: ModelVersion, tmp_path: Path):
    with open_session(room.engine) as session:
        files = handover.export(session, version, tmp_path / "out" / "v1", room.settings)
        with pytest.raises(Conflict, match="not empty"):
            handover.export(session, version, tmp_path / "out" / "v1", room.settings)

    assert [file.name for file in files] == ["model.gguf", "adapter.gguf", "Modelfile", "README.md"]
    assert sha256_of(files[0]) == sha256_of(Path(version.folder) / "model.gguf")
    assert "evaluation.json" not in {file.name for file in files[0].parent.iterdir()}, "it quotes the dataset"


def test_a_version_that_is_to_be_an_adapter_says_how_by_hand(room: Classroom, version: ModelVersion, tmp_path: Path):
    wished = room.settings.model_copy(update={"ollama_form": "adapter"})
    with open_session(room.engine) as session:
        assert handover.adapter_commands(session, version, room.settings) is None
        handover.export(session, version, tmp_path / "v1", wished)
        said, found = handover.adapter_commands(session, version, wished), handover.on_base(session, version)

    assert said is not None
    base = found.on
    assert base.startswith("base-")
    assert (tmp_path / "v1" / "Modelfile.adapter").read_text().splitlines() == [
        f"FROM {base}",
        "ADAPTER ./adapter.gguf",
        'SYSTEM """Be brief."""',
        "PARAMETER num_ctx 2048",
        "PARAMETER num_predict 1024",
        'PARAMETER stop """<|im_end|>"""',
    ]
    assert f"ollama create {version.tag} -f Modelfile.adapter" in said.ollama
    assert f"-m {found.base} --alias {base} --lora ferry-v1-" in said.llama_adapter
    digest, upload, create = said.curl.splitlines()
    assert "sha256sum adapter.gguf" in digest and "-T adapter.gguf" in upload
    body = json.loads(shlex.split(create.replace('"$DIGEST"', "abc"))[-1])
    assert body == create_body(found, "abc")
    assert (body["from"], body["adapters"]) == (base, {"adapter.gguf": "sha256:abc"})


def test_only_a_versions_own_files_can_be_asked_for(version: ModelVersion):
    assert handover.file(version, "README.md").is_file()
    for name in ("evaluation.json", "../ferry-v1/README.md", "", "nothing"):
        with pytest.raises(NotFound):
            handover.file(version, name)


def test_the_published_model_is_told_what_it_was_taught_with(room: Classroom, version: ModelVersion):
    with FakeOllama() as ollama:
        settings = room.settings.model_copy(update={"ollama_url": ollama.url})
        Classroom(room.engine, settings, room.project, room.snapshot).worker(queue="light").run_until_idle()
        served = ollama.get(version.tag)

    assert (served.system, served.parameters["num_predict"]) == ("Be brief.", 1024)
