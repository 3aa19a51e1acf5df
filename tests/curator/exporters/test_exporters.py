"""Exports: what other tools read, byte for byte the same every time, and read back without a loss."""

from __future__ import annotations

import json
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from sqlalchemy import Engine
from sqlmodel import Session

from curator import exporters, importers
from curator.cli import main
from curator.errors import Invalid
from curator.exporters import Judgement, PreferenceExample
from curator.importers import RecordDraft
from curator.services import exports, snapshots
from db.models import Project, Snapshot
from tests.factories import make_record
from trainer.spec import Example, Message


def example(*turns: str, system: str = "", number: int = 0) -> Example:
    messages = [Message(role=("user", "assistant")[place % 2], content=turn) for place, turn in enumerate(turns)]
    lead = [Message(role="system", content=system)] if system else []
    return Example(id=str(number), group=f"g{number}", messages=[*lead, *messages])


def pair(prompt: str, chosen: str, rejected: str) -> PreferenceExample:
    messages = [Message(role="system", content="Be brief."), Message(role="user", content=prompt)]
    return PreferenceExample(id="1", group="g", prompt=messages, chosen=chosen, rejected=rejected)


@pytest.fixture
def snapshot(session: Session, project: Project) -> Snapshot:
    project.system_prompt = "Be brief."
    for number in range(80):
        make_record(
            session, project, state="accepted", question=f"第{number}问 \u2028?", answer="=SUM(A1)\n是的 👩‍👩‍👧"
        )
    found = snapshots.freeze(session, project, "Spring / 春")
    session.commit()
    return found


def test_sharegpt_is_registered_with_every_column_and_tag_written_out(tmp_path: Path):
    files = exporters.write("sharegpt", tmp_path, "v1", {"train": [example("q", "a", system="s")], "test": []})

    assert [file.name for file in files] == ["v1_train.jsonl", "dataset_info.json"]
    assert json.loads(files[0].read_text()) == {
        "conversations": [{"from": "human", "value": "q"}, {"from": "gpt", "value": "a"}], "system": "s",
    }  # fmt: skip
    info = json.loads(files[1].read_text())
    assert list(info) == ["v1_train"]
    entry = info["v1_train"]
    assert (entry["file_name"], entry["formatting"], entry["ranking"]) == ("v1_train.jsonl", "sharegpt", False)
    assert {key: value for key, value in entry["columns"].items() if value} == {
        "messages": "conversations",
        "system": "system",
    }
    assert set(entry["columns"]) == {
        "prompt", "query", "response", "history", "messages", "system", "tools", "images", "videos", "audios", "chosen",
        "rejected", "kto_tag",
    }  # fmt: skip
    assert entry["tags"] == {
        "role_tag": "from", "content_tag": "value", "user_tag": "human", "assistant_tag": "gpt",
        "observation_tag": "observation", "function_tag": "function_call", "system_tag": "system",
    }  # fmt: skip


def test_sharegpt_preferences_end_with_the_question_and_are_registered_as_ranking(tmp_path: Path):
    files = exporters.write("sharegpt", tmp_path, "p1", {"train": [pair("q", "better", "worse")]})

    assert json.loads(files[0].read_text()) == {
        "conversations": [{"from": "human", "value": "q"}], "system": "Be brief.",
        "chosen": {"from": "gpt", "value": "better"}, "rejected": {"from": "gpt", "value": "worse"},
    }  # fmt: skip
    entry = json.loads(files[1].read_text())["p1_train"]
    assert (entry["ranking"], entry["columns"]["chosen"], entry["columns"]["rejected"]) == (True, "chosen", "rejected")


def test_sharegpt_leaves_out_a_greeting_since_odd_turns_must_be_the_users(tmp_path: Path):
    messages = [Message(role=role, content=role) for role in ("assistant", "user", "assistant")]
    given = Example(id="1", group="g", messages=messages)

    files = exporters.write("sharegpt", tmp_path, "v1", {"train": [given]})

    assert [turn["from"] for turn in json.loads(files[0].read_text())["conversations"]] == ["human", "gpt"]


