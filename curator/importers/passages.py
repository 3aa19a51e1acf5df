"""Read the passages of a record from the many forms logs keep them in."""

from __future__ import annotations

import re
from typing import Any

from curator.importers import values
from curator.importers.draft import PassageDraft

TEXTS = ("text", "content", "page_content", "chunk", "passage", "body", "snippet", "segment", "内容")
DOCUMENTS = (
    "document_name", "document", "source", "title", "file_name", "filename", "file", "file_path", "name", "url",
    "doc_id", "document_id", "id", "文档", "来源",
)  # fmt: skip
SCORES = ("score", "similarity", "relevance_score", "relevance")
INSIDE = ("node", "document", "kwargs", "chunk")  # objects around the passage: LlamaIndex, Haystack, LangChain

# "report.pdf#page=3: text", at the start of a line: how Azure's sample app joins its sources.
_SOURCE_LINE = re.compile(r"^([^\s:][^\n:]{0,200}\.\w{2,5}(?:#[^\n:]*)?):[ \t]+", re.MULTILINE)


def read(value: Any) -> tuple[tuple[PassageDraft, ...], list[str]]:
    """Answer the passages, and the names of documents that the log gives without their text."""
    value = values.parsed(value)
    if isinstance(value, dict):
        value = value.get("documents") or value.get("chunks") or value.get("results") or [value]
    if isinstance(value, str):
        return split(value), []
    if not isinstance(value, list):
        return (), []
    found: list[PassageDraft] = []
    names: list[str] = []
    for entry in value:
        passage = one(entry)
        if passage.text.strip():
            found.append(passage)
        elif passage.document:
            names.append(passage.document)
    if found and not names and all(_is_name(passage) for passage in found):
        return (), [passage.text for passage in found]
    return tuple(found), names


def _is_name(passage: PassageDraft) -> bool:
    return not passage.document and re.fullmatch(r"[^\s]{1,200}\.\w{1,8}", passage.text) is not None


def one(entry: Any) -> PassageDraft:
    """Read one passage: a string, an object, or an object in a wrapping one."""
    if not isinstance(entry, dict):
        return PassageDraft(values.text(entry))
    inner = entry if isinstance(entry.get("text"), str) else _inside(entry)
    body_key = ""
    for key in (*TEXTS, "document"):
        if isinstance(inner.get(key), str):
            body_key = key
            break
    document = _name(inner, body_key)
    if not document and isinstance(metadata := inner.get("metadata"), dict):
        document = _name(metadata, "")
    if not document and inner is not entry:
        document = _name(entry, body_key)
    score = None
    for key in SCORES:
        if (value := entry.get(key, inner.get(key))) is not None and (score := values.number(value)) is not None:
            break
    return PassageDraft(values.text(inner.get(body_key)), document, score)


def _inside(entry: dict[str, Any]) -> dict[str, Any]:
    for key in INSIDE:
        if isinstance(inner := entry.get(key), dict):
            return inner["kwargs"] if isinstance(inner.get("kwargs"), dict) else inner
    return entry


def _name(holder: dict[str, Any], but: str) -> str:
    for key in DOCUMENTS:
        if (value := holder.get(key)) and key != but and (name := values.text(value)):
            return name
    return ""


def split(whole: str) -> tuple[PassageDraft, ...]:
    """Split one string at its lines "file.pdf#page=n: text"; one passage when it does not begin with such a line."""
    whole = values.text(whole)
    marks = list(_SOURCE_LINE.finditer(whole))
    if not marks or marks[0].start() != 0:
        return (PassageDraft(whole),) if whole.strip() else ()
    ends = [mark.start() for mark in marks[1:]] + [len(whole)]
    return tuple(
        PassageDraft(whole[mark.end() : end].strip(), mark[1])
        for mark, end in zip(marks, ends, strict=True)
        if whole[mark.end() : end].strip()
    )
