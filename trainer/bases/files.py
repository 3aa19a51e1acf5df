"""A base on disk: what its GGUF file says about itself, and its digest."""

from __future__ import annotations

import json
import os
import re
from dataclasses import dataclass
from pathlib import Path

from trainer.archs import PERMUTES
from trainer.bases import curated
from trainer.gguf_check import BadGguf, check
from trainer.gguf_summary import GgufSummary
from trainer.rundir import sha256_of, written_whole

NO_TEMPLATE = "It has no chat template, so it cannot hold a conversation. Choose an instruct or chat model."
UNKNOWN_ARCHITECTURE = (
    "Models of its kind cannot be taught here. Choose one of the Llama, Qwen, Gemma, Phi, Granite or SmolLM families."
)
EXPERTS = "It is a mixture of experts, whose experts cannot be taught here. Choose a dense model of its family."
KINDS = {"adapter": "an adapter", "mmproj": "the part of a model that reads pictures"}
BLOB = re.compile(r"sha256-[0-9a-f]{64}")


@dataclass(frozen=True)
class BaseFile:
    """A base as its file describes it. `size` in bytes; `parameters` counts weights; languages are codes."""

    path: Path
    name: str
    sha256: str
    architecture: str
    size: int
    parameters: int
    licence: str
    languages: tuple[str, ...]
    context: int | None


def describe(path: Path) -> BaseFile:
    """Describe a base, or raise BadGguf with a sentence when it is no whole model that can be taught.

    The digest of a large file takes a while, so it is kept beside the file until size or time changes.
    """
    summary = check(path, whole=True)
    if summary.general_type != "model":
        kind = KINDS.get(summary.general_type, f"a {summary.general_type}")
        raise BadGguf(f"{path.name} is {kind}, not a whole model. Choose the model it belongs to.")
    if reason := why_not(summary):
        raise BadGguf(reason)
    sha256 = digest(path)
    known = curated.by_sha256(sha256)
    return BaseFile(
        path=path,
        name=known.name if known else summary.name or path.stem,
        sha256=sha256,
        architecture=summary.architecture,
        size=summary.size,
        parameters=summary.parameters,
        licence=known.licence if known else summary.text("general.license"),
        languages=known.languages if known else (),
        context=summary.context_length,
    )


def why_not(summary: GgufSummary) -> str:
    """Say why a whole model cannot be taught; empty when it can, as far as its header tells."""
    if summary.chat_template is None:
        return NO_TEMPLATE
    if (summary.integer(f"{summary.architecture}.expert_count") or 0) > 1:
        return EXPERTS
    return "" if summary.architecture in PERMUTES else UNKNOWN_ARCHITECTURE


def digest(path: Path) -> str:
    """Answer a file's sha256, remembered in a small file beside it when that folder is ours to write in.

    Ollama's store is not: nothing is ever written there.
    """
    if BLOB.fullmatch(path.name):
        return sha256_of(path)
    state = path.stat()
    remembered = path.with_name(f".{path.name}.sha256.json")
    known = {"size": state.st_size, "mtime_ns": state.st_mtime_ns, "inode": state.st_ino}
    if remembered.exists():
        found = json.loads(remembered.read_text(encoding="utf-8"))
        if {key: found.get(key) for key in known} == known:
            return str(found["sha256"])
    sha256 = sha256_of(path)
    if os.access(path.parent, os.W_OK):
        with written_whole(remembered) as draft:
            draft.write_text(json.dumps({**known, "sha256": sha256}), encoding="utf-8")
    return sha256
