"""Write the folder a run can be repeated from, and read what the trainer left in it."""

from __future__ import annotations

import shutil
from collections import deque
from collections.abc import Iterable, Iterator
from pathlib import Path

from sqlmodel import Session

from curator.errors import Unavailable
from curator.services import bases, continuing, lessons, pins, snapshots
from curator.settings import Settings
from db.models import Base, Project, Run, Snapshot, utc_now
from trainer.recipe import BaseRef, MergedType, TrainSpec
from trainer.rundir import RunDir, folder_written_whole, write_lines, write_model
from trainer.spec import Example, Split

SPLITS: tuple[Split, ...] = ("train", "val", "test")
MARGIN = 1 << 30
LOG_LINES = 40


def folder_of(run: Run, settings: Settings) -> RunDir:
    """Answer the run's folder, made when missing."""
    path = settings.folder("runs") / str(run.id)
    path.mkdir(exist_ok=True)
    return RunDir(path)


def write(session: Session, run: Run, settings: Settings) -> RunDir:
    """Write spec, examples and pins into the run's folder; what is there already is left as it is.

    The spec is written last, so that a folder with a spec is whole. A folder of another run with the same number,
    as after an older database was restored, is moved aside: its model must not pass for this run's.
    """
    folder, spec = folder_of(run, settings), _spec(session, run)
    if folder.spec_file.exists():
        if _same(folder.spec(), spec):
            return folder
        folder.path.rename(folder.path.with_name(f"{run.id}.before-{utc_now():%Y%m%dT%H%M%S%f}"))
        folder = folder_of(run, settings)
    snapshot, project = session.get_one(Snapshot, run.snapshot_id), session.get_one(Project, run.project_id)
    before = continuing.run_of(session, project, spec.continues) if spec.continues else None
    for split in SPLITS:
        write_lines(folder.split_file(split), _lessons(session, snapshot, split, before, spec))
    if before:
        shutil.rmtree(folder.start, ignore_errors=True)
        folder.start.mkdir()
        link(RunDir(Path(before.folder)).adapter.iterdir(), folder.start)
    write_lines(folder.pins_file, pins.questions(session, project))
    write_model(folder.spec_file, spec)
    return folder


def again(run: RunDir, merged_type: MergedType, base: Base) -> RunDir:
    """Write a folder in which a finished run becomes a file of another number type; one that is there is gone on with.

    It holds what the run was given and what it learnt. Making the file and examining it are still to do.
    """
    spec = _where_it_lies(run.spec(), base).model_copy(update={"merged_type": merged_type})
    folder = RunDir(run.path / f"as-{merged_type}")
    if folder.spec_file.exists() and folder.spec() == spec:
        return folder
    inputs = [*(run.split_file(split) for split in SPLITS), run.pins_file, run.plan_file, run.adapter_gguf]
    with folder_written_whole(folder.path) as draft:
        link([file for file in inputs if file.exists()], draft)
        (draft / run.adapter.name).mkdir()
        link(run.adapter.iterdir(), draft / run.adapter.name)
        if run.events_file.exists():
            shutil.copyfile(run.events_file, draft / run.events_file.name)  # it grows, and the run's own must not
        write_model(RunDir(draft).spec_file, spec)
    return folder


def follow_base(run: RunDir, base: Base) -> None:
    """Let a run folder name its base where that lies now; raises NotFound when it is gone."""
    spec = run.spec()
    if (here := _where_it_lies(spec, base)) != spec:
        write_model(run.spec_file, here)


def _where_it_lies(spec: TrainSpec, base: Base) -> TrainSpec:
    reference = spec.base.model_copy(update={"gguf": str(bases.file_of(base))})
    return spec.model_copy(update={"base": reference})


def _lessons(
    session: Session, snapshot: Snapshot, split: Split, before: Run | None, spec: TrainSpec
) -> Iterator[Example]:
    """Answer what a run learns on one side; going on from a version, what that was not taught comes first."""
    if snapshot.kind == "preference":
        return lessons.of_preferences(session, snapshot, split, spec.method)
    if before and split == "train":
        earlier = session.get_one(Snapshot, before.snapshot_id)
        if earlier.kind == snapshot.kind:
            return continuing.lessons(session, snapshot, split, earlier, spec.replay)
    return snapshots.examples(session, snapshot, split)


def _spec(session: Session, run: Run) -> TrainSpec:
    snapshot, project = session.get_one(Snapshot, run.snapshot_id), session.get_one(Project, run.project_id)
    base = bases.get(session, run.base_id)
    reference = BaseRef(name=base.name, gguf=str(bases.file_of(base)), sha256=base.sha256, folder=base.folder)
    given = {"run": f"{project.slug} run {run.id}", "base": reference, "snapshot_sha256": snapshot.sha256}
    return TrainSpec.model_validate(run.spec | given)


def _same(one: TrainSpec, other: TrainSpec) -> bool:
    """Compare two specs; where the base lies does not matter, its content does."""
    anywhere = {"base": {"gguf", "folder"}}
    return one.model_dump(exclude=anywhere) == other.model_dump(exclude=anywhere)


def check_disk(base: Base, settings: Settings) -> None:
    """Say so when the disk is too small for a run: checkpoints, merged model and its copy while it is written."""
    check_room(3 * base.size, settings)


def check_room(size: int, settings: Settings) -> None:
    """Say so when there is no room for files of a size in octets."""
    needed = size + MARGIN
    free = shutil.disk_usage(settings.folder("runs")).free
    if free < needed:
        raise Unavailable(
            "This needs %(needed).1f GB of disk and only %(free).1f GB are free. "
            "Remove old model versions or files, then try again.",
            needed=needed / 1e9,
            free=free / 1e9,
        )


def log_tail(run: Run, lines: int = LOG_LINES) -> list[str]:
    """Answer the last lines that the trainer printed."""
    file = RunDir(Path(run.folder)).log_file
    if not run.folder or not file.exists():
        return []
    with file.open(encoding="utf-8", errors="replace") as log:
        return [line.rstrip("\n") for line in deque(log, maxlen=lines)]


def link(files: Iterable[Path], folder: Path) -> None:
    """Give files a second name in a folder; copy them where the disk cannot."""
    for file in files:
        target = folder / file.name
        try:
            target.hardlink_to(file)
        except OSError:  # another disk, or a file system without hard links
            shutil.copyfile(file, target)
