"""Open a log file of any encoding and shape as one stream of UTF-8 bytes.

A shape is how records follow each other: `lines` (JSON Lines), `array` (one JSON array), `objects` (JSON objects
one after another), `wrapped` (an array inside one object, such as {"results": […]}) or `table` (CSV, TSV).
"""

from __future__ import annotations

import codecs
import csv
import io
from collections.abc import Generator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO, Literal, cast

from curator.errors import Invalid, NotFound

Shape = Literal["lines", "array", "objects", "wrapped", "table"]

SAMPLE = 256 * 1024
ASCII_SEARCH = 64 * 1024 * 1024  # how far the first non-ASCII byte is looked for
KINDS = {
    b"PK\x03\x04": "The file is a zip archive or an Excel workbook. Unpack it, or save the sheet as CSV.",
    b"\x1f\x8b": "The file is compressed. Unpack it first.",
    b"%PDF": "The file is a PDF, not a log. Export the conversations as JSON Lines or CSV.",
    b"SQLite format 3": "The file is a database, not a log. Export the conversations as JSON Lines or CSV.",
    b"PAR1": "The file is in Parquet format. Save it as JSON Lines or CSV.",
    b"\xd0\xcf\x11\xe0": "The file is an old Excel or Word document. Save it as CSV.",
}
NOT_TEXT = "The file is not text. Export the conversations as JSON Lines, JSON or CSV."
LOST = "\ufffd".encode()
UNKNOWN_ENCODING = "The file's characters are neither UTF-8, UTF-16 nor GB18030. Save it as UTF-8 and try again."


@dataclass
class LogFile:
    """A log that was looked at; `position` counts the bytes read so far while somebody reads it."""

    path: Path
    encoding: str
    shape: Shape
    delimiter: str = ","
    position: int = 0

    @contextmanager
    def open(self) -> Generator[io.BufferedReader]:
        """Open the file from its start as UTF-8 bytes without a byte order mark."""
        with self.path.open("rb", buffering=0) as file:
            yield io.BufferedReader(Utf8(file, self.encoding, self), 1 << 18)


class Utf8(io.RawIOBase):
    """A file re-coded to UTF-8 while it is read; what cannot be decoded becomes a byte that is no UTF-8 either."""

    def __init__(self, file: io.RawIOBase, encoding: str, log: LogFile) -> None:
        self.file, self.log, self.rest = file, log, b""
        self.decoder = None if encoding == "utf-8" else codecs.getincrementaldecoder(encoding)("replace")
        log.position = 0
        if self.decoder is None and file.read(3) != codecs.BOM_UTF8:
            file.seek(0)

    def readable(self) -> bool:
        return True

    def readinto(self, target: memoryview) -> int:  # pyright: ignore[reportIncompatibleMethodOverride] # any buffer
        if self.decoder is None:
            count = self.file.readinto(target) or 0
            self.log.position += count
            return count
        while not self.rest:
            raw = self.file.read(1 << 17) or b""
            self.log.position += len(raw)
            self.rest = self.decoder.decode(raw, final=not raw).encode().replace(LOST, b"\xff")
            if self.log.position == len(raw):
                self.rest = self.rest.removeprefix(codecs.BOM_UTF8)
            if not raw:
                break
        part, self.rest = self.rest[: len(target)], self.rest[len(target) :]
        target[: len(part)] = part
        return len(part)


def open_log(path: Path) -> LogFile:
    """Find out a file's encoding and table delimiter, and its shape unless it holds JSON objects.

    Objects stay `lines` here; readers.settle() looks closer. Raises NotFound, or Invalid with a sentence, for what
    is no readable text.
    """
    if not path.is_file():
        raise NotFound("The file is no longer there. Upload it again.")
    with path.open("rb") as file:
        head = file.read(SAMPLE)
        if not head.strip():
            raise Invalid("The file is empty.")
        for magic, sentence in KINDS.items():
            if head.startswith(magic):
                raise Invalid(sentence)
        encoding = find_encoding(head, file)
    log = LogFile(path, encoding, "lines")
    with log.open() as stream:
        text = stream.read(SAMPLE).decode("utf-8", "replace")
    start = text.lstrip()[:1]
    if not start:
        raise Invalid("The file is empty.")
    if start in "[{":
        log.shape = "array" if start == "[" else "lines"
    else:
        log.shape, log.delimiter = "table", find_delimiter(text)
    return log


def find_encoding(head: bytes, file: BinaryIO) -> str:
    """Answer `utf-8`, `utf-16…` or `gb18030` from the first bytes and the first ones that are not ASCII."""
    if head.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)):
        return "utf-16"
    if head.startswith(codecs.BOM_UTF8):
        return "utf-8"
    even, odd = head[::2].count(0), head[1::2].count(0)
    if max(even, odd) > len(head) // 16 and max(even, odd) > 4 * min(even, odd):
        return "utf-16-le" if odd > even else "utf-16-be"
    if head.count(0) > len(head) // 100 + 8:
        raise Invalid(NOT_TEXT)
    sample, seen = head, len(head)
    while sample.isascii() and seen < ASCII_SEARCH:
        sample = file.read(1 << 20)
        seen += len(sample)
        if not sample:
            return "utf-8"
    if sum(byte < 9 for byte in sample) > len(sample) // 50:
        raise Invalid(NOT_TEXT)
    good, bad, plain = count_lines(sample)
    if good >= bad:
        return "utf-8"  # the bad lines are broken ones, to be skipped
    if everyday_chinese(sample):
        return "gb18030"
    if bad > plain:
        raise Invalid(UNKNOWN_ENCODING)
    return "utf-8"


def count_lines(sample: bytes) -> tuple[int, int, int]:
    """Count lines that are UTF-8 beyond ASCII, that are not UTF-8, and that are plain ASCII."""
    good = bad = plain = 0
    for line in sample.splitlines():
        if line.isascii():
            plain += 1
            continue
        try:
            line.decode()
            good += 1
        except UnicodeDecodeError as error:
            bad += error.start < len(line) - 3  # the sample may end inside a character
    return good, bad, plain


def everyday_chinese(sample: bytes) -> bool:
    """Tell whether the bytes read as everyday Chinese in GB18030; any Western text reads as some rare Chinese.

    Everyday: most pairs lie in rows A1-A3 (punctuation) and B0-D7 (the 3,755 level-1 characters) of GB 2312.
    """
    pairs = common = position = 0
    while position < len(sample) - 1:
        lead, trail = sample[position], sample[position + 1]
        if lead < 0x80:
            position += 1
            continue
        pairs += 1
        common += trail >= 0xA1 and (0xA1 <= lead <= 0xA3 or 0xB0 <= lead <= 0xD7)
        position += 2
    try:
        codecs.getincrementaldecoder("gb18030")().decode(sample)
    except UnicodeDecodeError:
        common = -1 if common * 10 < pairs * 9 else common  # a stray byte in plainly Chinese text costs one line only
    return pairs > 0 and common * 10 >= pairs * 7


def find_delimiter(text: str) -> str:
    """Answer what separates the columns: the mark that splits the header into most columns, quotes respected."""
    lines = text.splitlines(keepends=True)[:200]
    best, columns = ",", 1
    for delimiter in ",\t;|":
        try:
            header = next(csv.reader(lines, delimiter=delimiter))
        except (csv.Error, StopIteration):
            continue
        if len(header) > columns:
            best, columns = delimiter, len(header)
    if columns == 1:
        raise Invalid("The file is neither JSON nor a table with a header. Export the log as JSON Lines, JSON or CSV.")
    return cast(str, best)
