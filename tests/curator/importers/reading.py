"""Read a log the way the app does: find its format, then take drafts and skips apart."""

from __future__ import annotations

from pathlib import Path

from curator import importers
from curator.importers import RecordDraft, Skipped

LOGS = Path(__file__).parents[2] / "logs"


def read(path: Path, importer: str | None = None, **mapping: str) -> tuple[list[RecordDraft], list[Skipped]]:
    found = importers.detect(path, importer, mapping or None)
    items = list(importers.read(found.log, found.importer, found.mapping))
    drafts = [item for item in items if isinstance(item, RecordDraft)]
    return drafts, [item for item in items if isinstance(item, Skipped)]
