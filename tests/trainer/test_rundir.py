"""Files in a run folder are whole or not there."""

from __future__ import annotations

from pathlib import Path

import pytest

from trainer.rundir import RunDir, folder_written_whole, now, write_model, written_whole
from trainer.spec import Event, Message, Stage


def event(message: str) -> Event:
    return Event(at=now(), kind="stage", stage="train", message=message)


def messages(run: RunDir) -> list[str]:
    return [event.message for event in run.events()]


def test_a_line_cut_short_by_a_crash_is_taken_away(tmp_path: Path) -> None:
    run = RunDir(tmp_path)
    run.append(event("first"))
    with run.events_file.open("ab") as file:
        file.write(b'{"at":"2026-01-01T00:00:00Z","kind":"st')

    assert messages(run) == ["first"]
    run.append(event("second"))

    assert messages(run) == ["first", "second"]
    assert run.events_file.read_bytes().count(b"\n") == 2


def test_a_file_that_is_one_half_line_is_emptied(tmp_path: Path) -> None:
    run = RunDir(tmp_path)
    run.events_file.write_bytes(b"x" * 10_000)

    run.append(event("first"))

    assert messages(run) == ["first"]


def test_a_long_half_line_is_found_across_blocks(tmp_path: Path) -> None:
    run = RunDir(tmp_path)
    run.append(event("first"))
    with run.events_file.open("ab") as file:
        file.write(b"y" * 9_000)

    run.append(event("second"))

    assert messages(run) == ["first", "second"]


def test_an_unusual_line_separator_in_a_message_does_not_split_an_event(tmp_path: Path) -> None:
    run = RunDir(tmp_path)

    run.append(event("one\u2028two\x85three"))

    assert messages(run) == ["one\u2028two\x85three"]


def test_a_file_is_not_there_when_writing_it_fails(tmp_path: Path) -> None:
    with pytest.raises(OSError, match="full"), written_whole(tmp_path / "plan.json") as draft:
        draft.write_text("half")
        raise OSError("full")

    assert list(tmp_path.iterdir()) == []


def test_an_old_file_stays_when_writing_its_successor_fails(tmp_path: Path) -> None:
    write_model(tmp_path / "a.json", Message(role="user", content="old"))

    with pytest.raises(OSError, match="full"), written_whole(tmp_path / "a.json"):
        raise OSError("full")

    assert "old" in (tmp_path / "a.json").read_text()


def test_a_folder_is_there_whole_or_not_at_all(tmp_path: Path) -> None:
    with folder_written_whole(tmp_path / "adapter") as draft:
        (draft / "weights").write_text("1")

    with pytest.raises(OSError, match="full"), folder_written_whole(tmp_path / "adapter") as draft:
        (draft / "weights").write_text("2")
        raise OSError("full")

    assert [f.name for f in tmp_path.iterdir()] == ["adapter"]
    assert (tmp_path / "adapter" / "weights").read_text() == "1"


def test_a_relative_base_starts_at_the_run_folder(tmp_path: Path) -> None:
    from tests.trainer.folders import make_run

    assert make_run(tmp_path / "run").base_gguf() == (tmp_path / "run" / "base.gguf").resolve()


def test_a_stage_is_done_when_its_last_file_is_there(tmp_path: Path):
    run = RunDir(tmp_path)
    stages: tuple[Stage, ...] = ("plan", "train", "convert", "evaluate")
    assert [stage for stage in stages if run.did(stage)] == []

    run.plan_file.touch()
    run.adapter.mkdir()
    run.adapter_gguf.touch()
    assert [stage for stage in stages if run.did(stage)] == ["plan", "train"]

    run.model_gguf.touch()
    run.result_file.touch()
    assert [stage for stage in stages if run.did(stage)] == list(stages)
