"""What Curator and a node of a cluster tell each other about a run: one order, then reports.

    Curator → node   order.json    the run folder as it stands here, by content, and the stage to do
    node → Curator   report.json   what the node still lacks, what grew, what is finished, how it ended

Files are known by their sha256, so nothing that is there already travels again. Both sides run this module.
"""

from __future__ import annotations

import hashlib
from pathlib import Path

from pydantic import Field

from trainer.checkpoints import COMPLETE
from trainer.recipe import Frozen
from trainer.rundir import RunDir
from trainer.spec import Stage

INPUTS = ("spec.json", "train.jsonl", "val.jsonl", "test.jsonl", "pins.jsonl", "start")
GROWING = ("events.jsonl", "trainer.log")
FINISHED = (
    "plan.json", "limits.json", "adapter", "adapter.gguf", "model.gguf", "evaluation.json", "result.json", "types.json",
)  # fmt: skip
REPORT = "report.json"
PIECE = 8 << 20
"""Bytes of a file that travel at once; the head holds no more than this of it in memory."""


class Content(Frozen):
    """What a file holds."""

    size: int
    sha256: str


Listing = dict[str, Content]
"""The files of a folder by their path in it; a plain file is listed under an empty path."""


class Order(Frozen):
    """What a node shall do, and the run folder it shall do it in."""

    stage: Stage
    base: Content
    folder: Listing = Field(default={}, description="the base's full-precision files, if it has such a folder")
    files: Listing


class Lack(Frozen):
    """The file that a node waits for, and how much of it has arrived."""

    sha256: str
    offset: int


class Report(Frozen):
    """Where a node stands."""

    lacks: Lack | None = None
    growing: dict[str, int] = Field(description="bytes of each file that only grows")
    finished: dict[str, Listing] = Field(description="what is whole, and what it holds")
    exit: int | None = None


class Contents:
    """Reads what files hold, each only once while it does not change: a base takes seconds."""

    def __init__(self) -> None:
        self._known: dict[tuple[Path, int, int], str] = {}

    def of(self, path: Path) -> Content:
        """Answer the content of one file."""
        found = path.stat()
        key = (path, found.st_size, found.st_mtime_ns)
        if key not in self._known:
            with path.open("rb") as file:
                self._known[key] = hashlib.file_digest(file, "sha256").hexdigest()
        return Content(size=found.st_size, sha256=self._known[key])

    def listing(self, path: Path) -> Listing:
        """List a folder's files, or the one file; nothing is there when nothing is listed."""
        if path.is_file():
            return {"": self.of(path)}
        return {str(file.relative_to(path)): self.of(file) for file in sorted(path.rglob("*")) if file.is_file()}


def finished(run: RunDir, contents: Contents) -> dict[str, Listing]:
    """List what is whole in a run folder: what got its name last, and checkpoints that are complete."""
    marks = sorted(run.checkpoints.glob(f"checkpoint-*/{COMPLETE}"))
    names = [*FINISHED, *(str(mark.parent.relative_to(run.path)) for mark in marks)]
    try:
        found = {name: contents.listing(run.path / name) for name in names if (run.path / name).exists()}
    except FileNotFoundError:  # the trainer is just taking an old checkpoint away
        return finished(run, contents)
    gone = {str(mark.parent.relative_to(run.path)) for mark in marks if not mark.exists()}
    return {name: listing for name, listing in found.items() if name not in gone}


def order(run: RunDir, stage: Stage, contents: Contents) -> Order:
    """Describe a run folder for a node that is to do a stage of it."""
    plain = {name: contents.listing(run.path / name) for name in (*INPUTS, *GROWING) if (run.path / name).exists()}
    files = {
        str(Path(name) / inner): content
        for name, listing in (plain | finished(run, contents)).items()
        for inner, content in listing.items()
    }
    base = Content(size=run.base_gguf().stat().st_size, sha256=run.spec().base.sha256)
    folder = run.base_folder()
    return Order(stage=stage, base=base, folder=contents.listing(folder) if folder else {}, files=files)


def piece_name(job: str, lack: Lack) -> str:
    """Name a piece of a file on its way; the job's name keeps two that wait for the same file apart."""
    return f"{job}-{lack.sha256}-{lack.offset}"


def order_name(job: str) -> str:
    """Name a job's order on its way."""
    return f"{job}-order"
