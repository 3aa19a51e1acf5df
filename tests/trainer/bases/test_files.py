"""A base's file: described, hashed once, and refused when it is not what it should be."""

from __future__ import annotations

import hashlib
from pathlib import Path

import pytest

from tests.trainer.tiny import write_tiny_llama_gguf
from tests.trainer.tiny_lora import write_adapter
from tests.trainer.tiny_models import tiny, write_base
from trainer.bases import files as bases
from trainer.gguf_check import BadGguf


def test_a_base_is_described_and_its_digest_remembered(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = write_tiny_llama_gguf(tmp_path / "base.gguf")
    first = bases.describe(path)
    monkeypatch.setattr(bases, "sha256_of", lambda _path: pytest.fail("read again"))

    assert bases.describe(path) == first
    assert (first.name, first.architecture, first.languages) == ("Tiny", "llama", ())
    assert first.sha256 == hashlib.sha256(path.read_bytes()).hexdigest()
    assert first.size == path.stat().st_size
    assert 90_000 < first.parameters < 110_000


def test_a_changed_file_gets_a_new_digest(tmp_path: Path) -> None:
    path = write_tiny_llama_gguf(tmp_path / "base.gguf")
    first = bases.digest(path)

    write_tiny_llama_gguf(path, seed=5)

    assert bases.digest(path) != first


def test_what_is_no_gguf_is_refused_in_a_sentence(tmp_path: Path) -> None:
    (tmp_path / "notes.txt").write_text("hello")

    with pytest.raises(BadGguf, match=r"notes\.txt is not a GGUF file\."):
        bases.describe(tmp_path / "notes.txt")


def test_what_is_no_whole_model_is_refused_in_a_sentence(tmp_path: Path) -> None:
    base = write_tiny_llama_gguf(tmp_path / "base.gguf")
    half = tmp_path / "half.gguf"
    half.write_bytes(base.read_bytes()[:300_000])
    plain = tmp_path / "plain.gguf"
    plain.write_bytes(base.read_bytes().replace(b"tokenizer.chat_template", b"tokenizer.that_template"))
    odd = tmp_path / "odd.gguf"
    odd.write_bytes(base.read_bytes().replace(b"llama", b"apple"))

    for path, sentence in (
        (write_adapter(base, tmp_path / "adapter.gguf"), "is an adapter, not a whole model"),
        (half, "so it was cut short"),
        (plain, "has no chat template"),
        (odd, "cannot be taught here"),
        (tmp_path / "nowhere.gguf", "There is no file"),
    ):
        with pytest.raises(BadGguf, match=sentence):
            bases.describe(path)


# Mixtures of experts, states instead of attention (Qwen3-Next), and families that transformers knows only with code of
# their makers: none is in the table of architectures.
UNTAUGHT = (
    "qwen3moe", "qwen2moe", "granitemoe", "gpt-oss", "ernie4_5-moe", "hunyuan-moe", "qwen3next",
    "qwen35", "mamba", "minicpm", "minicpm3", "internlm2", "exaone", "chatglm",
)  # fmt: skip


@pytest.mark.parametrize("architecture", UNTAUGHT)
def test_other_kinds_of_models_are_refused_in_a_sentence(architecture: str, tmp_path: Path) -> None:
    path = write_base(tmp_path / "base.gguf", tiny("llama"), "llama", architecture)

    with pytest.raises(BadGguf, match=r"^Models of its kind cannot be taught here\. .*families\.$"):
        bases.describe(path)


@pytest.mark.parametrize("architecture", ["llama", "granitehybrid", "qwen3moe"])
def test_a_mixture_of_experts_is_refused_by_that_name(architecture: str, tmp_path: Path) -> None:
    path = write_base(tmp_path / "base.gguf", tiny("llama"), "llama", architecture, expert_count=8)

    with pytest.raises(BadGguf, match=r"^It is a mixture of experts, .*family\.$"):
        bases.describe(path)

    assert bases.describe(write_base(tmp_path / "one.gguf", tiny("llama"), "llama", expert_count=1))


def test_nothing_is_written_into_ollamas_store(tmp_path: Path) -> None:
    blob = tmp_path / f"sha256-{'a' * 64}"
    write_tiny_llama_gguf(blob)

    assert bases.digest(blob) == hashlib.sha256(blob.read_bytes()).hexdigest()
    assert [file.name for file in tmp_path.iterdir()] == [blob.name]
