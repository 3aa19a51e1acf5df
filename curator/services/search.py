"""Search over questions, answers, corrections, earlier turns and passages, in English and Chinese alike.

A person types words, "phrases" and beginnings*; all of them must be in a record. Words are compared as
curator/services/tokens.py cuts them, so a Chinese word of one or two characters is found as surely as a long one.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

from sqlmodel import Session, col, select

from curator.services import tokens as cut
from curator.services.bulk import fetch
from db import search as index
from db.models import Passage, Record, Review
from db.search import GAP, MOST_PLACES, Entry, Hits, Phrase

MOST_TERMS, LONGEST_TERM = 16, 64  # of a query, and tokens of a term: what is typed beyond them is left out
SHORTEST_BEGINNING = 2  # letters before a *; with one, half of all words would be looked up
READ = 200_000  # characters of one text that are indexed; a record's first 16,000 words are, in any case
_QUOTES = str.maketrans(dict.fromkeys("“”„‟«»「」『』＂", '"') | {"＊": "*"})
_TYPED = re.compile(rf"((?:[\w{cut.MARKS}]|[-'’.@:&])+)(\*?)")  # one word, or several written as one, like e-mail
_passage = Passage.__table__  # pyright: ignore[reportAttributeAccessIssue] # SQLModel does not declare it
_review = Review.__table__  # pyright: ignore[reportAttributeAccessIssue] # SQLModel does not declare it

Segments = list[tuple[str, bool]]  # pieces of a text, and whether each is a hit


class Term(NamedTuple):
    """Words that stand side by side. `prefix`: the last may go on; `solid`: all are in one run without spaces."""

    words: tuple[str, ...]
    prefix: bool
    solid: bool
    phrases: tuple[Phrase, ...]  # what the index is asked for


@dataclass(frozen=True)
class Query:
    """What somebody looks for; one without terms finds nothing."""

    terms: tuple[Term, ...]

    def __bool__(self) -> bool:
        return bool(self.terms)


def parse(asked: str) -> Query:
    """Read what somebody typed: words, "phrases", beginnings*. Nothing fails: any other sign counts as a space.

    What was written without a space in between, as in `e-mail` or `iPhone手机`, is looked for like that.
    """
    found: dict[Term, None] = {}
    parts = asked.translate(_QUOTES).split('"')
    for number, part in enumerate(parts):
        quoted = number % 2 == 1 and number < len(parts) - 1
        if quoted:
            typed = [(part, part.rstrip().endswith("*") or parts[number + 1].startswith("*"))]
        else:
            typed = [(words, bool(star)) for words, star in _TYPED.findall(part)]
        for words, prefix in typed:
            term = _term(words, prefix)
            if term:
                found[term] = None
    return Query(tuple(found)[:MOST_TERMS])


def _term(text: str, prefix: bool) -> Term | None:
    pieces = cut.pieces(text)
    words = [word for piece in pieces for word in piece.words]
    if not words:
        return None
    if len(words) > LONGEST_TERM:
        words, prefix = words[:LONGEST_TERM], False
    solid = len(pieces) == 1 and pieces[0].solid
    prefix = prefix and not pieces[-1].solid and len(words[-1]) >= SHORTEST_BEGINNING
    runs = [piece.words[:LONGEST_TERM] for piece in pieces if piece.solid and len(piece.words) > 1]
    pairs = [Phrase(tuple(cut.pairs_of(run))) for run in runs][:LONGEST_TERM]
    phrases = pairs if solid and pairs else [*pairs, Phrase(tuple(words), prefix)]
    return Term(tuple(words), prefix, solid, tuple(phrases))


def hits(session: Session, query: Query) -> Hits:
    """Answer what finds a query's records, to be joined with others; see db.search.hits."""
    phrases = dict.fromkeys(phrase for term in query.terms for phrase in term.phrases)
    return index.hits(session.get_bind().dialect.name, list(phrases))


def newest(session: Session, query: Any, asked: str, *, before: int = 0) -> Any:  # a SELECT from record, both
    """Narrow a query over records to those that hold what is asked for, newest first, from before a record's id.

    The order is by the index's own ids, so that SQLite stops at the query's limit.
    """
    query, record_id = _joined(session, query, asked)
    if before:
        query = query.where(record_id < before)
    return query.order_by(record_id.desc())


