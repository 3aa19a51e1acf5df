"""Uploads: whole or not at all, under a name of our own, in the folder of their project."""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any

import pytest
from sqlmodel import Session, select

from curator.errors import Invalid, NotFound
from curator.services import projects, uploads
from curator.settings import Settings
from db.models import Job, Project, Source, User

LOG = b"question,answer\nAre dogs free?,Yes.\n"


def keep(settings: Settings, project: Project, content: bytes = LOG) -> Path:
    return uploads.path_of(settings, project, uploads.keep(settings, project, io.BytesIO(content)))


def test_an_upload_is_kept_byte_for_byte(settings: Settings, project: Project) -> None:
    content = bytes(range(256)) * 9000
    path = keep(settings, project, content)
    assert path.read_bytes() == content
    assert list(path.parent.iterdir()) == [path]


def test_the_same_file_twice_is_two_uploads(settings: Settings, project: Project) -> None:
    assert keep(settings, project) != keep(settings, project)


class Torn(io.BytesIO):
    """A browser that goes away in the middle."""

    def read(self, size: int | None = -1) -> bytes:
        piece = super().read(size)
        if not piece:
            raise ConnectionResetError("gone")
        return piece


@pytest.mark.parametrize(("stream", "error"), [(io.BytesIO(b""), Invalid), (Torn(LOG), ConnectionResetError)])
def test_an_empty_or_torn_upload_leaves_nothing(
    settings: Settings, project: Project, stream: Any, error: type[Exception]
) -> None:
    with pytest.raises(error):
        uploads.keep(settings, project, stream)
    assert [path for path in settings.folder("uploads").rglob("*") if path.is_file()] == []


@pytest.mark.parametrize("token", ["", "..", "../../curator.db", "x" * 32, "0" * 32, "0" * 32 + "\n"])
def test_only_a_token_that_was_given_out_opens_a_file(settings: Settings, project: Project, token: str) -> None:
    keep(settings, project)
    with pytest.raises(NotFound):
        uploads.path_of(settings, project, token)


def test_a_half_written_upload_is_not_there_yet(settings: Settings, project: Project) -> None:
    path = keep(settings, project)
    path.rename(path.with_suffix(".part"))
    with pytest.raises(NotFound):
        uploads.path_of(settings, project, path.name)


def test_another_project_does_not_see_it(session: Session, settings: Settings, project: Project) -> None:
    other = projects.create(session, "Other")
    with pytest.raises(NotFound):
        uploads.path_of(settings, other, keep(settings, project).name)


def test_a_look_shows_columns_and_first_records(settings: Settings, project: Project) -> None:
    look = uploads.look(keep(settings, project), None, {})
    assert look.problem is None
    assert look.columns == ["question", "answer"]
    assert look.preview is not None
    assert [draft.question for draft in look.preview.drafts] == ["Are dogs free?"]


def test_what_cannot_be_read_is_told_beside_its_columns(settings: Settings, project: Project) -> None:
    look = uploads.look(keep(settings, project, b"when,what\n1,2\n"), None, {})
    assert look.columns == ["when", "what"]
    assert look.preview is None
    assert look.problem is not None
    assert uploads.look(keep(settings, project, b"%PDF-1.7\n" * 99), None, {}).problem is not None


def test_an_import_is_queued_with_its_source(
    session: Session, settings: Settings, project: Project, make_user: Any
) -> None:
    user: User = make_user()
    path = keep(settings, project)
    source = uploads.begin(session, project, path, "../../log.csv", None, {}, user)
    session.flush()

    assert (source.name, source.path, source.state) == ("../../log.csv", str(path), "waiting")
    job = session.exec(select(Job)).one()
    assert (job.kind, job.queue, job.payload) == ("import", "light", {"id": source.id})
    session.rollback()
    assert session.exec(select(Source)).all() == []
    assert session.exec(select(Job)).all() == []
