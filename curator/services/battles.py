"""What a battle asks and what came back: the messages each side is sent, and the picture a blind page may show."""

from __future__ import annotations

import json
from dataclasses import dataclass
from itertools import pairwise
from typing import Literal

from sqlmodel import Session, col, select

from curator.services import examples
from db.models import (
    Battle,
    BattleTurn,
    Json,
    ModelVersion,
    Passage,
    Project,
    Record,
    Review,
    Run,
    SnapshotExample,
    Vote,
)
from db.models import ExampleContent as Content
from trainer.spec import Message

Side = Literal["left", "right"]
SIDES: tuple[Side, Side] = ("left", "right")


@dataclass(frozen=True)
class Name:
    """Which model a side was: the one called `outside` elsewhere, else version `number`, or the base for None."""

    number: int | None
    is_new: bool
    outside: str = ""


@dataclass(frozen=True)
class View:
    """All that a page shows of a battle. It names no model before the vote: what is not in it cannot leak."""

    id: int
    mine: bool
    turns: list[BattleTurn]
    earlier: list[Message]
    passages: list[Passage]
    winner: str | None
    names: dict[Side, Name] | None
    approved: str | None

    @property
    def complete(self) -> bool:
        """Tell whether both sides have answered every prompt, so that a vote means something."""
        return bool(self.turns) and all(answered(turn) for turn in self.turns)

    @property
    def failed(self) -> bool:
        return any(turn.left_error or turn.right_error for turn in self.turns)


def answered(turn: BattleTurn) -> bool:
    """Tell whether both answers to a prompt are there, without errors."""
    return turn.left is not None and turn.right is not None


def turns_of(session: Session, battle: Battle) -> list[BattleTurn]:
    """List a battle's prompts with their answers, first to last."""
    query = select(BattleTurn).where(BattleTurn.battle_id == battle.id).order_by(col(BattleTurn.position))
    return list(session.exec(query))


def view(session: Session, battle: Battle, user_id: int | None) -> View:
    """Gather what a page shows of a battle; names and the approved answer only after the vote."""
    vote = session.get(Vote, battle.id or 0)
    record = session.get(Record, battle.record_id) if battle.record_id else None
    return View(
        id=battle.id or 0,
        mine=battle.user_id == user_id,
        turns=turns_of(session, battle),
        earlier=[Message.model_validate(turn) for turn in record.turns] if record else [],
        passages=_passages(session, battle),
        winner=vote.winner if vote else None,
        names=_names(session, battle) if vote else None,
        approved=approved_answer(session, battle) if vote else None,
    )


def opening(session: Session, project: Project, battle: Battle, prompt: str) -> list[Message]:
    """Answer what both sides are asked first: what the project's users would be asked.

    A held-out question comes with the earlier turns of its record and, where the project's style wants them, its
    passages, laid out as in training.
    """
    record = session.get(Record, battle.record_id) if battle.record_id else None
    passages = [(passage.document, passage.text) for passage in _passages(session, battle)]
    asked = examples.prompt(project, record.turns if record else [], prompt, passages)
    return [Message.model_validate(message) for message in asked]


def corrected_question(session: Session, record: Record) -> str:
    """Answer a record's question as whoever settled it put it."""
    review = session.get(Review, record.settled_by) if record.settled_by else None
    return review.question if review and review.question is not None else record.question


def messages(session: Session, project: Project, battle: Battle, position: int, side: Side) -> list[Message]:
    """Answer the conversation one side is sent for the prompt at `position`: its own answers, not the other's."""
    turns = [turn for turn in turns_of(session, battle) if turn.position <= position]
    asked = opening(session, project, battle, turns[0].prompt)
    for before, turn in pairwise(turns):
        said = (before.left if side == "left" else before.right) or ""
        asked += [Message(role="assistant", content=said), Message(role="user", content=turn.prompt)]
    return asked


def outside_of(battle: Battle, side: Side) -> str:
    """Answer the name of the model elsewhere behind a side, empty where it is one of ours."""
    return "" if battle.left_is_new == (side == "left") else battle.outside


def version_of(battle: Battle, side: Side) -> int | None:
    """Answer the version's id behind a side, None for the base."""
    return battle.new_version_id if battle.left_is_new == (side == "left") else battle.old_version_id


def approved_answer(session: Session, battle: Battle) -> str | None:
    """Answer what reviewers approved for a held-out question, as the new version's snapshot holds it."""
    if battle.record_id is None:
        return None
    bodies = session.exec(
        select(Content.body)
        .join(SnapshotExample, col(SnapshotExample.content_sha256) == col(Content.sha256))
        .join(Run, col(Run.snapshot_id) == col(SnapshotExample.snapshot_id))
        .join(ModelVersion, col(ModelVersion.run_id) == col(Run.id))
        .where(ModelVersion.id == battle.new_version_id, SnapshotExample.record_id == battle.record_id)
        .order_by(col(SnapshotExample.position))
    )
    return next((answer for body in bodies if (answer := _approved(json.loads(body)))), None)


def _approved(content: Json) -> str | None:
    """Answer the answer of an example that people approve of; None for one that they only rejected."""
    if "messages" in content:
        return str(content["messages"][-1]["content"])
    return content.get("chosen") or content.get("good")


def _names(session: Session, battle: Battle) -> dict[Side, Name]:
    names: dict[Side, Name] = {}
    for side in SIDES:
        version = session.get(ModelVersion, version_of(battle, side) or 0)
        is_new = battle.left_is_new == (side == "left")
        names[side] = Name(version.number if version else None, is_new, outside_of(battle, side))
    return names


def _passages(session: Session, battle: Battle) -> list[Passage]:
    if battle.record_id is None:
        return []
    query = select(Passage).where(Passage.record_id == battle.record_id).order_by(col(Passage.position))
    return list(session.exec(query))
