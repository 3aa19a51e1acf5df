"""Freeze what reviewers settled into snapshots, and read them back."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from hashlib import sha256
from typing import NamedTuple, cast

from sqlalchemy import exists, func, or_, select
from sqlmodel import Session, col

from curator.errors import Conflict, Invalid, NotFound
from curator.services import journal, judgements
from curator.services.bulk import Insert, fetch
from curator.services.examples import Draft, settled_examples, settled_pairs
from curator.services.intake import CONTROL
from db.models import (
    ExampleContent,
    Json,
    Project,
    Record,
    Snapshot,
    SnapshotExample,
    SnapshotKind,
    User,
)
from trainer.spec import Example, Split

BATCH = 1_000
SPLITS: tuple[Split, ...] = ("train", "val", "test")
_content = ExampleContent.__table__  # pyright: ignore[reportAttributeAccessIssue] # SQLModel does not declare it
_place = SnapshotExample.__table__  # pyright: ignore[reportAttributeAccessIssue] # SQLModel does not declare it
_record = Record.__table__  # pyright: ignore[reportAttributeAccessIssue] # SQLModel does not declare it


class _Place(NamedTuple):
    content: str
    record_id: int | None
    group: str
    split: Split
    single: str  # good or bad; empty for what is no single judgement


def split_of(group: str, seed: int) -> Split:
    """Answer the side a group falls on: about 80 % train, 10 % val, 10 % test, from sha256 of seed and group.

    It depends on nothing else, so growing data never moves a record from test to train.
    """
    share = share_of(f"{seed}:{group}")
    return "train" if share < 0.8 else "val" if share < 0.9 else "test"


def share_of(text: str) -> float:
    """Answer a number from 0 to 1 that depends on a text alone, and looks as if drawn at random."""
    return int.from_bytes(sha256(text.encode()).digest()[:8]) / 2**64


def freeze(
    session: Session,
    project: Project,
    name: str,
    user: User | None = None,
    kind: SnapshotKind = "sft",
    *,
    include_personal: bool = False,
) -> Snapshot:
    """Freeze today's settled examples, or what people preferred and judged, as a new snapshot.

    The content is copied, not pointed at, so a later review cannot change what a model was taught. Examples stand
    in the order of their hashes, and two equal ones count once, so that the same approved answers give the same
    sha256 whatever order they came in. A small set may leave val or test empty; remarks() says so, nothing is
    forced. Examples that hold personal data, after correction, stay out and are counted in `left_out`, unless a
    lead says `include_personal`. Raises Conflict for a name that is taken, Invalid when nothing is approved, all of
    it holds personal data or all of it is held out.
    """
    name = name.strip()
    if not name:
        raise Invalid("A snapshot needs a name.")
    if session.scalar(select(Snapshot).where(col(Snapshot.project_id) == project.id, col(Snapshot.name) == name)):
        raise Conflict("There is a snapshot called “%(name)s” already. Choose another name.", name=name)
    source = settled_examples(session, project) if kind == "sft" else _preferences(session, project)
    left_out = _LeftOut()
    places = _store(session, source if include_personal else left_out.of(source), project.seed)
    if not places and left_out.count:
        raise Invalid(
            "All approved answers hold personal data, so nothing would be left to freeze. Mask it first, or let a lead "
            "include such answers."
        )
    if not places:
        raise Invalid("Nothing is approved yet. Approve some answers first, then freeze them.")
    if not any(place.split == "train" for place in places):
        raise Invalid("All approved answers fall on the held-out side. Approve more before you freeze them.")
    counts = {split: sum(place.split == split for place in places) for split in SPLITS}
    snapshot = Snapshot(
        project_id=project.id or 0, name=name, kind=kind, sha256=_hash(places), seed=project.seed,
        train=counts["train"], val=counts["val"], test=counts["test"],
        left_out=left_out.count, singles=_singles(places), created_by=user.id if user else None,
    )  # fmt: skip
    session.add(snapshot)
    session.flush()
    lines = ((snapshot.id, position, *place[:-1]) for position, place in enumerate(places))
    columns = ("snapshot_id", "position", "content_sha256", "record_id", "group", "split")
    Insert(_place, columns, session.get_bind().dialect).run(session.connection(), lines)
    detail = {"include_personal": include_personal, "left_out": left_out.count}
    journal.note(session, "froze", snapshot.name, project=project, user=user, detail=detail)
    return snapshot


class _LeftOut:
    """Counts the examples that are kept out of a snapshot as they pass by."""

    def __init__(self) -> None:
        self.count = 0

    def of(self, drafts: Iterable[Draft]) -> Iterator[Draft]:
        for draft in drafts:
            if draft.personal():
                self.count += 1
            else:
                yield draft


def _store(session: Session, drafts: Iterable[Draft], seed: int) -> list[_Place]:
    """Keep the content of examples under its own hash; answer their places in order of it."""
    insert = Insert(_content, ("sha256", "body"), session.get_bind().dialect)
    places: dict[str, _Place] = {}
    waiting: list[tuple[str, str]] = []
    for draft in drafts:
        body = json.dumps(draft.content, ensure_ascii=False, separators=(",", ":"), sort_keys=True)
        key = sha256(body.encode()).hexdigest()
        if key not in places:
            split = split_of(draft.group, seed)
            places[key] = _Place(key, draft.record_id, draft.group, split, _single(draft))
            waiting.append((key, body))
        if len(waiting) >= BATCH:
            insert.run(session.connection(), waiting)
            waiting.clear()
    insert.run(session.connection(), waiting)
    return [places[key] for key in sorted(places)]


def _preferences(session: Session, project: Project) -> Iterator[Draft]:
    yield from settled_pairs(session, project)
    yield from judgements.single(session, project)


def _single(draft: Draft) -> str:
    return next((word for word in ("good", "bad") if word in draft.content), "")


def _singles(places: Sequence[_Place]) -> Json:
    """Count the single judgements by split, good and bad."""
    counts = Counter((place.split, place.single) for place in places if place.single)
    return {split: {word: counts[split, word] for word in ("good", "bad")} for split in SPLITS} if counts else {}


def _hash(places: Sequence[_Place]) -> str:
    whole = sha256()
    for place in places:
        whole.update(f"{place.split}\t{place.group}\t{place.content}\n".encode())
    return whole.hexdigest()


def get(session: Session, project: Project, name_or_id: str | int) -> Snapshot:
    """Answer a snapshot of the project by its id or name; raises NotFound."""
    wanted = col(Snapshot.id) == name_or_id if isinstance(name_or_id, int) else col(Snapshot.name) == name_or_id
    found = session.scalar(select(Snapshot).where(col(Snapshot.project_id) == project.id, wanted))
    if found is None:
        raise NotFound("There is no snapshot “%(name)s” in this project.", name=name_or_id)
    return found


def recent(session: Session, project: Project) -> list[Snapshot]:
    """Answer the project's snapshots, newest first."""
    query = select(Snapshot).where(col(Snapshot.project_id) == project.id).order_by(col(Snapshot.id).desc())
    return list(session.scalars(query))


