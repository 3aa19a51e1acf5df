"""Comparing: two blind answers to one prompt, follow-ups, one vote. standings.py says what the votes say."""

from __future__ import annotations

import secrets
from dataclasses import dataclass

from sqlalchemy.exc import IntegrityError
from sqlmodel import Session, and_, col, func, select
from sqlmodel.sql.expression import SelectOfScalar

from curator.errors import Conflict, Forbidden, Invalid, NotFound
from curator.importers.draft import RecordDraft
from curator.services import battles, intake, preferences, projects, versions
from db.models import (
    Battle,
    BattleTurn,
    ModelVersion,
    Project,
    Record,
    Run,
    SnapshotExample,
    User,
    Vote,
    Winner,
)
from trainer.runtimes.openai import is_name

MOST_TURNS = 8
LONGEST_PROMPT = 8000


@dataclass(frozen=True)
class HeldOut:
    """The questions no version was taught with: how many there are, and how many this person has compared on."""

    asked: int
    total: int


def contenders(session: Session, project: Project) -> list[ModelVersion]:
    """List the versions that can answer, newest first. The base can always."""
    return [version for version in versions.every(session, project) if version.state in versions.USABLE]


def pair(
    session: Session, project: Project, new: int | None = None, old: int | None = None
) -> tuple[ModelVersion | None, ModelVersion | None]:
    """Answer the pair of these numbers where they can answer, else the usual one.

    Usual is the newest version, measured against the one in service, else the base; a version that is in service
    itself is measured against the base. (None, None) when there is no version.
    """
    able = {version.number: version for version in contenders(session, project)}
    newer = able.get(new or 0) or next(iter(able.values()), None)
    older = able.get(old) if old is not None else projects.in_service(session, project)
    return newer, None if newer and older and older.id == newer.id else older


def contender(session: Session, project: Project, number: int) -> ModelVersion | None:
    """Answer version `number`, or None for 0, the base; raise Conflict when it cannot answer."""
    if number == 0:
        return None
    version = versions.get(session, project, number)
    if version.state not in versions.USABLE:
        raise Conflict("Version %(number)d is not published, so it cannot answer. Choose another.", number=number)
    return version


def start(
    session: Session, project: Project, user: User, new: int, old: int, question: str | None, outside: str = ""
) -> Battle:
    """Begin a battle between two version numbers (0: the base) on a question, or on a held-out one for None.

    With `outside`, the version meets that model elsewhere, whatever `old` is.
    """
    newer, older = contender(session, project, new), None if outside else contender(session, project, old)
    if outside and not is_name(outside):
        raise Invalid("This cannot be the name of a model. Choose one of the list.")
    if not outside and new == old:
        raise Invalid("Choose two different models to compare.")
    if newer is None:  # the base has no snapshot to take questions from
        newer, older = older, None
    if newer is None and question is None:
        raise Invalid("The base was taught nothing, so no question is kept from it. Type one of your own.")
    record = _next_held_out(session, project, user, newer, older, outside) if newer and question is None else None
    prompt = battles.corrected_question(session, record) if record else _clean(question or "")
    battle = Battle(
        project_id=project.id or 0,
        user_id=user.id or 0,
        record_id=record.id if record else None,
        group=record.group if record else intake.group(RecordDraft(line=0, question=prompt, answer="")),
        old_version_id=older.id if older else None,
        new_version_id=newer.id if newer else None,
        outside=outside,
        left_is_new=secrets.randbelow(2) == 1,
        seed=project.seed,
    )
    session.add(battle)
    session.flush()
    session.add(BattleTurn(battle_id=battle.id or 0, position=1, prompt=prompt))
    session.flush()
    return battle


def get(session: Session, project: Project, battle_id: int) -> Battle:
    """Answer one battle of a project, or raise NotFound."""
    battle = session.get(Battle, battle_id)
    if battle is None or battle.project_id != project.id:
        raise NotFound("There is no such comparison.")
    return battle


def follow_up(session: Session, battle: Battle, user: User, prompt: str) -> BattleTurn:
    """Ask both sides one thing more, each in its own conversation."""
    _check_open(session, battle, user)
    turns = battles.turns_of(session, battle)
    if not all(battles.answered(turn) for turn in turns):
        raise Conflict("Wait until both sides have answered, then ask on.")
    if len(turns) >= MOST_TURNS:
        raise Invalid("A comparison has at most %(count)d questions. Please vote now.", count=MOST_TURNS)
    turn = BattleTurn(battle_id=battle.id or 0, position=len(turns) + 1, prompt=_clean(prompt))
    try:
        with session.begin_nested():
            session.add(turn)
    except IntegrityError as error:
        raise Conflict("That was asked already.") from error
    return turn


