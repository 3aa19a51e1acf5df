"""Names inside a run folder, and the one way files get there: beside, fsync, rename.

in:    spec.json train.jsonl val.jsonl test.jsonl pins.jsonl start/
out:   plan.json limits.json events.jsonl checkpoints/ adapter/ adapter.gguf model.gguf evaluation.json result.json
asked: types.json
"""

from __future__ import annotations

import hashlib
import os
import shutil
from collections.abc import Generator, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import BinaryIO, TypeVar

from pydantic import BaseModel, ValidationError

from trainer.evaluation import Evaluation, Types
from trainer.failures import TrainerFailure
from trainer.recipe import Precision, TrainSpec
from trainer.spec import Event, Example, Limits, PinnedQuestion, Plan, RunResult, Split, Stage

M = TypeVar("M", bound=BaseModel)

BLOCK = 4096
MICRO_TOKENS = 1024  # go through the model at once if the spec says nothing; more are no faster on a CPU


def sync_folder(folder: Path) -> None:
    """Make a rename inside the folder survive a power cut."""
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


@contextmanager
def written_whole(path: Path) -> Generator[Path]:
    """Yield a path beside `path`; when the block ends well, sync it and give it the real name."""
    draft = path.with_name(f".{path.name}.part")
    try:
        yield draft
        with draft.open("rb+") as file:
            os.fsync(file.fileno())
        draft.replace(path)
        sync_folder(path.parent)
    finally:
        draft.unlink(missing_ok=True)


@contextmanager
def folder_written_whole(path: Path) -> Generator[Path]:
    """Yield an empty folder beside `path`; when the block ends well, sync its files and give it the real name.

    An older folder of that name is replaced; between the two renames neither is there, never half of one.
    """
    draft = path.with_name(f".{path.name}.part")
    shutil.rmtree(draft, ignore_errors=True)
    draft.mkdir(parents=True)
    try:
        yield draft
        sync_files(draft)
        if path.exists():
            shutil.rmtree(path)
        draft.replace(path)
        sync_folder(path.parent)
    finally:
        shutil.rmtree(draft, ignore_errors=True)


def sync_files(folder: Path) -> None:
    """Make every file in a folder survive a power cut."""
    for file in sorted(folder.rglob("*")):
        if file.is_file():
            with file.open("rb+") as handle:
                os.fsync(handle.fileno())
    sync_folder(folder)


