"""A finished run becomes versions of other number types: measured first, made whole or not at all, each only once."""

from __future__ import annotations

from pathlib import Path

import pytest
from sqlalchemy import Engine
from sqlmodel import select

from curator.errors import Conflict, Invalid
from curator.services import (
    accounts,
    arena,
    battles,
    handover,
    history,
    jobs,
    lineage,
    versions,
)
from curator.services.number_types import in_words
from curator.services.run_card import card_of_version
from curator.settings import Settings
from curator.worker import Worker
from db.models import Job, Journal, ModelVersion
from db.session import open_session
from tests.curator.asking_types import ask_measuring, ask_version, chosen, drafts, every_version, measured, run_in, work
from tests.curator.teaching import Classroom, classroom
from trainer.rundir import RunDir


@pytest.fixture
def room(engine: Engine, settings: Settings, tmp_path: Path) -> Classroom:
    """A project with one finished run and its version."""
    room = classroom(engine, settings, tmp_path)
    room.teach()
    return room


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