def vote(session: Session, project: Project, battle: Battle, user: User, winner: Winner) -> Vote:
    """Give the verdict, once: a second one is answered with the first.

    A decisive one between two of ours becomes a preference pair. What a model elsewhere wrote is never kept to learn
    from: mostly its licence forbids that, and the expert who votes cannot know.
    """
    given = session.get(Vote, battle.id or 0)
    if given:
        return given
    _check_open(session, battle, user)
    turns = battles.turns_of(session, battle)
    if not turns or not all(battles.answered(turn) for turn in turns):
        raise Conflict("You can vote when both sides have answered.")
    new_won = None if winner not in battles.SIDES else (winner == "left") == battle.left_is_new
    given = Vote(battle_id=battle.id or 0, user_id=user.id or 0, winner=winner, new_won=new_won)
    try:
        with session.begin_nested():
            session.add(given)
    except IntegrityError:  # a double click: the first one counts
        return session.get_one(Vote, battle.id or 0, populate_existing=True)
    if new_won is not None and not battle.outside:
        _pair(session, project, battle, turns, winner)
    return given


def correct(session: Session, project: Project, battle: Battle, user: User, text: str) -> Vote:
    """Write the right answer instead: both were bad, and the text is preferred over each of ours."""
    text = text.strip()
    if not text:
        raise Invalid("Write the right answer first.")
    given = vote(session, project, battle, user, "both bad")
    if given.winner != "both bad":
        raise Conflict("You have voted for one of them already, so this comparison is closed.")
    if preferences.of_battle(session, battle):
        raise Conflict("The right answer was written already.")
    last = battles.turns_of(session, battle)[-1]
    for side in battles.SIDES:
        if battles.outside_of(battle, side):
            continue
        said = last.left if side == "left" else last.right
        asked = battles.messages(session, project, battle, last.position, side)
        preferences.add(session, battle, asked, text, said or "")
    return given


def held_out(
    session: Session, project: Project, user: User, new: ModelVersion, old: ModelVersion | None, outside: str = ""
) -> HeldOut:
    """Count the held-out questions of the newer model's dataset, and those this person has had for this pair."""
    held = _held_out_ids(new).subquery()
    asked = _asked_ids(project, user, new, old, outside).subquery()
    total = session.exec(select(func.count()).select_from(held)).one()
    had = select(func.count()).select_from(held).where(held.c.record_id.in_(select(asked.c.record_id)))
    done = session.exec(had).one()
    return HeldOut(asked=done, total=total)


def unfinished(session: Session, project: Project, user: User) -> list[tuple[Battle, str]]:
    """List this person's last battles that wait for a vote, with their first question."""
    query = (
        select(Battle, BattleTurn.prompt)
        .join(BattleTurn, and_(col(BattleTurn.battle_id) == col(Battle.id), col(BattleTurn.position) == 1))
        .outerjoin(Vote, col(Vote.battle_id) == col(Battle.id))
        .where(Battle.project_id == project.id, Battle.user_id == user.id, col(Vote.battle_id).is_(None))
        .order_by(col(Battle.id).desc())
        .limit(5)
    )
    return list(session.exec(query))


def _check_open(session: Session, battle: Battle, user: User) -> None:
    if battle.user_id != user.id:
        raise Forbidden("Somebody else began this comparison. Begin one of your own.")
    if session.get(Vote, battle.id or 0):
        raise Conflict("You have voted already, so this comparison is closed. Begin the next one.")


def _clean(prompt: str) -> str:
    prompt = prompt.strip()
    if not prompt:
        raise Invalid("Type a question first.")
    if len(prompt) > LONGEST_PROMPT:
        raise Invalid("A question has at most %(count)d characters. Please shorten it.", count=LONGEST_PROMPT)
    return prompt


def _pair(session: Session, project: Project, battle: Battle, turns: list[BattleTurn], winner: str) -> None:
    """Keep the first answers that differ: up to there both sides had the same conversation, so the pair is fair."""
    turn = next((turn for turn in turns if turn.left != turn.right), None)
    if turn is None:
        return
    asked = battles.messages(session, project, battle, turn.position, "left")
    chosen, rejected = (turn.left, turn.right) if winner == "left" else (turn.right, turn.left)
    preferences.add(session, battle, asked, chosen or "", rejected or "")


def _held_out_ids(new: ModelVersion) -> SelectOfScalar[int] | SelectOfScalar[None]:
    return (
        select(SnapshotExample.record_id)
        .join(Run, col(Run.snapshot_id) == col(SnapshotExample.snapshot_id))
        .where(Run.id == new.run_id, SnapshotExample.split == "test")
        .distinct()
    )


def _asked_ids(
    project: Project, user: User, new: ModelVersion, old: ModelVersion | None, outside: str
) -> SelectOfScalar[int] | SelectOfScalar[None]:
    older = col(Battle.old_version_id)
    return select(Battle.record_id).where(
        Battle.project_id == project.id,
        Battle.user_id == user.id,
        Battle.new_version_id == new.id,
        older == old.id if old else older.is_(None),
        Battle.outside == outside,
        col(Battle.record_id).is_not(None),
    )


def _next_held_out(
    session: Session, project: Project, user: User, new: ModelVersion, old: ModelVersion | None, outside: str
) -> Record:
    """Pick a held-out question at random, first among those this person has not had for this pair."""
    asked = _asked_ids(project, user, new, old, outside)
    query = select(Record).where(col(Record.id).in_(_held_out_ids(new))).order_by(func.random()).limit(1)
    fresh = session.exec(query.where(col(Record.id).not_in(asked))).first()
    record = fresh or session.exec(query).first()
    if record is None:
        raise NotFound("There are no held-out questions to ask. Type a question of your own.")
    return record
