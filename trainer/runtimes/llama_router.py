"""A llama-server in router mode: a list of models, each loaded in a process of its own, and the folder they lie in.

It sees a new file when it is told to look again (`/models?reload=1`, since May 2026), and never replaces a model that
runs; so that one is unloaded first.
"""

from __future__ import annotations

import os
import secrets
import shutil
import time
from dataclasses import dataclass
from pathlib import Path

from trainer.runtimes.base import Progress, RuntimeFailure, RuntimeUnavailable
from trainer.runtimes.llama_http import LlamaHttp
from trainer.runtimes.llama_offer import READY, Offer, is_router, read_offer

LOAD_SECONDS = 600.0
POLL_SECONDS = 0.1


@dataclass
class Router:
    """One router. `folder` is the one that it was started on, None where Curator may not write it."""

    http: LlamaHttp
    where: str
    folder: Path | None
    load_seconds: float = LOAD_SECONDS
    poll_seconds: float = POLL_SECONDS

    def place(self, tag: str, file: Path) -> bool:
        """Give a file its name in the router's folder, and say whether that is new."""
        assert self.folder  # noqa: S101 - callers look
        target = self.folder / f"{tag}.gguf"
        if not is_router(self.http.props()):
            raise RuntimeFailure(
                f"{self.where} was started with one model, so it looks into no folder. Start it with --models-dir "
                f"{self.folder}, or take CURATOR_LLAMA_SERVER_MODELS away."
            )
        try:
            new = not target.exists()
            if not new and target.samefile(file):
                return False
            if not new:
                self._unload(tag)
            _put(file, target)
        except OSError as error:
            raise RuntimeFailure(
                f"{self.folder} cannot be written ({error.strerror}). Make room there, or give Curator's user the "
                "right to write; then load the version again."
            ) from error
        self._look_again()
        return new

    def take_away(self, tag: str) -> None:
        if self.folder and (file := self.folder / f"{tag}.gguf").exists():
            self._unload(tag)
            file.unlink()
            self._look_again()

    def _look_again(self) -> None:
        self.http.get("/models?reload=1")

    def load(self, tag: str, progress: Progress | None = None) -> None:
        """Have a model of its list loaded, and wait until it is."""
        end, asked = time.monotonic() + self.load_seconds, False
        while True:
            entry = self._offer().entry(tag)
            if entry is None:
                raise self.unseen(tag)
            if entry.state in READY:
                return
            if asked and entry.status.get("failed"):
                raise RuntimeFailure(
                    f"{self.where} could not load {tag!r} (code {entry.status.get('exit_code')}). Look at its log; the "
                    "machine may be short of memory."
                )
            if not asked and entry.state == "unloaded":
                self._tell("load", tag, "unloaded")
            asked = True
            if time.monotonic() > end:
                raise RuntimeUnavailable(
                    f"{self.where} has not loaded {tag!r} within {self.load_seconds / 60:.0f} minutes."
                )
            if progress:
                progress("loading", None)
            time.sleep(self.poll_seconds)

    def _tell(self, what: str, tag: str, state: str) -> None:
        """Have a router load or unload a model. It refuses where somebody else has just asked, which is as good."""
        try:
            self.http.ask(f"/models/{what}", {"model": tag})
        except RuntimeUnavailable:
            raise
        except RuntimeFailure:
            entry = self._offer().entry(tag)
            if entry and entry.state == state:
                raise

    def unseen(self, tag: str) -> RuntimeFailure:
        return RuntimeFailure(
            f"{self.where} does not see {tag}.gguf in {self.folder}. Check that it was started with that folder as "
            "--models-dir and may read it; one from before May 2026 has to be started again for each version."
        )

    def _unload(self, tag: str) -> None:
        """Have a router end a model's process, so that its file can be replaced, and wait until it has."""
        entry = self._offer().entry(tag)
        if entry is None or entry.state not in (*READY, "loading"):
            return
        self._tell("unload", tag, "loaded")
        end = time.monotonic() + self.load_seconds
        while (entry := self._offer().entry(tag)) and entry.state != "unloaded" and time.monotonic() < end:
            time.sleep(self.poll_seconds)

    def _offer(self) -> Offer:
        return read_offer(self.http.props(), self.http.get("/models"), [])


def _put(file: Path, target: Path) -> None:
    """Give a file a second name, replacing what had it; it is copied where the disk cannot. Two at once do no harm."""
    draft = target.with_name(f".{target.name}.{secrets.token_hex(4)}.part")
    try:
        try:
            draft.hardlink_to(file)
        except OSError:  # another disk, or a file system without hard links
            shutil.copyfile(file, draft)
            with draft.open("rb+") as copied:
                os.fsync(copied.fileno())
        draft.replace(target)
    finally:
        draft.unlink(missing_ok=True)
