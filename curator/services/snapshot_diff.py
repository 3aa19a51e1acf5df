"""What is other in one snapshot than in another."""

from __future__ import annotations

from dataclasses import dataclass

from sqlalchemy import select
from sqlmodel import Session

from curator.services.bulk import fetch
from db.models import Snapshot, SnapshotExample

_place = SnapshotExample.__table__  # pyright: ignore[reportAttributeAccessIssue] # SQLModel does not declare it


@dataclass(frozen=True)
class Diff:
    """How a snapshot differs from an older one, in records."""

    added: int
    removed: int
    changed: int
    same: int


def between(session: Session, old: Snapshot, new: Snapshot) -> Diff:
    """Count the records that came, went, and whose approved content changed from `old` to `new`."""
    before, after = _contents(session, old), _contents(session, new)
    both = before.keys() & after.keys()
    same = sum(before[record] == after[record] for record in both)
    return Diff(len(after) - len(both), len(before) - len(both), len(both) - same, same)


def _contents(session: Session, snapshot: Snapshot) -> dict[int | str, set[str]]:
    """Answer the content hashes by record, or by group where a typed question has none."""
    query = select(_place.c.record_id, _place.c.group, _place.c.content_sha256)
    found: dict[int | str, set[str]] = {}
    for record_id, group, content in fetch(session, query.where(_place.c.snapshot_id == snapshot.id)):
        found.setdefault(group if record_id is None else record_id, set()).add(content)
    return found
