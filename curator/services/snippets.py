"""Where a search was found, for what a list does not show: further down a text, in a passage, in a correction."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any, NamedTuple

from sqlalchemy import select as select_columns
from sqlmodel import Session, col, func

from curator.services import search
from curator.words import N_
from db.models import Passage, Record, Review

READ = 8_000  # characters of a text that are looked through
BEFORE, AROUND = 40, 160  # characters shown before the hit, and in all

PLACES = {
    "question": N_("further down the question"),
    "answer": N_("further down the answer"),
    "correction": N_("in the correction"),
    "passage": N_("in a passage"),
}


class Snippet(NamedTuple):
    """A piece of text around a hit: which text it is from (a key of PLACES), in pieces as search.highlight has them."""

    place: str
    pieces: list[tuple[str, bool]]


def missing(lines: Iterable[Any], asked: str) -> list[int]:  # lines of records.Page, which are of the layer's peer
    """Answer the ids of those lines that show nothing of what was asked for."""
    return [line.id for line in lines if not _marked(line.question, asked) and not _marked(line.answer, asked)]


def of(session: Session, record_ids: Sequence[int], asked: str) -> dict[int, Snippet]:
    """Answer a snippet for each of these records where one is found near the start of a text."""
    found: dict[int, Snippet] = {}
    for record_id, place, text in _texts(session, record_ids) if record_ids else ():
        if record_id not in found and (pieces := around(text, asked)):
            found[record_id] = Snippet(place, pieces)
    return found


def around(text: str, asked: str) -> list[tuple[str, bool]]:
    """Cut out what surrounds the first hit of a text; empty where there is none."""
    place = 0
    for piece, marked in search.highlight(text, asked):
        if marked:
            start = _word_start(text, max(0, place - BEFORE), place)
            cut = text[start : place + len(piece) + AROUND - BEFORE]
            ends = (start > 0, start + len(cut) < len(text))
            shown = search.highlight(cut, asked)
            return [*([("… ", False)] if ends[0] else []), *shown, *([(" …", False)] if ends[1] else [])]
        place += len(piece)
    return []


def _word_start(text: str, start: int, end: int) -> int:
    space = text.find(" ", start, end) if start else -1
    return space + 1 if space >= 0 else start


def _marked(text: str, asked: str) -> bool:
    return any(marked for _, marked in search.highlight(text, asked))


def _texts(session: Session, ids: Sequence[int]) -> Iterable[tuple[int, str, str]]:
    """Answer the texts of some records, each with its place; what settled a gold record stays unseen."""
    read: Any = session.connection().execute
    own = select_columns(
        col(Record.id), func.substr(Record.question, 1, READ), func.substr(Record.answer, 1, READ)
    ).where(col(Record.id).in_(ids))
    for record_id, question, answer in read(own):
        yield record_id, "question", question
        yield record_id, "answer", answer
    settled = (
        select_columns(col(Record.id), func.substr(Review.question, 1, READ), func.substr(Review.answer, 1, READ))
        .join(Review, col(Review.id) == col(Record.settled_by))
        .where(col(Record.id).in_(ids), col(Record.gold).is_(False))
    )
    for record_id, question, answer in read(settled):
        yield record_id, "correction", f"{question or ''}\n{answer or ''}"
    passages = (
        select_columns(col(Passage.record_id), col(Passage.document), func.substr(Passage.text, 1, READ))
        .where(col(Passage.record_id).in_(ids))
        .order_by(col(Passage.record_id), col(Passage.position))
    )
    for record_id, document, text in read(passages):
        yield record_id, "passage", f"{document}\n{text}" if document else text
