"""Read a log of any shape as one stream of objects with their lines, in bounded memory.

A line or object that cannot be read becomes a Skipped; nothing raises for it, and reading goes on.
"""

from __future__ import annotations

import csv
import io
import re
from collections.abc import Iterator
from itertools import islice
from typing import Any

from curator.errors import Invalid
from curator.importers.draft import Skipped
from curator.importers.files import LogFile
from curator.importers.jsontext import LINE_CAP, TOO_LONG, elements, parse

FIELD_CAP = 4 * 1024 * 1024
RECORD_KEYS = frozenset({
    "messages", "conversations", "conversation", "question", "query", "prompt", "instruction", "input", "inputs",
    "user_input", "answer", "response", "output", "问题", "回答", "metric_input",
})  # fmt: skip

Item = tuple[int, dict[str, Any]] | Skipped  # values are whatever JSON holds


def items(log: LogFile) -> Iterator[Item]:
    """Yield (line, object) for each object of the log, or Skipped for what is none."""
    if log.shape == "lines":
        return _lines(log)
    if log.shape == "table":
        return _table(log)
    return elements(log, {"objects": 0, "array": 1, "wrapped": 2}[log.shape])


def sample(log: LogFile, count: int = 100) -> list[dict[str, Any]]:
    """Answer the first objects, looking at no more than ten times as many lines."""
    found = [item[1] for item in islice(items(log), count * 10) if not isinstance(item, Skipped)][:count]
    if not found:
        raise Invalid("No line of the file could be read as a record. Check that it is the log and not a report on it.")
    return found


def settle(log: LogFile) -> LogFile:
    """Tell JSON Lines, JSON objects one after another and one object around an array apart."""
    if log.shape != "lines":
        return log
    with log.open() as stream:
        first = _first_line(stream)
        more = _first_line(stream)
    whole = len(first) <= LINE_CAP and isinstance(parse(first), dict)
    if whole:
        log.shape = "wrapped" if not more and _wraps(parse(first)) else "lines"
        return log
    if more.startswith(b"{") and (first.rstrip().endswith(b"}") or len(first) > LINE_CAP):
        return log
    log.shape = "objects"
    alone = list(islice(items(log), 2))
    head = alone[0] if alone else Skipped(1, "")
    if len(alone) == 1 and (isinstance(head, Skipped) or _wraps(head[1])):
        log.shape = "wrapped"
    return log


def _wraps(value: object) -> bool:
    if not isinstance(value, dict) or RECORD_KEYS & value.keys():
        return False
    return any(isinstance(inner, list) and inner and isinstance(inner[0], dict) for inner in value.values())


def _first_line(stream: io.BufferedReader) -> bytes:
    while line := stream.readline(LINE_CAP + 1):
        if len(line) > LINE_CAP:
            _drain(stream, line)
        if line.strip():
            return line.lstrip()
    return b""


def _drain(stream: io.BufferedReader, line: bytes) -> None:
    while line and not line.endswith(b"\n"):
        line = stream.readline(1 << 18)


def _lines(log: LogFile) -> Iterator[Item]:
    with log.open() as stream:
        number = 0
        while line := stream.readline(LINE_CAP + 1):
            number += 1
            if len(line) > LINE_CAP:
                _drain(stream, line)
                yield Skipped(number, TOO_LONG)
                continue
            if not line.strip():
                continue
            value = parse(line)
            yield Skipped(number, value) if isinstance(value, str) else (number, value)


class _RowTooLongError(Exception):
    pass


class _Rows:
    """The lines of a table for csv.reader, which refuse to grow one row without end."""

    def __init__(self, stream: io.BufferedReader) -> None:
        self.stream, self.number, self.row = stream, 0, 0

    def __iter__(self) -> _Rows:
        return self

    def __next__(self) -> str:
        line = self.stream.readline(LINE_CAP + 1)
        if not line:
            raise StopIteration
        self.number += 1
        self.row += len(line)
        if self.row > LINE_CAP:
            _drain(self.stream, line)
            raise _RowTooLongError
        return line.decode("utf-8", "surrogateescape")


def _table(log: LogFile) -> Iterator[Item]:
    csv.field_size_limit(FIELD_CAP)
    with log.open() as stream:
        rows = _Rows(stream)
        reader = csv.reader(rows, delimiter=log.delimiter, strict=True)
        header: list[str] = []
        while True:
            rows.row, start = 0, rows.number + 1
            try:
                row = next(reader)
            except StopIteration:
                return
            except _RowTooLongError:
                yield Skipped(start, TOO_LONG)
                continue
            except csv.Error:
                yield Skipped(start, "The row cannot be read: a cell is longer than 4 MB or its quotes do not close.")
                continue
            if not any(row):
                continue
            if not header:
                header = [name.strip() for name in row]
            elif any(map(unreadable, row)):
                yield Skipped(start, "The row holds bytes that are not text in the file's encoding.")
            elif any(row[len(header) :]):
                yield Skipped(start, "The row has more cells than the header: a quote or separator is missing.")
            else:
                yield start, {name: cell for name, cell in zip(header, row, strict=False) if name}


_LOST = re.compile("[\ud800-\udfff]")


def unreadable(text: str) -> bool:
    """Tell whether bytes of the text could not be decoded."""
    return not text.isascii() and _LOST.search(text) is not None
