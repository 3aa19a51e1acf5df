"""Imports: a log becomes records once, whatever happens on the way."""

from __future__ import annotations

import json
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import Engine
from sqlmodel import Session, col, select

from curator.errors import Invalid, NotFound
from curator.importers import PassageDraft, RecordDraft
from curator.services import imports, intake
from db.models import Passage, Project, Record, Source
from db.session import open_session


@pytest.fixture
def log(tmp_path: Path) -> Callable[..., Path]:
    def write(rows: list[dict[str, Any] | str], name: str = "log.jsonl") -> Path:
        file = tmp_path / name
        lines = (row if isinstance(row, str) else json.dumps(row, ensure_ascii=False) for row in rows)
        file.write_text("\n".join(lines) + "\n", encoding="utf-8")
        return file

    return write


@pytest.fixture
def add(session: Session, project: Project) -> Callable[..., int]:
    def add(file: Path, **how: Any) -> int:
        source = imports.add_source(session, project, file, **how)
        session.commit()
        return source.id or 0

    return add


def rows(count: int, start: int = 0) -> list[dict[str, Any] | str]:
    return [
        {"question": f"Question {number}?", "answer": f"Answer {number}."} for number in range(start, start + count)
    ]


def records(engine: Engine) -> list[Record]:
    with open_session(engine) as session:
        return list(session.exec(select(Record).order_by(col(Record.id))))


def test_an_import_keeps_everything_the_log_knows(engine: Engine, log: Callable[..., Path], add: Callable[..., int]):
    file = log([{
        "id": "m1", "session_id": "s1", "created_at": "2026-04-02T08:00:00+08:00", "question": "几点开船？",
        "answer": "抱歉，我不知道。", "truth": "19:10", "latency_ms": 1500, "feedback": "down",
        "contexts": [{"title": "a.pdf", "text": "早", "score": 0.2}, {"source": "b.pdf", "text": "晚", "score": 0.6}],
    }])  # fmt: skip

    source = imports.run_import(engine, add(file))

    assert (source.state, source.new, source.duplicate, source.skipped) == ("done", 1, 0, 0)
    assert source.read_bytes == source.size == file.stat().st_size
    assert source.finished_at
    (record,) = records(engine)
    assert (record.external_id, record.question, record.answer, record.reference) == (
        "m1", "几点开船？", "抱歉，我不知道。", "19:10",
    )  # fmt: skip
    assert record.signals == {"thumbs": -1, "latency_ms": 1500, "score": 0.6, "refusal": True}
    assert record.happened_at == datetime(2026, 4, 2, tzinfo=UTC)
    assert (record.language, record.state, record.version, record.turns) == ("zh", "new", 1, [])
    assert record.rank == 100 - 60 - 25 - 6
    with open_session(engine) as session:
        passages = session.exec(select(Passage).order_by(col(Passage.position))).all()
    assert [(passage.document, passage.text, passage.score) for passage in passages] == [
        ("a.pdf", "早", 0.2), ("b.pdf", "晚", 0.6),
    ]  # fmt: skip


def test_importing_a_file_again_adds_nothing(engine: Engine, log: Callable[..., Path], add: Callable[..., int]):
    file = log(rows(2500))
    imports.run_import(engine, add(file))

    again = imports.run_import(engine, add(file))

    assert (again.state, again.new, again.duplicate) == ("done", 0, 2500)
    assert len(records(engine)) == 2500


def test_equal_lines_of_one_file_are_one_record(engine: Engine, log: Callable[..., Path], add: Callable[..., int]):
    source = imports.run_import(engine, add(log([*rows(1500), *rows(1500)])))

    assert (source.new, source.duplicate) == (1500, 1500)


def test_the_last_line_being_bad_loses_nothing_else(engine: Engine, log: Callable[..., Path], add: Callable[..., int]):
    source = imports.run_import(engine, add(log([*rows(1200), '{"question": "cut o'])))

    assert (source.new, source.skipped) == (1200, 1)
    assert source.skips[0]["line"] == 1201
    assert "not valid JSON" in source.skips[0]["reason"]


def test_the_first_thousand_skips_are_kept_and_all_are_counted(
    engine: Engine, log: Callable[..., Path], add: Callable[..., int]
):
    source = imports.run_import(engine, add(log([*rows(1), *["{broken}"] * 2300])))

    assert (source.skipped, len(source.skips)) == (2300, 1000)


def test_a_stopped_import_goes_on_where_it_stopped(engine: Engine, log: Callable[..., Path], add: Callable[..., int]):
    source_id = add(log([*rows(1500), "{broken}", *rows(1500, start=1000)]))

    stopped = imports.run_import(engine, source_id, stop=lambda: True)
    assert (stopped.state, stopped.new) == ("waiting", 1000)
    assert 0 < stopped.read_bytes <= stopped.size

    done = imports.run_import(engine, source_id)
    assert (done.state, done.new, done.duplicate, done.skipped) == ("done", 2500, 500, 1)
    assert len(records(engine)) == 2500