def test_openai_files_hold_messages_and_preferences(tmp_path: Path):
    (file,) = exporters.write("openai-messages", tmp_path, "v1", {"train": [example("q", "a")], "val": []})
    (pairs,) = exporters.write("openai-messages", tmp_path, "p1", {"train": [pair("q", "better", "worse")]})

    assert json.loads(file.read_text()) == {
        "messages": [{"role": "user", "content": "q"}, {"role": "assistant", "content": "a"}]
    }
    assert json.loads(pairs.read_text()) == {
        "input": {"messages": [{"role": "system", "content": "Be brief."}, {"role": "user", "content": "q"}]},
        "preferred_output": [{"role": "assistant", "content": "better"}],
        "non_preferred_output": [{"role": "assistant", "content": "worse"}],
    }


def judged(prompt: str, answer: str, *, good: bool) -> Judgement:
    messages = [Message(role="system", content="Be brief."), Message(role="user", content=prompt)]
    return Judgement(id="1", group="g", prompt=messages, answer=answer, good=good)


def test_sharegpt_judgements_end_with_the_answer_and_its_tag(tmp_path: Path):
    splits = {"kto_train": [judged("q", "right", good=True), judged("q", "wrong", good=False)]}

    files = exporters.write("sharegpt", tmp_path, "p1", splits)

    lines = [json.loads(line) for line in files[0].read_text().splitlines()]
    assert lines[0] == {
        "conversations": [{"from": "human", "value": "q"}, {"from": "gpt", "value": "right"}],
        "system": "Be brief.", "kto_tag": True,
    }  # fmt: skip
    assert lines[1]["kto_tag"] is False
    entry = json.loads(files[1].read_text())["p1_kto_train"]
    assert (entry["file_name"], entry["ranking"]) == ("p1_kto_train.jsonl", False)
    assert {key for key, value in entry["columns"].items() if value} == {"messages", "system", "kto_tag"}


def test_trl_files_have_the_columns_its_trainers_take(tmp_path: Path):
    splits = {
        "train": [pair("q", "better", "worse")], "val": [example("q", "a", system="s")],
        "kto_train": [judged("q", "wrong", good=False)],
    }  # fmt: skip

    files = exporters.write("trl", tmp_path, "p1", splits)

    pairs, approved, judgements = (json.loads(file.read_text()) for file in files)
    asked = [{"role": "system", "content": "Be brief."}, {"role": "user", "content": "q"}]
    assert pairs == {
        "prompt": asked, "chosen": [{"role": "assistant", "content": "better"}],
        "rejected": [{"role": "assistant", "content": "worse"}],
    }  # fmt: skip
    assert approved["completion"] == [{"role": "assistant", "content": "a"}]
    assert [turn["content"] for turn in approved["prompt"]] == ["s", "q"]
    assert judgements == {"prompt": asked, "completion": [{"role": "assistant", "content": "wrong"}], "label": False}


def test_openais_form_has_no_place_for_judgements(tmp_path: Path):
    splits = {"train": [pair("q", "better", "worse")], "kto_train": [judged("q", "wrong", good=False)]}

    assert [file.name for file in exporters.write("openai-messages", tmp_path, "p1", splits)] == ["p1_train.jsonl"]


