"""What people ask of a finished run about its number types, and what is there afterwards."""

from __future__ import annotations

from pathlib import Path

from sqlmodel import Session, select

from curator.services import number_types, versions
from curator.services.number_types import Choice
from curator.worker import Worker
from db.models import ModelVersion, Run
from db.session import open_session
from tests.curator.teaching import Classroom, InProcess


def ask_measuring(room: Classroom) -> None:
    with open_session(room.engine, write=True) as session:
        number_types.request_measuring(session, run_in(session), None)


def ask_version(room: Classroom, kind: str = "Q4_0") -> None:
    with open_session(room.engine, write=True) as session:
        number_types.request_version(session, run_in(session), kind, None, room.settings)


def run_in(session: Session) -> Run:
    return session.exec(select(Run)).one()


def work(room: Classroom, mode: str = "good") -> None:
    Worker(room.settings, "train", engine=room.engine, launcher=InProcess(mode)).run_until_idle()


def measured(room: Classroom) -> None:
    ask_measuring(room)
    work(room)


def chosen(room: Classroom) -> Choice:
    with open_session(room.engine) as session:
        return number_types.choice(session, run_in(session))


def every_version(room: Classroom) -> list[ModelVersion]:
    with open_session(room.engine) as session:
        return versions.every(session, room.project)


def drafts(room: Classroom) -> list[Path]:
    return [*room.settings.folder("versions").glob(".*"), *room.folder().glob("*as-*"), *room.folder().glob(".as-*")]