def newest_ids(session: Session, asked: str) -> Any:  # a SELECT of ids, of all projects
    """Select the ids of the records that hold what is asked for, newest first."""
    found = hits(session, parse(asked))
    return select(found.record_id.label("id")).where(found.where).order_by(found.record_id.desc())


def among(session: Session, query: Any, asked: str) -> Any:  # a SELECT from record, both
    """Narrow a query over records to those that hold what is asked for."""
    return _joined(session, query, asked)[0]


def _joined(session: Session, query: Any, asked: str) -> tuple[Any, Any]:  # the SELECT, and the index's column of ids
    found = hits(session, parse(asked))
    return query.join(found.source, found.record_id == col(Record.id)).where(found.where), found.record_id


def put(session: Session, records: Sequence[Record]) -> None:
    """Index records as they stand, with the corrections of the reviews that settled them."""
    index.put(session.connection(), entries(session, records))


def entries(session: Session, records: Sequence[Record]) -> list[Entry]:
    """Read what is to be indexed of some records, in two queries."""
    ids = [record.id or 0 for record in records]
    passages: dict[int, list[str]] = {id_: [] for id_ in ids}
    query = select(_passage.c.record_id, _passage.c.document, _passage.c.text).where(_passage.c.record_id.in_(ids))
    for id_, document, text in fetch(session, query.order_by(_passage.c.record_id, _passage.c.position)):
        passages[id_] += (document, text)
    settled = [record.settled_by for record in records if record.settled_by and record.edited]
    chosen = select(_review.c.record_id, _review.c.question, _review.c.answer, _review.c.turns)
    found = fetch(session, chosen.where(_review.c.id.in_(settled))) if settled else ()
    corrections = {id_: (question, answer, turns) for id_, question, answer, turns in found}
    return [_entry(record, corrections.get(record.id or 0), passages[record.id or 0]) for record in records]


def _entry(record: Record, correction: Any, passages: Sequence[str]) -> Entry:  # a row's values
    question, answer, turns = correction or (None, None, {})
    texts = (
        record.question, question, answer, record.answer, *turns.values(),
        *(turn["content"] for turn in record.turns), *passages,
    )  # fmt: skip
    return entry(record.id or 0, (text for text in texts if text))


def entry(record_id: int, texts: Iterable[str]) -> Entry:
    """Answer what is indexed of these texts, most important first; no phrase reaches from one into the next."""
    words: list[str] = []
    pairs: list[str] = []
    for text in texts:
        found = cut.read(text[:READ])
        words += found.words
        words.append(GAP)
        pairs += found.pairs
        if len(words) >= MOST_PLACES:
            break
    return Entry(record_id, words[:MOST_PLACES], pairs[:MOST_PLACES])


def highlight(text: str, asked: str | Query) -> Segments:
    """Answer a text in segments, the hits marked; joined they are the text to the character."""
    return _segments(text, _found(text, asked))


def _segments(text: str, found: Sequence[tuple[int, int]]) -> Segments:
    segments: Segments = []
    last = 0
    for start, end in found:
        segments += [(text[last:start], False), (text[start:end], True)]
        last = end
    return [(piece, marked) for piece, marked in [*segments, (text[last:], False)] if piece]


def _found(text: str, asked: str | Query) -> list[tuple[int, int]]:
    """Answer where a text holds what was asked for, as (start, end) in order, none overlapping."""
    query = parse(asked) if isinstance(asked, str) else asked
    places = cut.places(text) if query else cut.Places([], [], [], [])
    found: list[tuple[int, int]] = []
    spans = (
        (places.starts[at], places.ends[at + len(term.words) - 1]) for term in query.terms for at in _at(places, term)
    )
    for start, end in sorted(spans):
        if found and start < found[-1][1]:
            found[-1] = (found[-1][0], max(end, found[-1][1]))
        else:
            found.append((start, end))
    return found


def _at(places: cut.Places, term: Term) -> Iterator[int]:
    """Yield the places at which a term begins."""
    words, size = list(term.words), len(term.words)
    *firsts, last = words
    if term.prefix:
        starts = (at - size + 1 for at, token in enumerate(places.tokens) if at >= size - 1 and token.startswith(last))
        yield from (at for at in starts if places.tokens[at : at + size - 1] == firsts)
        return
    at = -1
    while True:
        try:
            at = places.tokens.index(words[0], at + 1)
        except ValueError:
            return
        if places.tokens[at : at + size] == words and not (
            term.solid and places.pieces[at] != places.pieces[at + size - 1]
        ):
            yield at
