"""The log formats there are, by name, and the one way to read any of them.

Each module has `sniff(objects)`, how well it fits from 0 to 1; `guess(objects)`, the mapping {field: column} it would
use; and `read(log, mapping)`, which yields drafts and skips and never raises for a bad line.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path
from types import ModuleType

from curator.errors import Invalid
from curator.importers import alpaca, fields, openai_chat, qa_table, sharegpt
from curator.importers.draft import PassageDraft, RecordDraft, Skipped
from curator.importers.files import LogFile, open_log
from curator.importers.readers import FIELD_CAP, sample, settle

__all__ = ["IMPORTERS", "Detection", "LogFile", "PassageDraft", "RecordDraft", "Skipped", "detect", "look", "read"]

IMPORTERS: dict[str, ModuleType] = {
    "openai-chat": openai_chat,
    "sharegpt": sharegpt,
    "alpaca": alpaca,
    "qa-table": qa_table,
}


@dataclass(frozen=True)
class Detection:
    """What a file seems to be: the importer that fits, its mapping, all columns, and the first drafts."""

    log: LogFile
    importer: str
    mapping: dict[str, str]
    confidence: float
    columns: list[str]
    drafts: list[RecordDraft] = field(default_factory=list[RecordDraft])
    skipped: list[Skipped] = field(default_factory=list[Skipped])


def look(path: Path) -> LogFile:
    """Open a log and find out its encoding and shape; raises CuratorError for what is none."""
    return settle(open_log(path))


def detect(path: Path, importer: str | None = None, mapping: Mapping[str, str] | None = None) -> Detection:
    """Find the importer that fits a file best, with its mapping and first drafts.

    A given importer is not questioned; a given mapping goes before the guessed one. Raises Invalid with the
    columns found when nothing fits.
    """
    log = look(path)
    objects = sample(log)
    names = list(fields.columns(objects))
    if importer is None:
        scores = {name: float(module.sniff(objects)) for name, module in IMPORTERS.items()}
        importer = max(scores, key=lambda name: scores[name])
        confidence = scores[importer]
        if confidence < 0.3 and mapping and "question" in mapping:
            importer = "qa-table"
        elif confidence < 0.3:
            raise Invalid(
                "No known log format fits. Name the columns that hold the question and the answer. "
                "Columns found: %(names)s.",
                names=_listed(names),
            )
    elif importer in IMPORTERS:
        confidence = float(IMPORTERS[importer].sniff(objects))
    else:
        raise Invalid("There is no log format “%(name)s”. Known: %(known)s.", name=importer, known=", ".join(IMPORTERS))
    chosen = {**IMPORTERS[importer].guess(objects), **(mapping or {})}
    check_mapping(importer, chosen, names)
    first = list(islice(read(log, importer, chosen), 100))
    drafts = [item for item in first if isinstance(item, RecordDraft)]
    skipped = [item for item in first if isinstance(item, Skipped)]
    return Detection(log, importer, chosen, confidence, names, drafts[:5], skipped)


def check_mapping(importer: str, mapping: Mapping[str, str], names: list[str]) -> None:
    """Refuse a mapping that names unknown fields or columns, or a table without question and answer."""
    module = IMPORTERS[importer]
    known = {*fields.FIELDS, *module.guess([{}])}
    for name, column in mapping.items():
        if name not in known:
            raise Invalid("There is no field “%(name)s”. Fields: %(known)s.", name=name, known=", ".join(sorted(known)))
        if column not in names and column not in module.guess([{}]).values():
            raise Invalid(
                "The file has no column “%(column)s”. Columns found: %(names)s.",
                column=column, names=_listed(names),
            )  # fmt: skip
    for name in ("question", "answer"):
        if module is qa_table and name not in mapping:
            raise Invalid(
                "No column seems to hold the %(field)s. Name it. Columns found: %(names)s.",
                field=name, names=_listed(names),
            )  # fmt: skip


def read(log: LogFile, importer: str, mapping: Mapping[str, str]) -> Iterator[RecordDraft | Skipped]:
    """Yield drafts that can be kept and skips that say why not; `log.position` tells how far it has come."""
    for item in IMPORTERS[importer].read(log, mapping):
        problem = None if isinstance(item, Skipped) else flaw(item)
        yield Skipped(item.line, problem) if problem else item


def flaw(draft: RecordDraft) -> str | None:
    """Answer why a draft cannot become a record, in a sentence; None when it can."""
    if not draft.question or draft.question.isspace():
        return "The record has no question."
    if not draft.answer or draft.answer.isspace():
        return "The record has no answer."
    rejected = draft.signals.get("rejected", "")
    texts = [
        draft.question, draft.answer, draft.system, draft.reference, draft.conversation, draft.external_id, rejected,
        draft.signals.get("comment", ""), *draft.signals.get("documents", ()),
        *[turn["content"] for turn in draft.turns],
    ]  # fmt: skip
    for passage in draft.passages:
        texts += (passage.text, passage.document)
    whole = "\n".join(texts)
    if "\0" in whole:
        return "The record holds a NUL character, which is no text."
    if len(whole) > FIELD_CAP and max(map(len, texts)) > FIELD_CAP:
        return "A text of the record is longer than 4 million characters."
    if not whole.isascii() and not _encodes(whole):
        return "The record holds half a character (a lone surrogate)."
    return None


def _listed(names: list[str]) -> str:
    return ", ".join(name[:60] for name in names[:30])


def _encodes(text: str) -> bool:
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True