def sha256_of(path: Path) -> str:
    """Answer the sha256 of a file's bytes, in hex."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def write_model(path: Path, value: BaseModel) -> None:
    """Write one pydantic value as indented JSON, whole or not at all."""
    with written_whole(path) as draft:
        draft.write_text(value.model_dump_json(indent=2) + "\n", encoding="utf-8")


def write_lines(path: Path, values: Iterable[BaseModel]) -> None:
    """Write pydantic values as JSON Lines, whole or not at all."""
    with written_whole(path) as draft, draft.open("w", encoding="utf-8") as file:
        for value in values:
            file.write(value.model_dump_json() + "\n")


def read_lines(path: Path, kind: type[M]) -> Iterator[M]:
    """Read JSON Lines back; a missing file has no lines. Raises TrainerFailure for a line that cannot be read."""
    if path.exists():
        with path.open("rb") as file:
            for number, line in enumerate(file, 1):
                if line.strip():
                    yield _read_line(path, number, line, kind)


def _read_line(path: Path, number: int, line: bytes, kind: type[M]) -> M:
    try:
        return kind.model_validate_json(line)
    except ValidationError as error:
        first = error.errors()[0]["msg"]
        raise TrainerFailure(
            "input", f"Line {number} of {path.name} cannot be read ({first}). Put it right, or start a new run."
        ) from error


@dataclass(frozen=True)
class RunDir:
    """A run folder by its path. It needs no database and can be copied to another machine."""

    path: Path

    @property
    def spec_file(self) -> Path:
        return self.path / "spec.json"

    @property
    def plan_file(self) -> Path:
        return self.path / "plan.json"

    @property
    def events_file(self) -> Path:
        return self.path / "events.jsonl"

    @property
    def pins_file(self) -> Path:
        return self.path / "pins.jsonl"

    @property
    def checkpoints(self) -> Path:
        return self.path / "checkpoints"

    @property
    def adapter(self) -> Path:
        return self.path / "adapter"

    @property
    def start(self) -> Path:
        """The adapter that the run goes on from, in PEFT's format, if it does."""
        return self.path / "start"

    @property
    def adapter_gguf(self) -> Path:
        return self.path / "adapter.gguf"

    @property
    def model_gguf(self) -> Path:
        return self.path / "model.gguf"

    @property
    def evaluation_file(self) -> Path:
        return self.path / "evaluation.json"

    @property
    def result_file(self) -> Path:
        return self.path / "result.json"

    @property
    def types_file(self) -> Path:
        return self.path / "types.json"

    @property
    def limits_file(self) -> Path:
        return self.path / "limits.json"

    @property
    def log_file(self) -> Path:
        return self.path / "trainer.log"

    def split_file(self, split: Split) -> Path:
        return self.path / f"{split}.jsonl"

    def did(self, stage: Stage) -> bool:
        """Tell whether a stage's finished files are there, so that it need not be done again."""
        if stage == "plan":
            return self.plan_file.exists()
        if stage == "train":
            return self.adapter.is_dir()
        if stage == "convert":
            return self.adapter_gguf.exists() and self.model_gguf.exists()
        if stage == "types":
            return self.types_file.exists()
        return self.result_file.exists()

    def base_gguf(self) -> Path:
        """Answer the base's path; a relative one starts at the run folder."""
        return (self.path / self.spec().base.gguf).resolve()

    def base_folder(self) -> Path | None:
        """Answer the base's full-precision folder, if it has one."""
        folder = self.spec().base.folder
        return (self.path / folder).resolve() if folder else None

    def spec(self) -> TrainSpec:
        return TrainSpec.model_validate_json(self.spec_file.read_text(encoding="utf-8"))

    def precision(self) -> Precision:
        """Answer the numbers to teach in: as the spec asks, else as the plan found faster."""
        asked, plan = self.spec().precision, self.plan()
        return asked if asked != "auto" else plan.precision if plan else "float32"

    def limits(self) -> Limits | None:
        return _read(self.limits_file, Limits)

    def take_less_at_once(self) -> bool:
        """After memory ran out, note to go on with half as many tokens at once; False when that was noted before."""
        if self.limits():
            return False
        half = max(64, (self.spec().micro_tokens or MICRO_TOKENS) // 2)
        write_model(self.limits_file, Limits(micro_tokens=half, checkpointing=True))
        return True

    def examples(self, split: Split) -> list[Example]:
        return list(read_lines(self.split_file(split), Example))

    def pins(self) -> list[PinnedQuestion]:
        return list(read_lines(self.pins_file, PinnedQuestion))

    def plan(self) -> Plan | None:
        return _read(self.plan_file, Plan)

    def evaluation(self) -> Evaluation | None:
        return _read(self.evaluation_file, Evaluation)

    def result(self) -> RunResult | None:
        return _read(self.result_file, RunResult)

    def types(self) -> Types | None:
        return _read(self.types_file, Types)

    def events(self) -> list[Event]:
        """Read the events so far; a line cut short by a crash is left out."""
        if not self.events_file.exists():
            return []
        text = self.events_file.read_text(encoding="utf-8", errors="replace")
        whole = text[: text.rfind("\n") + 1]
        # not splitlines(): it also splits at separators that may stand inside a JSON string
        return [Event.model_validate_json(line) for line in whole.split("\n") if line.strip()]

    def append(self, event: Event) -> None:
        """Add one event and make it survive a power cut; a line that a crash cut short is taken away first."""
        with self.events_file.open("ab+") as file:
            _drop_half_line(file)
            file.write(event.model_dump_json(exclude_none=True).encode() + b"\n")
            file.flush()
            os.fsync(file.fileno())


def now() -> datetime:
    """Answer the present moment in UTC."""
    return datetime.now(UTC)


def _drop_half_line(file: BinaryIO) -> None:
    """Truncate a file after its last line end. Closing the half line instead would leave a line nobody can read."""
    size = end = file.seek(0, os.SEEK_END)
    while end:
        start = max(0, end - BLOCK)
        file.seek(start)
        found = file.read(end - start).rfind(b"\n")
        if found >= 0:
            end = start + found + 1
            break
        end = start
    if end < size:
        file.truncate(end)


def _read(path: Path, kind: type[M]) -> M | None:
    return kind.model_validate_json(path.read_text(encoding="utf-8")) if path.exists() else None