def next_name(session: Session, project: Project) -> str:
    """Answer the next free name of the kind v1, v2, v3."""
    taken = {snapshot.name for snapshot in recent(session, project)}
    return next(name for number in range(1, len(taken) + 2) if (name := f"v{number}") not in taken)


def before(session: Session, snapshot: Snapshot) -> Snapshot | None:
    """Answer the snapshot of the same kind that was frozen before this one."""
    query = select(Snapshot).where(
        col(Snapshot.project_id) == snapshot.project_id,
        col(Snapshot.kind) == snapshot.kind,
        col(Snapshot.id) < snapshot.id,
    )
    return session.scalar(query.order_by(col(Snapshot.id).desc()).limit(1))


def remarks(snapshot: Snapshot, *, control: bool = False) -> list[str]:
    """Answer what a person should know about a snapshot, a sentence each; `control` as holds_control() says."""
    found: list[str] = []
    if not snapshot.val:
        found.append("No example is held out while training, so training cannot tell when to stop early.")
    if not snapshot.test:
        found.append("No example is kept for the exam, so the new model cannot be compared with the old one on it.")
    if control:
        found.append(
            "Some examples hold control signs of a chat template, such as im_start. They are kept as they are, but "
            "may teach the model to stop or to change roles in the middle of an answer."
        )
    return found


def holds_control(session: Session, snapshot: Snapshot) -> bool:
    """Tell whether an example holds control tokens of a chat template, which would spoil what is taught."""
    likely = or_(
        *(_content.c.body.like(f"%{sign}%") for sign in ("<|%|>", "<s>", "</s>", "INST]", "<<SYS>>", "_of_turn>"))
    )
    query = (
        select(_place.c.position, _content.c.body)
        .join(_content, _content.c.sha256 == _place.c.content_sha256)
        .where(_place.c.snapshot_id == snapshot.id, likely)
        .order_by(_place.c.position)
        .limit(BATCH)
    )
    last = -1
    while page := fetch(session, query.where(_place.c.position > last)):
        if any(CONTROL.search(body) for _, body in page):
            return True
        last = page[-1][0]
    return False


def examples(
    session: Session,
    snapshot: Snapshot,
    split: Split | None = None,
    *,
    before: Snapshot | None = None,
    known: bool = False,
) -> Iterator[Example]:
    """Yield the examples of an sft snapshot in order, read 1,000 at a time; ids are the records' ids.

    With `before`, only those that it holds as well (known) or does not hold.
    """
    for id_, group, body in rows(session, snapshot, split, before, known=known):
        yield Example.model_validate({"id": id_, "group": group, **json.loads(body)})


def rows(
    session: Session, snapshot: Snapshot, split: Split | None, before: Snapshot | None = None, *, known: bool = False
) -> Iterator[tuple[str, str, str]]:
    """Yield (id, group, body); the id is the record's, or for a typed question the start of its content's hash."""
    query = (
        select(_place.c.position, _place.c.record_id, _place.c.group, _content.c.sha256, _content.c.body)
        .join(_content, _content.c.sha256 == _place.c.content_sha256)
        .where(_place.c.snapshot_id == snapshot.id)
        .order_by(_place.c.position)
        .limit(BATCH)
    )
    if split:
        query = query.where(_place.c.split == split)
    if before:
        theirs = _place.alias()
        same = (theirs.c.snapshot_id == before.id) & (theirs.c.content_sha256 == _place.c.content_sha256)
        shared = exists().where(same)
        query = query.where(shared if known else ~shared)
    last = -1
    while page := fetch(session, query.where(_place.c.position > last)):
        for _position, record_id, group, content, body in page:
            yield content[:16] if record_id is None else str(record_id), group, body
        last = page[-1][0]


def approved_since(session: Session, project: Project, snapshot: Snapshot | None) -> int:
    """Count the records approved after a snapshot was frozen, or ever."""
    query = select(func.count()).where(_record.c.project_id == project.id, _record.c.state == "accepted")
    if snapshot is not None:
        query = query.where(_record.c.settled_at > snapshot.created_at)
    return cast(int, session.scalar(query))
