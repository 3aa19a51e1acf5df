"""A finished run becomes versions of other number types: measured first, made whole or not at all, each only once."""

from __future__ import annotations

import shutil
import threading
from pathlib import Path

import pytest
from sqlalchemy import Engine
from sqlmodel import Session, select

from curator.errors import Conflict, CuratorError, Invalid, NotFound, Unavailable
from curator.services import (
    accounts,
    arena,
    battles,
    handover,
    history,
    jobs,
    lineage,
    number_types,
    publishing,
    versions,
)
from curator.services.number_types import Choice, in_words
from curator.services.run_card import card_of_version
from curator.services.run_progress import progress
from curator.settings import Settings
from curator.worker import Worker
from db.models import Base, Job, Journal, ModelVersion, Run
from db.session import open_session
from tests.curator.teaching import Classroom, InProcess, classroom, wait_until
from trainer.rundir import RunDir, now
from trainer.spec import Event


@pytest.fixture
def room(engine: Engine, settings: Settings, tmp_path: Path) -> Classroom:
    """A project with one finished run and its version."""
    room = classroom(engine, settings, tmp_path)
    room.teach()
    return room


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


def test_nothing_is_known_before_somebody_asks(room: Classroom) -> None:
    found = chosen(room)

    assert (found.rows, found.measured, found.live, found.why) == ([], False, False, None)


def test_measuring_lists_the_types_largest_first_with_what_each_keeps(room: Classroom) -> None:
    measured(room)

    found = chosen(room)

    assert [row.offer.merged_type for row in found.rows] == ["F16", "Q8_0", "Q4_0", "same"]
    assert [row.words for row in found.rows] == [
        "the same, to within 1 %", "the same, to within 1 %", "about four fifths of what it learnt",
        "little of what it learnt",
    ]  # fmt: skip
    assert [row.share for row in found.rows] == pytest.approx([1.0, 0.998, 0.8, 0.1])
    assert [one.merged_type for one in found.left_out] == ["Q6_K"]
    assert [[one.number for one in row.versions] for row in found.rows] == [[], [1], [], []]
    assert not found.live


@pytest.mark.parametrize(
    ("share", "words"),
    [
        (1.2, "the same"), (0.99, "the same"), (0.96, "nearly all"), (0.9, "nine tenths"), (0.8, "four fifths"),
        (0.75, "three quarters"), (0.66, "two thirds"), (0.5, "half"), (0.33, "a third"), (0.2, "a fifth"),
        (0.1, "little"), (0.0, "nothing"), (-3.0, "nothing"),
    ],
)  # fmt: skip
def test_what_is_kept_is_said_in_words(share: float, words: str) -> None:
    assert words in in_words(share)


def test_a_version_of_another_type_is_new_whole_and_published_as_any(room: Classroom) -> None:
    first = room.version()
    before = {file.name: file.read_bytes() for file in Path(first.folder).iterdir()}
    measured(room)
    ask_version(room)

    work(room)

    second, old = every_version(room)
    assert (second.number, second.merged_type, second.run_id, second.base_id) == (
        2,
        "Q4_0",
        first.run_id,
        first.base_id,
    )
    assert second.tag.startswith("ferry:v2-") and second.gate_passed
    assert sorted(file.name for file in Path(second.folder).iterdir()) == [
        "Modelfile", "README.md", "evaluation.json", "model.gguf", "result.json",
    ]  # fmt: skip
    assert {file.name: file.read_bytes() for file in Path(first.folder).iterdir()} == before
    assert (old.tag, old.merged_type) == (first.tag, "Q8_0")
    with open_session(room.engine) as session:
        assert jobs.live_job(session, f"publish:{second.id}")
        publication = handover.of_version(session, second)
        assert publication.adapter is None, "what is served must be the file itself"
        assert publication.merged == Path(second.folder) / "model.gguf"
        note = session.exec(select(Journal).where(Journal.action == "version made")).one()
        assert note.detail == {"version": 2, "type": "Q4_0"}
    assert "is of type Q4_0" in (Path(second.folder) / "README.md").read_text()
    assert "adapter.gguf" not in (Path(second.folder) / "README.md").read_text()
    assert "adapter.gguf" in (Path(first.folder) / "README.md").read_text()
    assert drafts(room) == []
    assert room.run().trouble == ""


