"""Near-duplicates by MinHash: records whose question and answer are nearly the same stand behind one of them.

A signature of 96 minima is cut into 16 bands of 6; two records that share a band are compared for real (Broder 1997;
Leskovec, Rajaraman and Ullman, Mining of Massive Datasets, section 3.4). Of two texts with a share s of common
grams, 1 - (1 - s^6)^16 come to be compared: 99 in 100 at 0.8, one in five at 0.5. Only the record that stands for
others, the representative, keeps bands, so ten thousand copies of one answer cost ten thousand comparisons, not their
square.
"""

from __future__ import annotations

import struct
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from functools import lru_cache
from hashlib import blake2b
from typing import Any, NamedTuple

from rensa import RMinHash  # pyright: ignore[reportAttributeAccessIssue] # compiled, without types
from sqlalchemy import bindparam, func, select, update
from sqlmodel import Session, col

from curator.services.bulk import Insert, fetch
from curator.services.intake import folded
from db.models import Band, Battle, PreferencePair, Project, Record

NEAR = 0.8  # share of common 5-grams (Jaccard) from which two texts are near-duplicates
SHINGLE, PERMUTATIONS, BANDS, SEED = 5, 96, 16, 17  # with other bands, a migration has to clear the table
QUESTION, ANSWER = 2_000, 6_000  # characters that are compared
COMPARED = 3  # candidates that a record is compared with, those that share most bands first
CROWDED = 16  # representatives in one band; a further one leaves it out, so that no lookup grows without end
BATCH = 500
SAME_QUESTION = 5_000  # records of a batch's questions that are looked at for a moved group
_record = Record.__table__  # pyright: ignore[reportAttributeAccessIssue] # SQLModel does not declare it
_band = Band.__table__  # pyright: ignore[reportAttributeAccessIssue] # SQLModel does not declare it
_pair = PreferencePair.__table__  # pyright: ignore[reportAttributeAccessIssue] # SQLModel does not declare it
_battle = Battle.__table__  # pyright: ignore[reportAttributeAccessIssue] # SQLModel does not declare it


class _Text(NamedTuple):
    """What is compared: the folded text, and how long the whole was where it had to be cut (else 0)."""

    text: str
    cut: int


class _State(NamedTuple):
    id: int
    group: str
    state: str
    cluster_id: int | None
    question_key: int


class _Groups:
    """Groups that become one. A group with a decision in it never gives up its name, since that decides its side."""

    def __init__(self) -> None:
        self.joins: list[tuple[str, str]] = []

    def join(self, twin: str, representative: str) -> None:
        if twin != representative:
            self.joins.append((twin, representative))

    def names(self) -> set[str]:
        return {name for join in self.joins for name in join}

    def renamed(self, decided: set[str]) -> dict[str, str]:
        """Answer {old name: new name}; two groups that both hold decisions stay as they are."""
        root: dict[str, str] = {}

        def find(name: str) -> str:
            while name in root:
                name = root[name]
            return name

        for twin, representative in self.joins:
            old, new = find(twin), find(representative)
            if old in decided:
                old, new = new, old
            if old != new and old not in decided:
                root[old] = new
        return {name: find(name) for name in root}


def place(session: Session, project: Project, rows: Sequence[tuple[int, str, str]]) -> None:
    """Give the near-duplicates among (record id, question, answer) the cluster of the record that stands for them.

    Compared are the rows with the representatives of the project and with each other. A repeated batch changes
    nothing. An undecided twin brings its whole group into the representative's, so that near-duplicates fall on one
    side of the split and the exam asks nothing that was taught. Records already loaded do not see the change.
    """
    for start in range(0, len(rows), BATCH):
        _place(session, project, sorted(rows[start : start + BATCH]))


