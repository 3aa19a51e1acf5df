"""Preference pairs from battles: prompt, chosen, rejected. They keep the battle's group and so its split."""

from __future__ import annotations

from collections.abc import Sequence

from sqlmodel import Session, col, select

from db.models import Battle, PreferencePair
from trainer.spec import Message


def add(
    session: Session, battle: Battle, prompt: Sequence[Message], chosen: str, rejected: str
) -> PreferencePair | None:
    """Keep that one answer to a prompt is better than another; None when there is nothing to tell them apart by."""
    if not chosen.strip() or not rejected.strip() or chosen.strip() == rejected.strip():
        return None
    pair = PreferencePair(
        project_id=battle.project_id,
        record_id=battle.record_id,
        battle_id=battle.id,
        group=battle.group,
        prompt=[message.model_dump() for message in prompt],
        chosen=chosen,
        rejected=rejected,
    )
    session.add(pair)
    session.flush()
    return pair


def of_battle(session: Session, battle: Battle) -> PreferencePair | None:
    """Answer the first pair that came of this battle, if there is one."""
    query = select(PreferencePair).where(PreferencePair.battle_id == battle.id)
    return session.exec(query.order_by(col(PreferencePair.id)).limit(1)).first()