def test_the_pages_know_which_version_the_run_became_at_once(room: Classroom) -> None:
    measured(room)
    ask_version(room)
    work(room)

    with open_session(room.engine) as session:
        run = run_in(session)
        assert lineage.numbers(session, room.project) == {run.id: 1}
        first = lineage.of_run(session, run)
        assert first is not None and first.number == 1
        descents = lineage.of_versions(session, room.project)
        assert [(one.version.number, one.first) for one in descents] == [(2, 1), (1, 1)]
        assert lineage.of_version(session, descents[0].version).first == 1
        assert [one.number for one in history.milestones(descents, 1)] == [1, 2]
        card = card_of_version(descents[0].version, run)
        assert card is not None and card.minutes == 2.5
    assert [[one.number for one in row.versions] for row in chosen(room).rows] == [[], [1], [2], []]


def test_two_versions_of_one_run_are_compared_on_its_held_out_questions(room: Classroom) -> None:
    measured(room)
    ask_version(room)
    work(room)
    with open_session(room.engine, write=True) as session:
        user = accounts.create_user(session, "noor", "Noor")
        accounts.set_role(session, user, room.project, "reviewer")
        for version in session.exec(select(ModelVersion)):
            version.state = "published"
        battle = arena.start(session, room.project, user, 2, 1, None)

        assert battle.new_version_id != battle.old_version_id
        assert (battles.approved_answer(session, battle) or "").startswith("Answer")
        newer, older = arena.pair(session, room.project)
        assert (newer and newer.number, older) == (2, None)
        assert [one.number for one in versions.outdated(session, room.project, 1)] == [1]


def test_a_version_that_fails_its_own_examination_is_kept_back(room: Classroom) -> None:
    measured(room)
    ask_version(room)

    work(room, "poor")

    second = every_version(room)[0]
    assert not second.gate_passed
    with open_session(room.engine) as session:
        assert jobs.live_job(session, f"publish:{second.id}") is None
        run = run_in(session)
        assert history.milestones(lineage.of_versions(session, room.project), None)[1].pins == 0
        assert run.card["new_pins"] == 1, "the run's own card stays"


def test_a_type_is_made_only_once(room: Classroom) -> None:
    measured(room)
    ask_version(room)
    ask_version(room)  # a double click
    work(room)

    with pytest.raises(Conflict, match="already"):
        ask_version(room)
    with pytest.raises(Conflict, match="already"):
        ask_version(room, "Q8_0")
    assert len(every_version(room)) == 2


def test_a_job_that_comes_again_after_its_version_is_there_makes_no_second_one(room: Classroom) -> None:
    measured(room)
    ask_version(room)
    work(room)
    with open_session(room.engine, write=True) as session:
        done = session.exec(select(Job).where(Job.kind == "make")).one()
        done.state = "queued"

    work(room)

    assert len(every_version(room)) == 2
    assert drafts(room) == []


def test_a_retired_type_can_be_made_again_and_leaves_the_first_alone(room: Classroom) -> None:
    measured(room)
    ask_version(room)
    work(room)
    second = every_version(room)[0]
    with open_session(room.engine, write=True) as session:
        for job in session.exec(select(Job).where(Job.kind == "publish")):
            job.state = "done"
        versions.retire(session, session.get_one(ModelVersion, second.id), None)
    Worker(room.settings, "light", engine=room.engine).run_until_idle()
    assert not Path(second.folder).exists()
    assert RunDir(room.folder()).model_gguf.exists(), "that one is the first version's"

    ask_version(room)
    work(room)

    assert [(one.number, one.merged_type, one.state) for one in every_version(room)] == [
        (3, "Q4_0", "built"), (2, "Q4_0", "retired"), (1, "Q8_0", "built"),
    ]  # fmt: skip


def test_a_type_that_was_not_measured_or_cannot_be_is_refused(room: Classroom) -> None:
    with pytest.raises(Conflict, match="not measured yet"):
        ask_version(room)
    measured(room)
    for kind in ("Q6_K", "Q9_9", ""):
        with pytest.raises(Invalid, match="cannot become a file of type"):
            ask_version(room, kind)
    with pytest.raises(Conflict, match="measured already"):
        ask_measuring(room)


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