def _place(session: Session, project: Project, rows: Sequence[tuple[int, str, str]]) -> None:
    states = _states(session, project, [row[0] for row in rows])
    texts = {id_: _text(question, answer) for id_, question, answer in rows if id_ in states}
    grams = lru_cache(64)(_grams)
    bands = dict(zip(texts, _bands([grams(text.text) for text in texts.values()]), strict=True))
    holders = _holders(session, project, bands.values())
    placed = {holder for found in holders.values() for holder in found}
    known = _load_texts(session, bands, holders)
    clusters: dict[int, int] = {}
    new_bands: list[tuple[int, int, int]] = []
    for id_, text in texts.items():
        cluster = states[id_].cluster_id
        if id_ in placed or cluster not in (None, id_):
            continue
        near = (other for other in _candidates(bands[id_], holders) if other in known and other != id_)
        twin = next((other for other in near if _alike(text, known[other], grams)), None) if cluster is None else None
        if twin is not None:
            clusters[id_] = twin
            continue
        known[id_] = text
        for hash_ in bands[id_]:
            found = holders.setdefault(hash_, [])
            if len(found) < CROWDED:
                found.append(id_)
                new_bands.append((project.id or 0, hash_, id_))
    Insert(_band, ("project_id", "hash", "record_id"), session.get_bind().dialect).run(session.connection(), new_bands)
    states |= _states(session, project, [one for one in clusters.values() if one not in states])
    _write_clusters(session, clusters)
    _join_groups(session, project, states, clusters)


def members(session: Session, project: Project, cluster_id: int, limit: int = 50) -> list[Record]:
    """Answer the records of one cluster, the one that stands for them first, then by id."""
    query = (
        select(Record)
        .where(col(Record.cluster_id) == cluster_id, col(Record.project_id) == project.id)
        .order_by((col(Record.id) != cluster_id), col(Record.id))
        .limit(limit)
    )
    return list(session.scalars(query))


def size(session: Session, cluster_id: int) -> int:
    """Count the records of one cluster, the one that stands for them included."""
    return session.scalar(select(func.count()).where(col(Record.cluster_id) == cluster_id)) or 0


def _text(question: str, answer: str) -> _Text:
    """Fold the two texts for comparing; very long ones are cut first, since folding costs as well."""
    cut = len(question) > QUESTION or len(answer) > ANSWER
    short = f"{folded(question[:QUESTION])}\n{folded(answer[:ANSWER])}"
    return _Text(short, len(question) + len(answer) if cut else 0)


def _grams(text: str) -> frozenset[str]:
    """Answer the character 5-grams; a text of fewer letters is one gram, so it is only like its equal."""
    if len(text) <= SHINGLE:  # the line end between question and answer is no letter
        return frozenset((text,))
    return frozenset([text[place : place + SHINGLE] for place in range(len(text) - SHINGLE + 1)])


def _bands(sets: Iterable[frozenset[str]]) -> list[list[int]]:
    """Answer the band hashes of each set: signed 64-bit numbers over the band's place and its minima."""
    digests = RMinHash.digests_from_token_sets([sorted(grams) for grams in sets], PERMUTATIONS, SEED)
    return [_hashes(digest) for digest in digests]


def _hashes(digest: Sequence[int]) -> list[int]:
    packed = struct.pack(f"<{PERMUTATIONS}I", *digest)
    each = len(packed) // BANDS
    pieces = (bytes((band,)) + packed[band * each : (band + 1) * each] for band in range(BANDS))
    return [int.from_bytes(blake2b(piece, digest_size=8).digest(), signed=True) for piece in pieces]


def _alike(one: _Text, other: _Text, grams: Callable[[str], frozenset[str]]) -> bool:
    if (one.cut or other.cut) and min(one.cut, other.cut) < NEAR * max(one.cut, other.cut):
        return False  # what was cut off one of them is longer than all that may differ
    if one.text == other.text:
        return True
    first, second = grams(one.text), grams(other.text)
    common = len(first & second)
    return common >= NEAR * (len(first) + len(second) - common)


def _candidates(bands: Sequence[int], holders: dict[int, list[int]]) -> list[int]:
    """Answer the few representatives that share most bands, the oldest first among equals."""
    shared = Counter(holder for hash_ in set(bands) for holder in holders.get(hash_, ()))
    return sorted(shared, key=lambda holder: (-shared[holder], holder))[:COMPARED]


