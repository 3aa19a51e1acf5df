"""Write export files beside their place and rename them when whole; pack them for a download."""

from __future__ import annotations

import json
import os
import zipfile
from collections.abc import Generator, Iterable
from contextlib import contextmanager
from pathlib import Path
from typing import TextIO

to_json = json.JSONEncoder(ensure_ascii=False).encode  # made once: json.dumps() makes one a call


@contextmanager
def whole(path: Path) -> Generator[TextIO]:
    """Open a file that gets its name only when the block ends well."""
    draft = path.with_name(f".{path.name}.part")
    try:
        with draft.open("w", encoding="utf-8", newline="\n") as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        draft.replace(path)
    finally:
        draft.unlink(missing_ok=True)


def write_lines(path: Path, lines: Iterable[str]) -> Path | None:
    """Write lines, holding one at a time; answer the file, or None, and leave no file, when there are none."""
    lines = iter(lines)
    first = next(lines, None)
    if first is None:
        path.unlink(missing_ok=True)
        return None
    with whole(path) as file:
        file.write(f"{first}\n")
        file.writelines(f"{line}\n" for line in lines)
    return path


def write_text(path: Path, text: str) -> Path:
    """Write one text; answer the file."""
    with whole(path) as file:
        file.write(text)
    return path


def pack(files: Iterable[Path], target: Path) -> Path:
    """Pack files into one zip whose bytes depend only on theirs; answer the zip."""
    draft = target.with_name(f".{target.name}.part")
    try:
        with zipfile.ZipFile(draft, "w", zipfile.ZIP_DEFLATED, compresslevel=6) as archive:
            for file in files:
                entry = zipfile.ZipInfo(file.name)  # of 1980: a time of day would change the bytes
                entry.compress_type, entry.external_attr = zipfile.ZIP_DEFLATED, 0o644 << 16
                with file.open("rb") as source, archive.open(entry, "w", force_zip64=True) as place:
                    while chunk := source.read(1 << 20):
                        place.write(chunk)
        draft.replace(target)
    finally:
        draft.unlink(missing_ok=True)
    return target
