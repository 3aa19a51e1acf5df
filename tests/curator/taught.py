"""A project with finished runs and versions that a fake runtime serves, without teaching anything."""

from __future__ import annotations

from collections.abc import Generator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from sqlalchemy import Engine
from sqlmodel import Session

from curator.services import accounts, arena, arena_stream, battles
from curator.settings import Settings
from db.models import Battle, BattleTurn, ModelVersion, Project, Run, Snapshot, User, utc_now
from db.session import open_session
from tests.curator.teaching import classroom
from trainer.runtimes.base import Publication
from trainer.runtimes.fake import FakeRuntime
from trainer.runtimes.table import fake_at

CARD = {
    "examples": 33, "minutes": 2.5, "asked": 4, "better": 2, "same": 1, "worse": 1, "old_loss": 2.1, "new_loss": 1.6,
    "pins": 1, "old_pins": 0, "new_pins": 1, "stops": 4, "stops_asked": 4,
    "checks": [{"name": "held_out", "passed": True, "detail": "2.10 to 1.60"}],
}  # fmt: skip


@dataclass
class School:
    """The project, its runtime, and versions by number."""

    engine: Engine
    settings: Settings
    project: Project
    snapshot: Snapshot
    runtime: FakeRuntime
    versions: dict[int, ModelVersion] = field(default_factory=dict[int, ModelVersion])

    def person(self, login: str = "noor", role: str = "reviewer") -> User:
        with open_session(self.engine, write=True) as session:
            user = accounts.create_user(session, login, login.title())
            accounts.set_role(session, user, self.project, role)
        return user

    def version(self, number: int, state: str = "published", **fields: Any) -> ModelVersion:
        """Add a version, and have the runtime serve it where its state says so."""
        with open_session(self.engine, write=True) as session:
            run = self.run(session, state="finished", card=CARD)
            served = state in ("published", "in service")
            version = ModelVersion(
                **{
                    "project_id": self.project.id, "number": number, "run_id": run.id, "base_id": self.project.base_id,
                    "state": state, "tag": f"ferry:v{number}-abcd", "runtime": "fake" if served else "",
                    "gate_passed": True, "gate": CARD["checks"], **fields,
                }
            )  # fmt: skip
            session.add(version)
            session.flush()
            if state == "in service":
                project = session.get_one(Project, self.project.id)
                project.service_version_id = self.project.service_version_id = version.id
        if served:
            self.runtime.publish(Publication(version.tag, Path("base.gguf")), lambda _word, _share: None)
        self.versions[number] = version
        return version

    def run(self, session: Session, **fields: Any) -> Run:
        run = Run(
            **{
                "project_id": self.project.id, "snapshot_id": self.snapshot.id, "base_id": self.project.base_id,
                "started_at": utc_now(), "finished_at": utc_now(), **fields,
            }
        )  # fmt: skip
        session.add(run)
        session.flush()
        return run


def school(engine: Engine, settings: Settings, tmp_path: Path) -> School:
    """Make a project with 40 approved answers, frozen as v1, and no version yet."""
    room = classroom(engine, settings, tmp_path)
    return School(engine, settings, room.project, room.snapshot, fake_at(settings.home))


def begin_battle(
    place: School,
    user: User,
    question: str | None = "Are dogs free?",
    *,
    new: int = 2,
    old: int = 1,
    left_is_new: bool = True,
) -> Battle:
    """Begin a battle whose shuffle is known."""
    with open_session(place.engine, write=True) as session:
        battle = arena.start(session, place.project, user, new, old, question)
        battle.left_is_new = left_is_new
        session.add(battle)
    return battle


def answer(place: School, battle: Battle, side: Any, position: int = 1) -> Generator[arena_stream.Piece]:
    with open_session(place.engine) as session:
        asking = arena_stream.prepare(session, place.project, battle.id or 0, position, side)
    return arena_stream.answer(asking, place.engine, place.settings)


def answer_both(place: School, battle: Battle, position: int = 1) -> None:
    for side in battles.SIDES:
        list(answer(place, battle, side, position))


def stored(place: School, battle: Battle) -> BattleTurn:
    with open_session(place.engine) as session:
        return battles.turns_of(session, battle)[-1]