def _states(session: Session, project: Project, ids: Sequence[int]) -> dict[int, _State]:
    if not ids:
        return {}
    columns = (_record.c.id, _record.c.group, _record.c.state, _record.c.cluster_id, _record.c.question_key)
    query = select(*columns).where(_record.c.project_id == project.id, _record.c.id.in_(ids))
    return {row[0]: _State(*row) for row in fetch(session, query)}


def _holders(session: Session, project: Project, bands: Iterable[Sequence[int]]) -> dict[int, list[int]]:
    """Answer which representatives stand in the bands of a batch."""
    hashes = {hash_ for row in bands for hash_ in row}
    query = select(_band.c.hash, _band.c.record_id).where(
        _band.c.project_id == project.id, _band.c.hash.in_(sorted(hashes))
    )
    found: dict[int, list[int]] = {}
    for hash_, holder in fetch(session, query.order_by(_band.c.record_id)) if hashes else ():
        found.setdefault(hash_, []).append(holder)
    return found


def _load_texts(session: Session, bands: dict[int, list[int]], holders: dict[int, list[int]]) -> dict[int, _Text]:
    """Answer the texts of the representatives that some record of the batch will be compared with."""
    wanted = {holder for row in bands.values() for holder in _candidates(row, holders)}
    if not wanted:
        return {}
    question, answer = _record.c.question, _record.c.answer
    length = func.length(question) + func.length(answer)
    query = select(_record.c.id, func.substr(question, 1, QUESTION + 1), func.substr(answer, 1, ANSWER + 1), length)
    return {
        id_: _Text(_text(asked, said).text, whole if len(asked) > QUESTION or len(said) > ANSWER else 0)
        for id_, asked, said, whole in fetch(session, query.where(_record.c.id.in_(sorted(wanted))))
    }


def _write_clusters(session: Session, clusters: dict[int, int]) -> None:
    if not clusters:
        return
    whole = clusters | {cluster: cluster for cluster in clusters.values()}
    statement = update(_record).where(_record.c.id == bindparam("record")).values(cluster_id=bindparam("cluster"))
    session.connection().execute(statement, [{"record": id_, "cluster": one} for id_, one in sorted(whole.items())])


def _join_groups(session: Session, project: Project, states: dict[int, _State], clusters: dict[int, int]) -> None:
    groups = _Groups()
    for twin, representative in clusters.items():
        if states[twin].state == "new":
            groups.join(states[twin].group, states[representative].group)
    for key, name in _moved(session, project, {one.question_key for one in states.values() if one.question_key}):
        for one in states.values():
            if one.question_key == key and one.state == "new":
                groups.join(one.group, name)
    renamed = groups.renamed(_decided(session, project, groups.names()))
    if renamed:
        statement = update(_record).where(_record.c.project_id == project.id, _record.c.group == bindparam("old"))
        rows = [{"old": old, "new": new} for old, new in sorted(renamed.items())]
        session.connection().execute(statement.values(group=bindparam("new")), rows)


def _moved(session: Session, project: Project, keys: set[int]) -> set[tuple[Any, ...]]:
    """Answer (question key, group) of earlier askings that stand in a cluster: a new asking must follow their move."""
    if not keys:
        return set()
    query = select(_record.c.question_key, _record.c.group).where(
        _record.c.project_id == project.id,
        _record.c.question_key.in_(sorted(keys)),
        _record.c.cluster_id.is_not(None),
    )
    return {tuple(row) for row in fetch(session, query.limit(SAME_QUESTION))}


def _decided(session: Session, project: Project, names: set[str]) -> set[str]:
    """Answer which groups hold a decision, a vote or a battle already."""
    if not names:
        return set()
    wanted = sorted(names)
    found: set[str] = set()
    for table in (_record, _pair, _battle):
        query = select(table.c.group).where(table.c.project_id == project.id, table.c.group.in_(wanted)).distinct()
        found |= set(session.connection().scalars(query.where(table.c.state != "new") if table is _record else query))
    return found