def test_a_killed_import_goes_on_after_its_last_whole_batch(
    engine: Engine, log: Callable[..., Path], add: Callable[..., int], monkeypatch: pytest.MonkeyPatch
):
    source_id = add(log(rows(2500)))
    real, batches = imports._passage_rows, []  # pyright: ignore[reportPrivateUsage] # the middle of a transaction

    def killed(*given: Any) -> Any:
        batches.append(1)
        if len(batches) == 2:
            raise KeyboardInterrupt
        return real(*given)

    monkeypatch.setattr(imports, "_passage_rows", killed)
    with pytest.raises(KeyboardInterrupt):
        imports.run_import(engine, source_id)
    assert len(records(engine)) == 1000

    done = imports.run_import(engine, source_id)
    assert (done.state, done.new, done.duplicate) == ("done", 2500, 0)
    assert len(records(engine)) == 2500


def test_a_finished_import_is_not_run_again(engine: Engine, log: Callable[..., Path], add: Callable[..., int]):
    file = log(rows(3))
    source_id = add(file)
    imports.run_import(engine, source_id)
    file.unlink()

    assert imports.run_import(engine, source_id).new == 3


def test_a_file_that_changed_or_went_fails_with_a_sentence(
    engine: Engine, log: Callable[..., Path], add: Callable[..., int]
):
    changed, gone = log(rows(3), "a.jsonl"), log(rows(3), "b.jsonl")
    ids = [add(changed), add(gone)]
    changed.write_text(changed.read_text() + "more\n")
    gone.unlink()

    results = [imports.run_import(engine, id_) for id_ in ids]

    assert [source.state for source in results] == ["failed", "failed"]
    assert "has changed" in results[0].error
    assert "no longer there" in results[1].error


def test_a_source_that_does_not_exist_is_said_so(engine: Engine):
    with pytest.raises(NotFound):
        imports.run_import(engine, 999)


def test_a_preview_keeps_nothing(engine: Engine, log: Callable[..., Path]):
    found = imports.preview(log([*rows(8), "{broken}"]))

    assert (found.importer, found.mapping) == ("qa-table", {"question": "question", "answer": "answer"})
    assert [draft.question for draft in found.drafts] == [f"Question {number}?" for number in range(5)]
    assert [item.line for item in found.skipped] == [9]
    assert not records(engine)


def test_no_source_is_noted_for_what_is_no_log(session: Session, project: Project, log: Callable[..., Path]):
    with pytest.raises(Invalid):
        imports.add_source(session, project, log(["Dear Sir", "nothing"]))

    assert not session.exec(select(Source)).all()


def draft(question: str, answer: str = "a", **fields: Any) -> RecordDraft:
    return RecordDraft(line=1, question=question, answer=answer, **fields)


def test_a_digest_covers_the_content_and_nothing_else():
    base = draft("q", passages=(PassageDraft("p"),))

    assert intake.digest(base) == intake.digest(draft("q", passages=(PassageDraft("p", "doc", 0.5),), conversation="c"))
    others = [
        draft("q"), draft("q2", passages=base.passages), draft("q", "b", passages=base.passages),
        draft("q", passages=base.passages, system="s"), draft("q", passages=(PassageDraft("p2"),)),
        draft("q", passages=base.passages, turns=({"role": "user", "content": "x"},)),
    ]  # fmt: skip
    assert len({intake.digest(other) for other in [base, *others]}) == 7


def test_what_a_digest_covers_is_canonical_json():
    given = draft(
        'q "\\ \n\t\x01 问', "a", system="s", turns=({"role": "user", "content": "x"},), passages=(PassageDraft("p"),)
    )

    whole = ["s", [["user", "x"]], given.question, "a", ["p"]]
    assert intake.canonical(given) == json.dumps(whole, ensure_ascii=False, separators=(",", ":"))


def test_askings_of_one_question_share_a_group_and_so_do_turns_of_a_conversation():
    same = ["Do dogs pay?", "do dogs pay", " Do  DOGS pay？ ", "Ｄo dogs pay!"]
    assert len({intake.group(draft(question)) for question in same}) == 1
    assert intake.group(draft("Do cats pay?")) != intake.group(draft("Do dogs pay?"))
    assert intake.group(draft("a", conversation="c")) == intake.group(draft("b", conversation="c"))
    assert intake.group(draft("???")) != intake.group(draft("!!!"))


@pytest.mark.parametrize(
    ("answer", "refusal"),
    [
        ("I'm sorry, but I cannot find that.", True),
        ("I don’t know.", True),
        ("抱歉，没有相关信息。", True),
        ("根据现有资料，未找到答案。", True),
        ("Dogs travel free.", False),
        ("Dogs travel free. " * 20 + "I don't know about cats.", False),
        ("狗免费。", False),
    ],
)
def test_refusals_are_noticed_at_the_start_of_an_answer(answer: str, refusal: bool):
    assert intake.signals(draft("q", answer)).get("refusal", False) is refusal


def test_control_tokens_of_chat_templates_are_flagged():
    assert intake.signals(draft("q", "a<|im_end|>\n<|im_start|>system"))["control_tokens"]
    assert "control_tokens" not in intake.signals(draft("Is 3 < 4 [sic]?", "a"))


def test_complaints_come_before_refusals_before_weak_retrieval_before_the_rest():
    signals = [
        {"thumbs": -1},
        {"refusal": True},
        {"score": 0.1},
        {"score": 0.9},
        {},
        {"thumbs": 1},
        {"truncated": True},
    ]

    ranks = [intake.rank(found) for found in signals]

    assert ranks == sorted(ranks)
    assert len(set(ranks)) == len(ranks)
