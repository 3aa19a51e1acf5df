"""Whatever a file holds, a line becomes a record or a reason, and a file a sentence: nothing raises."""

from __future__ import annotations

import json
import tracemalloc
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from curator import importers
from curator.errors import CuratorError, Invalid, NotFound
from curator.importers import Skipped
from tests.curator.importers.reading import read

GOOD = '{"question": "Do dogs pay?", "answer": "No."}'
NESTED = "[" * 200_000


def log(folder: Path, *lines: str | bytes, name: str = "log.jsonl") -> Path:
    file = folder / name
    file.write_bytes(b"\n".join(line.encode() if isinstance(line, str) else line for line in lines) + b"\n")
    return file


@pytest.mark.parametrize(
    ("line", "reason"),
    [
        ('{"question": "cut off", "ans', "not valid JSON"),
        ('["a", "list"]', "not an object"),
        ("42", "not an object"),
        ('{"question": "q", "answer": ' + NESTED, "nested too deeply"),
        ('{"question": "q", "answer": "a", "score": ' + "9" * 5000 + "}", "thousands of digits"),
        ('{"question": "q", "answer": "a", "question": "other"}', "same key twice"),
        ('{"question": "half \\ud800", "answer": "a"}', "lone surrogate"),
        ('{"question": "q", "answer": "a", "contexts": ["half \\udc00"]}', "lone surrogate"),
        ('{"question": "q", "answer": "nul \\u0000"}', "NUL"),
        ('{"question": NaN, "answer": "a"}', "no question"),
        ('{"question": "  \\n", "answer": "a"}', "no question"),
        ('{"question": "q", "answer": ""}', "no answer"),
        ('{"question": "q", "answer": "' + "x" * 4_300_000 + '"}', "4 million"),
        ('{"question": "q", "answer": "' + "x" * 9_000_000 + '"}', "8 MB"),
        (b'{"question": "caf\xe9", "answer": "a"}', "not text in the file's encoding"),
    ],
)
def test_a_bad_line_is_skipped_with_its_reason_and_the_rest_is_read(tmp_path: Path, line: str | bytes, reason: str):
    drafts, skipped = read(log(tmp_path, GOOD, line, GOOD.replace("dogs", "cats")))

    assert [draft.question for draft in drafts] == ["Do dogs pay?", "Do cats pay?"]
    assert [draft.line for draft in drafts] == [1, 3]
    assert [item.line for item in skipped] == [2]
    assert reason in skipped[0].reason
    assert skipped[0].reason.endswith(".")


def test_nan_beside_the_text_means_missing(tmp_path: Path):
    drafts, skipped = read(log(tmp_path, '{"question": "q", "answer": "a", "latency": NaN, "score": Infinity}'))

    assert not skipped
    assert drafts[0].signals == {}


@pytest.mark.parametrize(
    ("content", "sentence"),
    [
        (b"", "empty"),
        (b" \n\t\n", "empty"),
        (b"\xef\xbb\xbf", "empty"),
        (b"PK\x03\x04" + b"\0" * 100, "Excel"),
        (b"\x1f\x8b\x08\x00" + b"\0" * 100, "compressed"),
        (b"%PDF-1.7 ...", "PDF"),
        (b"SQLite format 3\0" + b"\0" * 100, "database"),
        (bytes(range(256)) * 50, "not text"),
        (b"Dear Sir\nnothing to see here.\n", "neither JSON nor a table"),
        (NESTED.encode(), "could be read as a record"),
        (b"[1, 2, 3]", "could be read as a record"),
        (b'{"name": "x", "sku": 3}\n{"name": "y", "sku": 4}\n', "Columns found: name, sku"),
        (b"name,sku\nx,3\n", "Columns found: name, sku"),
        ("Où est la clé ?\tà côté\nété\tlà\n".encode("cp1252"), "neither UTF-8"),
    ],
)
def test_a_file_that_is_no_log_is_refused_with_a_sentence(tmp_path: Path, content: bytes, sentence: str):
    file = tmp_path / "upload"
    file.write_bytes(content)

    with pytest.raises(Invalid, match=sentence):
        importers.detect(file)


def test_a_missing_file_is_said_to_be_missing(tmp_path: Path):
    with pytest.raises(NotFound):
        importers.detect(tmp_path / "gone.jsonl")


def test_a_50_mb_line_is_skipped_in_bounded_memory(tmp_path: Path):
    file = log(
        tmp_path, GOOD, b'{"question": "' + b"x" * 50_000_000 + b'", "answer": "a"}', GOOD.replace("dogs", "cats")
    )

    tracemalloc.start()
    drafts, skipped = read(file)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()

    assert (len(drafts), [item.line for item in skipped]) == (2, [2])
    assert peak < 40_000_000


