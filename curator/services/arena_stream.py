"""Answer one side of a battle, piece by piece, with no transaction open while a model talks."""

from __future__ import annotations

import logging
import threading
from collections import Counter
from collections.abc import Generator, Sequence
from contextlib import closing
from dataclasses import dataclass
from typing import Literal

from sqlalchemy import Engine
from sqlmodel import Session, col, select, update

from curator.errors import CuratorError, NotFound
from curator.services import arena, bases, battles, outside, publishing, versions
from curator.services.battles import Side
from curator.settings import Settings
from db.models import Base, BattleTurn, ModelVersion, Project
from db.session import open_session
from trainer.runtimes.base import ChatOptions, Chunk, ModelMissing, RuntimeFailure, RuntimeUnavailable
from trainer.spec import Message

MOST_CHARACTERS = 20_000
MOST_STREAMS = 24
STREAMS_EACH = 4  # two answers, and two that a reload has just left behind

Trouble = Literal["unavailable", "missing", "failed"]
log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Piece:
    """Something that happened in a stream: `text` to append, `done` with the whole stored answer, or `error`."""

    kind: Literal["text", "done", "error"]
    text: str = ""


@dataclass(frozen=True)
class Asking:
    """All that is needed to ask one side, read from the database beforehand. `stored` is an answer it gave already.

    `outside` names a model elsewhere; an empty `runtime` is the one that new versions go to.
    """

    turn_id: int
    side: Side
    is_new: bool
    version: ModelVersion | None
    base: Base
    runtime: str
    outside: str
    messages: tuple[Message, ...]
    options: ChatOptions
    stored: str | None


class Streams:
    """How many answers are being written at once: in this process, and for each person."""

    def __init__(self, most: int = MOST_STREAMS, each: int = STREAMS_EACH) -> None:
        self._most, self._each = most, each
        self._lock = threading.Lock()
        self._held: Counter[int] = Counter()

    def enter(self, user_id: int) -> bool:
        """Take a place; False when there is none."""
        with self._lock:
            if self._held.total() >= self._most or self._held[user_id] >= self._each:
                return False
            self._held[user_id] += 1
            return True

    def leave(self, user_id: int) -> None:
        """Give a place back."""
        with self._lock:
            self._held[user_id] -= 1


def prepare(session: Session, project: Project, battle_id: int, position: int, side: Side) -> Asking:
    """Read what one side is to be asked for the prompt at `position`."""
    battle = arena.get(session, project, battle_id)
    turn = next((turn for turn in battles.turns_of(session, battle) if turn.position == position), None)
    new = session.get(ModelVersion, battle.new_version_id or 0)
    if turn is None or turn.id is None or not (new or battle.outside):
        raise NotFound("There is no such question in this comparison.")
    version = session.get(ModelVersion, battles.version_of(battle, side) or 0)
    ours = version or new  # the base answers where the version does, so that only the lesson differs
    return Asking(
        turn_id=turn.id,
        side=side,
        is_new=battle.left_is_new == (side == "left"),
        version=version,
        base=bases.get(session, new.base_id if new else project.base_id),
        runtime=ours.runtime if ours else "",
        outside=battles.outside_of(battle, side),
        messages=tuple(battles.messages(session, project, battle, position, side)),
        options=ChatOptions(seed=battle.seed),
        stored=turn.left if side == "left" else turn.right,
    )


def answer(asking: Asking, engine: Engine, settings: Settings) -> Generator[Piece]:
    """Yield one side's answer as it is written, and store it when it is whole; an answer given already is replayed.

    An error names its kind only: the runtime's own words could tell which model is which. Closing the iterator
    closes the runtime's stream, which stops the model; nothing is stored then.
    """
    if asking.stored is not None:
        yield Piece("done", asking.stored)
        return
    said: list[str] = []
    try:
        with closing(_talk(asking, settings)) as chunks:
            length = 0
            for chunk in chunks:
                length += len(chunk.text)
                if chunk.text:
                    said.append(chunk.text)
                    yield Piece("text", chunk.text)
                if length > MOST_CHARACTERS:
                    break
    except (RuntimeFailure, CuratorError) as failure:
        log.warning("side %s of turn %d did not answer: %s", asking.side, asking.turn_id, failure)
        trouble = _kind(failure)
        _store(engine, asking, error=trouble)
        yield Piece("error", trouble)
        return
    yield Piece("done", _store(engine, asking, text="".join(said)))


def prepare_both(session: Session, project: Project, battle_id: int, position: int) -> list[Asking]:
    """Read what both sides are to be asked."""
    return [prepare(session, project, battle_id, position, side) for side in battles.SIDES]


def drain(both: Sequence[Asking], engine: Engine, settings: Settings) -> None:
    """Have answers written and stored without anybody watching."""
    for asking in both:
        for _piece in answer(asking, engine, settings):
            pass


def _talk(asking: Asking, settings: Settings) -> Generator[Chunk]:
    """Ask whoever is behind the side; the base is made loadable first where it is not."""
    if asking.outside:
        return outside.open_server(settings).chat(asking.outside, asking.messages, asking.options)
    named = versions.runtime_named(asking.runtime, settings) if asking.runtime else None
    runtime = named or versions.choose_runtime(settings)
    tag = asking.version.tag if asking.version else publishing.ensure_base(runtime, asking.base)
    return runtime.chat(tag, asking.messages, asking.options, side=int(asking.is_new))


def _kind(failure: Exception) -> Trouble:
    if isinstance(failure, RuntimeUnavailable):
        return "unavailable"
    return "missing" if isinstance(failure, ModelMissing | CuratorError) else "failed"


def _store(engine: Engine, asking: Asking, *, text: str | None = None, error: str = "") -> str:
    """Keep an answer or an error, unless the same side was answered meanwhile; answer what counts now."""
    column = col(BattleTurn.left if asking.side == "left" else BattleTurn.right)
    with open_session(engine, write=True) as session:
        session.exec(
            update(BattleTurn)
            .where(col(BattleTurn.id) == asking.turn_id, column.is_(None))
            .values({asking.side: text, f"{asking.side}_error": error})
        )
        return session.exec(select(column).where(BattleTurn.id == asking.turn_id)).one() or ""
