"""Checkpoints that can be trusted: complete or not there.

A checkpoint counts when its COMPLETE file, written last, lists every other file with its size and sha256.
"""

from __future__ import annotations

import json
import re
import shutil
from pathlib import Path

from trainer.rundir import sha256_of, sync_files, sync_folder, written_whole

COMPLETE = "COMPLETE"
WEIGHTS = "adapter_model.safetensors"  # never a .bin: that is a pickle, and reading one runs what is in it
KEPT = 2  # newest ones, besides the best
NAME = re.compile(r"checkpoint-(\d+)")


def step_of(folder: Path) -> int:
    """Answer the step a checkpoint was saved after."""
    match = NAME.fullmatch(folder.name)
    return int(match.group(1)) if match else -1


def seal(folder: Path) -> None:
    """Sync a checkpoint's files and mark it complete."""
    sync_files(folder)
    listed = {
        str(file.relative_to(folder)): {"size": file.stat().st_size, "sha256": sha256_of(file)}
        for file in sorted(folder.rglob("*"))
        if file.is_file()
    }
    with written_whole(folder / COMPLETE) as draft:
        draft.write_text(json.dumps(listed, indent=1), encoding="utf-8")
    sync_folder(folder.parent)


def is_complete(folder: Path) -> bool:
    """Tell whether every file of a checkpoint is there as it was written."""
    mark = folder / COMPLETE
    if not mark.exists():
        return False
    listed = json.loads(mark.read_text(encoding="utf-8"))
    if WEIGHTS not in listed:
        return False
    for name, known in listed.items():
        file = folder / name
        if not file.is_file() or file.stat().st_size != known["size"] or sha256_of(file) != known["sha256"]:
            return False
    return True


def newest(checkpoints: Path) -> Path | None:
    """Answer the newest complete checkpoint; those cut short by a crash are removed."""
    for folder in _listed(checkpoints):
        if is_complete(folder):
            return folder
        shutil.rmtree(folder)
    return None


def rotate(checkpoints: Path, best_step: int | None) -> None:
    """Keep the newest two and the best one."""
    for folder in _listed(checkpoints)[KEPT:]:
        if step_of(folder) != best_step:
            (folder / COMPLETE).unlink(missing_ok=True)  # first, so that whoever copies it sees that it is going
            shutil.rmtree(folder)


def _listed(checkpoints: Path) -> list[Path]:
    """List checkpoint folders, newest first."""
    if not checkpoints.is_dir():
        return []
    return sorted((f for f in checkpoints.iterdir() if step_of(f) >= 0), key=step_of, reverse=True)
