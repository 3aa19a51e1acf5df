"""Read JSON that may be broken: one text at a time, or the elements of a long file by counting its brackets."""

from __future__ import annotations

import io
import json
import re
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from curator.importers.draft import Skipped

if TYPE_CHECKING:
    from curator.importers.files import LogFile

LINE_CAP = 8 * 1024 * 1024
CHUNK = 1 << 18
INDENT = 64  # bytes kept before an element, to know its column
TOO_LONG = "The record is longer than 8 MB; such a long one is not an exchange a person could review."

_PLAIN = re.compile(rb'(?:[^"{}\[\]]++|"(?:[^"\\]++|\\.)*+")*+', re.DOTALL)  # all up to a bracket or a string cut off
_BODY = re.compile(rb'(?:[^"\\]++|\\.)*+', re.DOTALL)  # the inside of a string
_QUOTE, _NEWLINE, _OPEN = 0x22, b"\n", b"{["


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    values = dict(pairs)
    if len(values) != len(pairs):
        raise _DuplicateKeyError
    return values


class _DuplicateKeyError(ValueError):
    pass


def _missing(_constant: str) -> None:
    """Read NaN and Infinity as null: pandas writes them where a value is missing."""


_DECODER = json.JSONDecoder(object_pairs_hook=_unique, parse_constant=_missing)


def parse(raw: bytes) -> dict[str, Any] | str:
    """Answer the JSON object, or a sentence that says why there is none."""
    try:
        value = _DECODER.decode(raw.decode())
    except UnicodeDecodeError:
        return "The line holds bytes that are not text in the file's encoding."
    except _DuplicateKeyError:
        return "The record names the same key twice, so it is unclear which value is meant."
    except json.JSONDecodeError as error:
        return f"The line is not valid JSON ({error.msg} at character {error.pos + 1})."
    except ValueError:
        return "The record holds a number with thousands of digits."
    except RecursionError:
        return "The record is nested too deeply."
    if not isinstance(value, dict):
        return "The line is JSON, but not an object with named fields."
    return value


def elements(log: LogFile, level: int) -> Iterator[tuple[int, dict[str, Any]] | Skipped]:
    """Yield the objects that stand inside `level` brackets: 0 one after another, 1 in an array, 2 in {"…": […]}.

    Brackets are counted outside strings, so one broken element neither raises nor ends the file: reading goes on
    at the next line that starts an object in the same column.
    """
    with log.open() as stream:
        yield from _Scanner(stream, level).run()


class _Scanner:
    def __init__(self, stream: io.BufferedReader, level: int) -> None:
        self.stream, self.level = stream, level
        self.buffer, self.at = b"", 0
        self.line, self.counted = 1, 0  # the line at place `counted` of the buffer
        self.around = b""  # the brackets around elements that are open now, at most `level` of them
        self.depth = 0
        self.in_string = False
        self.start: int | None = None  # of the element being read
        self.dropping = False  # the element is too long: count its brackets, keep nothing

    def run(self) -> Iterator[tuple[int, dict[str, Any]] | Skipped]:
        while True:
            if not self._to_bracket():
                if self.start is not None and len(self.buffer) - self.start > LINE_CAP:
                    yield Skipped(self._line_of(self.start), TOO_LONG)
                    if not self._recover():
                        self.dropping, self.start = True, None
                if not self._refill():
                    if self.start is None:
                        return
                    yield Skipped(self._line_of(self.start), "The file ends in the middle of this record.")
                    if not self._recover():
                        return
                continue
            yield from self._bracket(self.buffer[self.at : self.at + 1])

    def _to_bracket(self) -> bool:
        """Go to the next bracket outside strings; False when more of the file is needed first."""
        while True:
            if self.in_string:
                self.at = _end(_BODY, self.buffer, self.at)
                if self.at >= len(self.buffer) or self.buffer[self.at] != _QUOTE:
                    return False
                self.at, self.in_string = self.at + 1, False
            self.at = _end(_PLAIN, self.buffer, self.at)
            if self.at >= len(self.buffer):
                return False
            if self.buffer[self.at] != _QUOTE:
                return True
            self.at, self.in_string = self.at + 1, True

    def _bracket(self, mark: bytes) -> Iterator[tuple[int, dict[str, Any]] | Skipped]:
        self.at += 1
        if mark in (b"{", b"["):
            if self.depth == self.level and mark == b"{" and self.around == _OPEN[2 - self.level :][: self.level]:
                self.start = self.at - 1
            if self.depth < self.level:
                self.around = self.around[: self.depth] + mark
            self.depth += 1
            return
        self.depth = max(0, self.depth - 1)
        if self.depth < self.level:
            self.around = self.around[: self.depth]
        if self.depth != self.level:
            return
        self.dropping = False
        if self.start is not None:
            value = parse(self.buffer[self.start : self.at])
            line = self._line_of(self.start)
            if isinstance(value, str):
                yield Skipped(line, value)
                self._recover()
            else:
                yield line, value
            self.start = None

    def _recover(self) -> bool:
        """Go back to where the next sibling of a broken element starts, if that can be seen."""
        start = self.start or 0
        before = self.buffer[max(0, start - INDENT) : start]
        before = before[before.rfind(_NEWLINE) + 1 :]
        sibling = self.buffer.find(_NEWLINE + (before if before.isspace() else b"") + b"{", start, len(self.buffer))
        if sibling < 0:
            return False
        self.at, self.depth, self.start, self.in_string = sibling + 1, self.level, None, False
        return True

    def _line_of(self, place: int) -> int:
        self.line += self.buffer.count(_NEWLINE, self.counted, place)
        self.counted = place
        return self.line

    def _refill(self) -> bool:
        self._line_of(self.at if self.start is None else self.start)
        keep = max(0, self.counted - INDENT)
        more = self.stream.read(CHUNK)
        self.buffer = self.buffer[keep:] + more
        self.at, self.counted = self.at - keep, self.counted - keep
        self.start = None if self.start is None else self.start - keep
        return bool(more)


def _end(pattern: re.Pattern[bytes], buffer: bytes, at: int) -> int:
    match = pattern.match(buffer, at)
    return match.end() if match else at
