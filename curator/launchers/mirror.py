"""Make a run folder follow the one on a node, so that the pages that look into it see no difference."""

from __future__ import annotations

import hashlib
import os
import re
import shutil
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path

from curator.launchers.parcel import FINISHED, GROWING, Content, Contents, Listing, Report
from trainer.rundir import RunDir, folder_written_whole, written_whole

CHECKPOINT = re.compile(r"checkpoints/checkpoint-\d+")
Read = Callable[[str], Iterator[bytes]]
"""Reads a file of the node's run folder from its beginning."""


class Torn(Exception):  # noqa: N818 - a turn of events, not a mistake
    """A file changed or went away while it was read; the next report tells of another one."""


class Mirror:
    """Brings back what a node reports.

    Files that grow are a copy of their own beginning: what is new is written at its own place, so that doing it
    twice, or by two workers of which one was asleep, changes nothing. Everything else is whole or not there.
    """

    def __init__(self, run: RunDir, read: Read, contents: Contents) -> None:
        self.run = run
        self.read = read
        self.contents = contents

    def follow(self, report: Report) -> None:
        """Bring back everything that is not here yet."""
        for name, size in report.growing.items():
            if name in GROWING:
                self._grow(name, size)
        for name, listing in report.finished.items():
            if name not in FINISHED and not CHECKPOINT.fullmatch(name):
                continue
            path = self.run.path / name
            if not path.exists() or self.contents.listing(path) != listing:
                self._bring(name, path, listing)
        self._forget_checkpoints(set(report.finished))

    def _grow(self, name: str, size: int) -> None:
        path = self.run.path / name
        here = path.stat().st_size if path.exists() else 0
        if size <= here:
            return
        there = b"".join(self._pieces(name))
        whole = there[: there.rfind(b"\n") + 1]  # half a line may still be taken back by the trainer
        if len(whole) > here:
            with path.open("rb+" if path.exists() else "wb") as file:
                file.seek(here)
                file.write(whole[here:])
                file.flush()
                os.fsync(file.fileno())

    def _bring(self, name: str, path: Path, listing: Listing) -> None:
        path.parent.mkdir(exist_ok=True)
        if "" in listing:
            with written_whole(path) as draft:
                self._fetch(name, draft, listing[""])
            return
        with folder_written_whole(path) as draft:
            for inner, content in listing.items():
                target = draft / inner
                if not target.resolve().is_relative_to(draft.resolve()):
                    raise Torn(name)
                target.parent.mkdir(parents=True, exist_ok=True)
                self._fetch(f"{name}/{inner}", target, content)

    def _fetch(self, name: str, target: Path, content: Content) -> None:
        digest = hashlib.sha256()
        with target.open("wb") as file:
            for piece in self._pieces(name):
                digest.update(piece)
                file.write(piece)
        if digest.hexdigest() != content.sha256:
            raise Torn(name)

    def _pieces(self, name: str) -> Iterator[bytes]:
        try:
            yield from self.read(name)
        except FileNotFoundError:
            raise Torn(name) from None

    def _forget_checkpoints(self, there: set[str]) -> None:
        """Remove checkpoints that the trainer has replaced by newer ones."""
        if not any(name.startswith("checkpoints/") for name in there):
            return
        for folder in self.run.checkpoints.iterdir():
            if folder.is_dir() and f"checkpoints/{folder.name}" not in there:
                shutil.rmtree(folder)


def keep_whole_lines(paths: Iterable[Path]) -> None:
    """Cut off a last line that a crash left unfinished, before the file's beginning is what a node goes on from."""
    for path in paths:
        if path.exists():
            text = path.read_bytes()
            if not text.endswith(b"\n"):
                os.truncate(path, text.rfind(b"\n") + 1)
