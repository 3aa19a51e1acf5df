"""What goes wrong while number types are measured or made is told, leaves no half version, and is gone on after."""

from __future__ import annotations

import shutil
import threading
from pathlib import Path

import pytest
from sqlalchemy import Engine
from sqlmodel import select

from curator.errors import Conflict, CuratorError, NotFound, Unavailable
from curator.services import jobs, number_types, publishing
from curator.services.run_progress import progress
from curator.settings import Settings
from curator.worker import Worker
from db.models import Base, Job
from db.session import open_session
from tests.curator.asking_types import ask_measuring, ask_version, chosen, drafts, every_version, measured, run_in, work
from tests.curator.teaching import Classroom, InProcess, classroom, wait_until
from trainer.rundir import RunDir, now
from trainer.spec import Event


@pytest.fixture
def room(engine: Engine, settings: Settings, tmp_path: Path) -> Classroom:
    """A project with one finished run and its version."""
    room = classroom(engine, settings, tmp_path)
    room.teach()
    return room


def test_a_run_that_is_not_finished_is_refused(engine: Engine, settings: Settings, tmp_path: Path) -> None:
    room = classroom(engine, settings, tmp_path)
    room.start()
    with pytest.raises(Conflict, match="has not finished"):
        ask_measuring(room)
    with pytest.raises(Conflict, match="has not finished"):
        ask_version(room)
    assert chosen(room).why is not None


def test_a_run_whose_folder_is_gone_says_so_before_and_after_it_is_queued(room: Classroom) -> None:
    measured(room)
    ask_version(room)
    shutil.rmtree(room.folder())

    with pytest.raises(NotFound, match="files of this run are gone"):
        ask_measuring(room)
    work(room)

    assert "files of this run are gone" in room.run().trouble
    assert len(every_version(room)) == 1
    assert room.job("make").state == "done"


def test_a_base_that_is_gone_says_so(room: Classroom, tmp_path: Path) -> None:
    measured(room)
    (tmp_path / "base.gguf").unlink()

    with pytest.raises(NotFound, match="is gone"):
        ask_version(room)


def test_what_the_trainer_says_is_kept_for_the_page_and_cleared_at_the_next_try(room: Classroom) -> None:
    ask_measuring(room)
    Worker(room.settings, "train", engine=room.engine, launcher=room.worker("refuses").launcher).run_until_idle()
    assert room.run().trouble == "There is no adapter to measure yet. Train and convert first."
    assert room.run().state == "finished"

    measured(room)

    assert room.run().trouble == ""
    assert chosen(room).measured


def test_no_room_on_the_disk_is_said_before_anything_begins(room: Classroom, monkeypatch: pytest.MonkeyPatch) -> None:
    measured(room)
    usage = shutil.disk_usage(room.settings.home)
    monkeypatch.setattr(shutil, "disk_usage", lambda _path: usage._replace(free=1 << 30))

    with pytest.raises(Unavailable, match="GB are free"):
        ask_version(room)
    with open_session(room.engine) as session:
        assert jobs.live_keys(session, "make") == set()


def test_a_disk_that_fills_while_the_folder_is_written_leaves_no_half_version(
    room: Classroom, monkeypatch: pytest.MonkeyPatch
) -> None:
    measured(room)
    ask_version(room)

    def full(*_args: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("curator.services.run_folder.link", full)
    work(room)

    assert room.run().trouble == (
        "The files cannot be written: No space left on device. Make room on the disk, then try again."
    )
    assert drafts(room) == []
    assert len(every_version(room)) == 1


def test_a_disk_that_is_full_before_the_measuring_is_told(room: Classroom, monkeypatch: pytest.MonkeyPatch) -> None:
    ask_measuring(room)

    def full(*_args: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("curator.services.run_folder.follow_base", full)
    work(room)

    assert room.run().trouble.startswith("The files cannot be written: No space left on device.")
    assert not chosen(room).measured


def test_a_base_that_lies_elsewhere_now_is_followed(room: Classroom, tmp_path: Path) -> None:
    moved = (tmp_path / "base.gguf").rename(tmp_path / "moved.gguf")
    with open_session(room.engine, write=True) as session:
        session.exec(select(Base)).one().path = str(moved)

    measured(room)
    ask_version(room)
    work(room)

    assert RunDir(room.folder()).spec().base.gguf == str(moved)
    assert [one.number for one in every_version(room)] == [2, 1]


@pytest.mark.parametrize("killed_after", ["convert", "evaluate", "gather"])
def test_a_worker_that_is_killed_in_between_is_gone_on_after(
    room: Classroom, killed_after: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    measured(room)
    ask_version(room)

    class Killed(BaseException):
        pass

    class Dying(InProcess):
        def start(self, stage, run):  # type: ignore[no-untyped-def]
            if killed_after == "convert" and stage == "evaluate":
                raise Killed
            return super().start(stage, run)

    def die(*_args: object, **_more: object) -> None:
        raise Killed

    with monkeypatch.context() as patch, pytest.raises(Killed):
        if killed_after == "evaluate":
            patch.setattr("curator.services.building.gather", die)
        if killed_after == "gather":
            patch.setattr("curator.services.building.build", die)
        Worker(room.settings, "train", engine=room.engine, launcher=Dying()).run_once()
    assert len(every_version(room)) == 1
    with open_session(room.engine, write=True) as session:  # its lease runs out
        job = session.exec(select(Job).where(Job.kind == "make")).one()
        job.state, job.lease_until = "queued", None

    work(room)

    assert [one.number for one in every_version(room)] == [2, 1]
    assert drafts(room) == []


def test_a_draft_that_a_kill_left_behind_is_swept_and_one_at_work_is_not(room: Classroom) -> None:
    measured(room)
    ask_version(room)
    place = room.settings.folder("versions")
    live = place / f".job-{room.job('make').id}.part"
    for draft in (live, place / ".job-99.part", place / ".run-1.part"):
        draft.mkdir()
    with open_session(room.engine, write=True) as session:
        publishing.request_repair(session)
    Worker(room.settings, "light", engine=room.engine).run_until_idle()

    assert [file.name for file in place.glob(".*")] == [live.name]


def test_measuring_tells_how_far_it_is_and_can_be_stopped(room: Classroom) -> None:
    ask_measuring(room)
    worker = room.worker("slow")
    thread = threading.Thread(target=worker.run_until_idle)
    thread.start()
    try:
        wait_until(lambda: chosen(room).step == 1)
        found = chosen(room)
        assert (found.measuring, found.steps, found.measuring_seconds) == (True, 4, 90)
        with open_session(room.engine, write=True) as session:
            number_types.cancel(session, run_in(session))
        wait_until(lambda: not chosen(room).measuring)
    finally:
        worker.leave()
        thread.join(20)
    assert not chosen(room).measured
    assert room.run().trouble == ""
    with open_session(room.engine, write=True) as session, pytest.raises(Conflict, match="any more"):
        number_types.cancel(session, run_in(session))


def test_events_of_measuring_do_not_change_what_the_run_page_tells_of_the_run(room: Classroom) -> None:
    before = progress(room.run())
    RunDir(room.folder()).append(Event(at=now(), kind="warning", stage="types", message="Something."))

    assert progress(room.run()) == before


def test_all_errors_are_sentences_for_people(room: Classroom) -> None:
    with pytest.raises(CuratorError) as caught:
        ask_version(room)
    assert str(caught.value).endswith(".")
