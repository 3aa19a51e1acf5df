"""Encodings, shapes and the scanner that counts brackets."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from curator import importers
from curator.importers import jsontext, readers, values
from tests.curator.importers.reading import read

ROWS = [
    {"question": f"第{number}个问题：怎么退票？", "answer": f"七天内可以退票，编号{number}。"} for number in range(40)
]


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16", "utf-16-le", "utf-16-be", "gb18030"])
@pytest.mark.parametrize("newline", ["\n", "\r\n"])
def test_every_encoding_gives_the_same_text(tmp_path: Path, encoding: str, newline: str):
    file = tmp_path / "log.jsonl"
    file.write_bytes(newline.join(json.dumps(row, ensure_ascii=False) for row in ROWS).encode(encoding))

    drafts, skipped = read(file)

    assert not skipped
    assert [draft.question for draft in drafts] == [row["question"] for row in ROWS]


def test_a_byte_that_is_not_gb18030_costs_its_line_only(tmp_path: Path):
    lines = [json.dumps(row, ensure_ascii=False).encode("gb18030") for row in ROWS]
    lines[5] = lines[5].replace("编号".encode("gb18030"), b"\xff\xff")
    file = tmp_path / "log.jsonl"
    file.write_bytes(b"\n".join(lines))

    drafts, skipped = read(file)

    assert len(drafts) == len(ROWS) - 1
    assert all("�" not in draft.answer for draft in drafts)
    assert [item.line for item in skipped] == [6]


def test_chinese_that_first_shows_up_late_is_not_taken_for_something_else(tmp_path: Path):
    ascii_part = (json.dumps({"question": "Do dogs pay?", "answer": "No." + " " * 400}) + "\n") * 900
    file = tmp_path / "log.jsonl"
    file.write_bytes(ascii_part.encode() + json.dumps(ROWS[0], ensure_ascii=False).encode("gb18030"))

    drafts, _ = read(file)

    assert drafts[-1].question == ROWS[0]["question"]


@pytest.mark.parametrize(
    ("text", "shape"),
    [
        ('{"question": "q", "answer": "a"}', "lines"),
        ('{"question": "q", "answer": "a"}\n\n{"question": "r", "answer": "a"}\n', "lines"),
        ('{broken}\n{"question": "r", "answer": "a"}\n', "lines"),
        ('[{"question": "q", "answer": "a"}]', "array"),
        ('{\n "question": "q",\n "answer": "a"\n}\n{\n "question": "r",\n "answer": "a"\n}', "objects"),
        ('{"question": "q", "answer": "a",\n "contexts": [{"text": "t"}]}', "objects"),
        ('{"results": [{"question": "q", "answer": "a"}]}', "wrapped"),
        ('{\n "info": {"n": 1},\n "data": [\n  {"question": "q", "answer": "a"}\n ]\n}', "wrapped"),
        ("question,answer\nq,a\n", "table"),
    ],
)
def test_the_shape_is_found_and_read(tmp_path: Path, text: str, shape: str):
    file = tmp_path / "log"
    file.write_text(text)

    assert importers.look(file).shape == shape
    assert read(file)[0]


def test_progress_counts_the_bytes_of_the_file(tmp_path: Path):
    file = tmp_path / "log.json"
    file.write_text(json.dumps(ROWS * 2000, ensure_ascii=False), encoding="utf-8")
    log = importers.look(file)
    seen: list[int] = []

    for _ in readers.items(log):
        seen.append(log.position)  # noqa: PERF401  the position changes while reading

    assert 0 < seen[0] < file.stat().st_size
    assert seen == sorted(seen)
    assert seen[-1] == file.stat().st_size


texts = st.text(alphabet=st.characters(exclude_categories=["Cs"]), max_size=20)
objects = st.lists(
    st.dictionaries(
        texts, st.recursive(texts | st.integers(), lambda inner: st.lists(inner, max_size=3), max_leaves=5)
    ),
    max_size=6,
)


@given(objects, st.sampled_from([None, 0, 2]), st.integers(1, 40), st.booleans())
@settings(max_examples=100, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_the_scanner_agrees_with_json_at_any_chunk_size(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, values: list[dict[str, object]], indent: int | None, chunk: int,
    escaped: bool,
):  # fmt: skip
    monkeypatch.setattr(jsontext, "CHUNK", chunk)
    monkeypatch.setattr(jsontext, "INDENT", 8)
    for shape, text in (
        ("array", json.dumps(values, indent=indent, ensure_ascii=escaped)),
        ("wrapped", json.dumps({"rows": values}, indent=indent, ensure_ascii=escaped)),
        ("objects", "\n".join(json.dumps(value, indent=indent, ensure_ascii=escaped) for value in values)),
    ):
        file = tmp_path / "log.json"
        file.write_bytes(text.encode())
        log = importers.LogFile(file, "utf-8", shape)

        found = list(readers.items(log))

        assert [item[1] for item in found if isinstance(item, tuple)] == values
        starts = [number for number, line in enumerate(text.split("\n"), 1) if line.startswith("{")]
        if shape == "objects" and indent is None:
            assert [item[0] for item in found if isinstance(item, tuple)] == starts


def test_only_text_that_is_mostly_escapes_is_decoded():
    assert values.text("\\u600e\\u4e48\\u9000\\u8d27?") == "怎么退货?"
    assert values.text("\\u4f60\\n\\u597d") == "你\n好"
    assert values.text("\\ud83d\\ude00") == "😀"
    for kept in (
        "Write \\u4f60 for 你.",
        "Write \\u4f60 in your source to get the character.",
        "C:\\users\\u1",
        "\\ud83d",
    ):
        assert values.text(kept) == kept
