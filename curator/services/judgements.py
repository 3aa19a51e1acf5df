"""Single judgements: answers that people found good or bad, and that make no pair.

They are worked out from reviews and votes whenever a dataset is frozen, so one that was taken back is in no later one.
A thumb in the log is what a user felt, not a judgement; a lead who trusts thumbs accepts or rejects such records
together, and then it is one.
"""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial
from typing import Any

from sqlmodel import Session, col, select

from curator.services import battles, examples
from curator.services.examples import Draft
from db.models import Battle, PreferencePair, Project, Vote


def single(session: Session, project: Project) -> Iterator[Draft]:
    """Yield answers that were accepted as they are, answers that were rejected, and both of a vote “both bad”.

    Content is {"good": answer, "prompt"} or {"bad": answer, "prompt"}. “Same” says nothing about either answer.
    """
    for word in ("good", "bad"):
        for draft in examples.single_answers(session, project, good=word == "good"):
            *prompt, answer = draft.content["messages"]
            if answer["content"].strip():
                content = {word: answer["content"], "prompt": prompt}
                yield Draft(draft.record_id, draft.group, content, draft.personal)
    yield from _both_bad(session, project)


def _both_bad(session: Session, project: Project) -> Iterator[Draft]:
    """Yield the last answers of votes “both bad”, unless the right answer was written, which makes pairs."""
    written = select(PreferencePair.id).where(PreferencePair.battle_id == Battle.id).exists()
    votes = select(Battle).join(Vote, col(Vote.battle_id) == col(Battle.id))
    query = votes.where(Battle.project_id == project.id, Vote.winner == "both bad", ~written)
    for battle in session.exec(query.order_by(col(Battle.id))).all():
        last = battles.turns_of(session, battle)[-1]
        for side in battles.SIDES:
            asked = battles.messages(session, project, battle, last.position, side)
            answer = (last.left if side == "left" else last.right) or ""
            if answer.strip():
                content: dict[str, Any] = {"bad": answer, "prompt": [turn.model_dump() for turn in asked]}
                said = [*(turn.content for turn in asked if turn.role != "system"), answer]
                personal = partial(examples.holds_personal, session, battle.record_id, said)
                yield Draft(battle.record_id, battle.group, content, personal)
