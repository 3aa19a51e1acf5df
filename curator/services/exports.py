"""Write snapshots as files that other training tools read."""

from __future__ import annotations

import re
import tempfile
from pathlib import Path

from sqlmodel import Session

from curator import exporters
from curator.services import lessons, snapshots
from db.models import Snapshot


def export(session: Session, snapshot: Snapshot, exporter: str, folder: Path) -> list[Path]:
    """Write a snapshot's splits into a folder, streamed; answer the files. The same snapshot gives the same bytes.

    Preferences with single judgements among them give files for both: of the pairs, and of every answer as good or bad.
    """
    read = snapshots.examples if snapshot.kind == "sft" else lessons.pairs
    splits: exporters.Splits = {split: read(session, snapshot, split) for split in snapshots.SPLITS}
    if snapshot.singles:  # what holds pairs alone gives the files that it always gave
        splits |= {f"kto_{split}": lessons.judgements(session, snapshot, split) for split in snapshots.SPLITS}
    return exporters.write(exporter, folder, file_name(snapshot), splits)


def zipped(session: Session, snapshot: Snapshot, exporter: str, target: Path) -> Path:
    """Write a snapshot as one zip file, for a download; nothing else is left behind."""
    target.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=target.parent, prefix=".export-") as folder:
        return exporters.pack(export(session, snapshot, exporter, Path(folder)), target)


def zipped_once(session: Session, snapshot: Snapshot, exporter: str, target: Path) -> Path:
    """Answer the zip file, made at the first call; a snapshot never changes, so neither does its export."""
    return target if target.is_file() else zipped(session, snapshot, exporter, target)


def file_name(snapshot: Snapshot) -> str:
    """Answer the snapshot's name as the start of a file name: letters of any script, digits, - and _."""
    return re.sub(r"[^\w-]+", "_", snapshot.name).strip("_")[:80] or f"snapshot_{snapshot.id}"