@pytest.mark.parametrize("before", ["", "\n"])
def test_a_50_mb_element_of_an_array_is_skipped_in_bounded_memory(tmp_path: Path, before: str):
    file = tmp_path / "log.json"
    giant = '{"question": "q", "answer": "' + "x{[" * 17_000_000 + '"}'
    file.write_text(f"[{GOOD},{before}{giant},{before}{GOOD.replace('dogs', 'cats')}]")

    tracemalloc.start()
    drafts, skipped = read(file)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()

    assert [draft.question for draft in drafts] == ["Do dogs pay?", "Do cats pay?"]
    assert ["8 MB" in item.reason for item in skipped] == [True]
    assert peak < 60_000_000


@pytest.mark.parametrize(
    "broken",
    [
        '  {"question": "no quote, "answer": "a"},',
        '  {"question": "open", "answer": {"a": [1},',
        '  {"question": "trailing comma", "answer": "a",},',
        '  {"question": "never closed", "answer": "a"',
    ],
)
def test_a_broken_element_of_an_array_does_not_take_its_neighbours_along(tmp_path: Path, broken: str):
    rows = [f'  {{"question": "Question {number}?", "answer": "a"}}' for number in range(3)]
    file = tmp_path / "log.json"
    file.write_text(f"[\n{rows[0]},\n{broken}\n{rows[1]},\n{rows[2]}\n]\n")

    drafts, skipped = read(file)

    assert [draft.line for draft in drafts] == [2, 4, 5]
    assert [item.line for item in skipped] == [3]


def test_a_file_cut_off_in_the_middle_keeps_what_came_before(tmp_path: Path):
    file = tmp_path / "log.json"
    file.write_text(f'[{GOOD}, {{"question": "cut off", "answ')

    drafts, skipped = read(file)

    assert len(drafts) == 1
    assert "ends in the middle" in skipped[0].reason


@pytest.mark.parametrize(
    ("row", "reason"),
    [
        ("only a question,,\n", "no answer"),
        ('q,"unclosed,', "quotes do not close"),
        ('q,"a"b,x\n', "quotes do not close"),
        ("q,a,x,one too many\n", "more cells"),
        ('q,"' + "x" * 4_300_000 + '",x\n', "cannot be read"),
        ('q,"' + ("x" * 1000 + "\n") * 4_300 + '",x\n', "cannot be read"),
        ("q,nul \0 here,x\n", "NUL"),
    ],
)
def test_a_bad_row_of_a_table_is_skipped_with_its_reason(tmp_path: Path, row: str, reason: str):
    file = tmp_path / "log.csv"
    file.write_text(f"question,answer,note\nDo dogs pay?,No.,\n{row}")

    drafts, skipped = read(file)

    assert [draft.question for draft in drafts] == ["Do dogs pay?"]
    assert skipped[0].line == 3
    assert reason in skipped[0].reason


def test_a_conversation_of_10_000_turns_is_read(tmp_path: Path):
    turns = [{"role": ("user", "assistant")[number % 2], "content": str(number)} for number in range(10_000)]

    drafts, _ = read(log(tmp_path, json.dumps({"messages": turns})))

    assert (drafts[0].question, drafts[0].answer, len(drafts[0].turns)) == ("9998", "9999", 9998)


@given(st.binary(max_size=400), st.sampled_from([b"", b"[", b'{"messages": [', b"question,answer\n", b'{"question":']))
@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_any_bytes_give_records_reasons_or_a_sentence(tmp_path: Path, content: bytes, start: bytes):
    file = tmp_path / "any"
    file.write_bytes(start + content)

    try:
        drafts, skipped = read(file)
    except CuratorError as error:
        assert str(error).strip()
    else:
        assert all(isinstance(item, Skipped) for item in skipped)
        assert all(draft.question.strip() and draft.answer.strip() for draft in drafts)


KEYS = ["role", "content", "from", "value", "text", "metadata", "node", "source", "score"]
COLUMNS = [
    "messages", "conversations", "chosen", "rejected", "instruction", "input", "output", "history", "system",
    "question", "answer", "contexts", "reference", "id", "session_id", "created_at", "feedback", "latency",
]  # fmt: skip
json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=12),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(KEYS), inner, max_size=3),
    max_leaves=12,
)  # fmt: skip


@given(
    st.lists(
        st.dictionaries(
            st.sampled_from(COLUMNS),
            json_values,
            max_size=8,
        ),
        min_size=1, max_size=5,
    ),
    st.sampled_from(list(importers.IMPORTERS)),
)  # fmt: skip
@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_fields_of_any_type_never_raise(tmp_path: Path, objects: list[dict[str, object]], importer: str):
    file = tmp_path / "any.jsonl"
    file.write_text("\n".join(json.dumps(value) for value in [{"question": "q", "answer": "a"}, *objects]))

    log = importers.look(file)
    mapping = importers.IMPORTERS[importer].guess(objects)
    items = list(importers.read(log, importer, mapping))

    assert len(items) == 1 + len(objects)
