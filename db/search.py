"""Full-text search: the one place with SQL that differs between databases.

Both are given the same tokens, made by curator/services/tokens.py, so both find the same: SQLite keeps them in an FTS5
table without content, PostgreSQL as a tsvector. A record has one row, whose number is the record's id.

A row holds two lists of tokens, each with its own count of places: words, and pairs of characters that stand side by
side in a script without spaces. No word is a pair, so SQLite can keep both in one column, one list behind the other.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from itertools import accumulate
from typing import NamedTuple

from sqlalchemy import (
    BigInteger,
    ColumnElement,
    Connection,
    FromClause,
    cast,
    column,
    false,
    literal,
    literal_column,
    table,
    text,
)
from sqlalchemy.types import UserDefinedType

GAP = "\ue000"  # takes a place and is nothing: a phrase never reaches over it
LONGEST = 64  # characters of a token; a longer word is kept as several
MOST_PLACES = 16_000  # in one list; PostgreSQL counts places up to 16,383
MOST_CHARACTERS = 120_000  # in one list of words; a tsvector holds 1 MB
MOST_ALIKE = 255  # places PostgreSQL keeps of one token; later ones become gaps in SQLite as well
_fts = table("record_search", column("rowid", BigInteger), column("tokens"))
_vectors = table("record_search", column("record_id", BigInteger), column("tokens"))


class _TsQuery(UserDefinedType[str]):
    """PostgreSQL's tsquery; SQLAlchemy's own would load its whole PostgreSQL side where only SQLite is used."""

    cache_ok = True

    def get_col_spec(self, **_: object) -> str:
        return "tsquery"


class Entry(NamedTuple):
    """What is indexed of a record."""

    record_id: int
    words: Sequence[str]
    pairs: Sequence[str]


class Phrase(NamedTuple):
    """Tokens that stand side by side; `prefix`: the last one is only the beginning of a word."""

    tokens: tuple[str, ...]
    prefix: bool = False


class Hits(NamedTuple):
    """What to select from, the column of record ids in it, and the condition that finds the phrases."""

    source: FromClause
    record_id: ColumnElement[int]
    where: ColumnElement[bool]


def create(connection: Connection) -> None:
    """Make the index's table. The tokenizer only splits at spaces, since our tokens have nothing else to split at."""
    if connection.dialect.name == "sqlite":
        connection.exec_driver_sql(
            "CREATE VIRTUAL TABLE record_search USING fts5(tokens, content='', contentless_delete=1, tokenize='ascii')"
        )
    else:
        connection.exec_driver_sql(
            "CREATE TABLE record_search (record_id BIGINT PRIMARY KEY, tokens TSVECTOR NOT NULL)"
        )
        connection.exec_driver_sql("CREATE INDEX record_search_tokens ON record_search USING GIN (tokens)")


def put(connection: Connection, entries: Iterable[Entry]) -> None:
    """Index records, in place of what was indexed of them before."""
    ready = [(id_, _bounded(words), _bounded(pairs)) for id_, words, pairs in entries]
    if not ready:
        return
    if connection.dialect.name == "sqlite":
        connection.exec_driver_sql(
            "INSERT OR REPLACE INTO record_search (rowid, tokens) VALUES (?, ?)",
            [(id_, " ".join((*words, *pairs))) for id_, words, pairs in ready],
        )
    else:
        statement = text(
            "INSERT INTO record_search (record_id, tokens) VALUES (:id, CAST(:tokens AS tsvector)) "
            "ON CONFLICT (record_id) DO UPDATE SET tokens = EXCLUDED.tokens"
        )
        rows = [{"id": id_, "tokens": f"{_vector(words)} {_vector(pairs)}"} for id_, words, pairs in ready]
        connection.execute(statement, rows)


def remove(connection: Connection, record_ids: Sequence[int]) -> None:
    """Take records out of the index."""
    name = "rowid" if connection.dialect.name == "sqlite" else "record_id"
    if record_ids:
        statement = text(f"DELETE FROM record_search WHERE {name} = :id")  # noqa: S608  one of two names of ours
        connection.execute(statement, [{"id": id_} for id_ in record_ids])


def hits(dialect: str, phrases: Sequence[Phrase]) -> Hits:
    """Answer what finds the records that hold every phrase; without a phrase nothing is found.

    Order by `record_id` and SQLite hands records out one by one, newest or oldest first, without finding all of them.
    """
    if dialect == "sqlite":
        asked = " AND ".join(f'"{" ".join(phrase.tokens)}"{"*" if phrase.prefix else ""}' for phrase in phrases)
        match = literal_column("record_search").bool_op("MATCH")(asked)  # the table's name stands for all it holds
        return Hits(_fts, _fts.c.rowid, match if phrases else false())
    asked = " & ".join(f"({_following(phrase)})" for phrase in phrases)
    match = _vectors.c.tokens.bool_op("@@")(cast(literal(asked), _TsQuery()))
    return Hits(_vectors, _vectors.c.record_id, match if phrases else false())


def _bounded(tokens: Sequence[str]) -> Sequence[str]:
    """Cut a list of tokens to what PostgreSQL can keep."""
    if len(tokens) <= MOST_ALIKE:
        return tokens
    kept = list(tokens[:MOST_PLACES])
    often = {token for token, number in Counter(kept).items() if number > MOST_ALIKE and token != GAP}
    if sum(map(len, kept)) > MOST_CHARACTERS:
        kept = kept[: sum(length <= MOST_CHARACTERS for length in accumulate(map(len, kept)))]
    if often:
        came: Counter[str] = Counter()
        for place, token in enumerate(kept):
            came[token] += 1
            kept[place] = GAP if token in often and came[token] > MOST_ALIKE else token
    return kept


def _vector(tokens: Sequence[str]) -> str:
    places: dict[str, list[str]] = {}
    for place, token in enumerate(tokens, 1):
        if token != GAP:
            places.setdefault(token, []).append(str(place))
    return " ".join(f"'{token}':{','.join(found)}" for token, found in places.items())


def _following(phrase: Phrase) -> str:
    words = [f"'{token}'" for token in phrase.tokens]
    return " <-> ".join(words) + (":*" if phrase.prefix else "")