@pytest.mark.parametrize("exporter", list(exporters.EXPORTERS))
def test_a_snapshot_exports_to_the_same_bytes_every_time(
    session: Session, snapshot: Snapshot, tmp_path: Path, exporter: str
):
    out = tmp_path / "out"
    first = exports.export(session, snapshot, exporter, out / "a")
    second = exports.export(session, snapshot, exporter, out / "b")
    zips = [exports.zipped(session, snapshot, exporter, out / f"{name}.zip") for name in "ab"]

    assert [file.name for file in first] == [file.name for file in second]
    assert [file.read_bytes() for file in first] == [file.read_bytes() for file in second]
    assert zips[0].read_bytes() == zips[1].read_bytes()
    with zipfile.ZipFile(zips[0]) as archive:
        assert archive.namelist() == [file.name for file in first]
        assert archive.read(first[0].name) == first[0].read_bytes()
    assert sorted(path.name for path in out.iterdir()) == ["a", "a.zip", "b", "b.zip"]
    assert sum(len(file.read_text().split("\n")) - 1 for file in first if file.suffix == ".jsonl") == 80
    assert all(file.name.startswith("Spring_春_") for file in first if file.suffix == ".jsonl")


def test_a_failing_export_leaves_the_old_file_and_no_rest(tmp_path: Path):
    def failing() -> Any:
        yield example("new", "a")
        raise OSError("disk full")

    exporters.write("openai-messages", tmp_path, "v1", {"train": [example("old", "a")]})
    with pytest.raises(OSError, match="disk full"):
        exporters.write("openai-messages", tmp_path, "v1", {"train": failing()})

    assert [path.name for path in tmp_path.iterdir()] == ["v1_train.jsonl"]
    assert "old" in (tmp_path / "v1_train.jsonl").read_text()


def test_an_unknown_format_is_refused(tmp_path: Path):
    with pytest.raises(Invalid, match="Known: sharegpt, openai-messages, trl"):
        exporters.write("parquet", tmp_path, "v1", {})


said = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"), min_size=1, max_size=40).filter(
    str.strip
)
conversations = st.lists(
    st.tuples(said, said, st.lists(st.tuples(said, said), max_size=2), st.just("") | said), min_size=1, max_size=4
)


@given(conversations, st.sampled_from(["sharegpt", "openai-messages"]))
@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_importing_an_export_gives_back_its_content(
    tmp_path: Path, given: list[tuple[str, str, list[tuple[str, str]], str]], exporter: str
):
    examples = [
        example(*(turn for before in earlier for turn in before), question, answer, system=system)
        for question, answer, earlier, system in given
    ]

    file = exporters.write(exporter, tmp_path, "v1", {"train": examples})[0]
    found = importers.detect(file)
    items = list(importers.read(found.log, found.importer, found.mapping))

    drafts = [item for item in items if isinstance(item, RecordDraft)]
    assert [(d.question, d.answer, [turn["content"] for turn in d.turns], d.system) for d in drafts] == [
        (question, answer, [turn for before in earlier for turn in before], system)
        for question, answer, earlier, system in given
    ]


def test_the_command_line_imports_and_exports(
    engine: Engine, session: Session, project: Project, snapshot: Snapshot, settings: Any, tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
):  # fmt: skip
    monkeypatch.setenv("CURATOR_HOME", str(settings.home))
    run: Callable[..., Any] = lambda *words: CliRunner().invoke(main, list(words))  # noqa: E731  one line, used below
    log = tmp_path / "log.csv"
    log.write_text("Ask,Said\nDo dogs pay?,No.\n,empty\n")

    looked = run("import", str(log), "--map", "question=Ask", "--map", "answer=Said", "--dry-run")
    refused = run("import", str(log), "--project", "ferry")
    done = run("import", str(log), "--project", "ferry", "--map", "question=Ask", "--map", "answer=Said")
    again = run("import", str(log), "--project", "ferry", "--map", "question=Ask", "--map", "answer=Said", "--json")
    written = run(
        "export", "Spring / 春", "--project", "ferry", "--format", "openai-messages", "--out", str(tmp_path / "out")
    )

    assert "Do dogs pay? → No." in looked.output
    assert "Line 3 would be skipped" in looked.output
    assert (refused.exit_code, "Columns found: Ask, Said" in refused.output) == (2, True)
    assert "1 new, 0 known already, 1 skipped." in done.output
    assert json.loads(again.output)["duplicate"] == 1
    assert written.exit_code == 0
    assert all(Path(line).is_file() for line in written.output.splitlines())
