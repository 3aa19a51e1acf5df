"""Files that other projects wrote, imported without a mapping by hand."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from curator import importers
from tests.curator.importers.reading import read

DATA = Path(os.environ.get("CURATOR_SHARED_DATA", Path(__file__).parents[4] / "shared" / "data"))
needs_data = pytest.mark.skipif(not DATA.is_dir(), reason=f"no real logs in {DATA}; set CURATOR_SHARED_DATA")
TOOLS = "The conversation calls tools; only plain questions and answers can be reviewed."
NO_ANSWER = "The record has no answer."


@needs_data
@pytest.mark.parametrize(
    ("name", "importer", "records", "reasons"),
    [
        ("rag_logs/azure_baseline.jsonl", "qa-table", 200, {}),
        ("rag_logs/azure_other_prompt.jsonl", "qa-table", 200, {}),
        ("rag_logs/huixiangdou_zh.json", "qa-table", 3, {NO_ANSWER: 3}),
        ("rag_logs/ragchecker_inputs.json", "qa-table", 2, {}),
        ("rag_logs/ragas_annotated.json", "qa-table", 21, {}),
        ("rag_logs/hf_doc_qa.csv", "qa-table", 65, {NO_ANSWER: 1}),
        ("chat_sets/alpaca_en_demo.json", "alpaca", 999, {}),
        ("chat_sets/alpaca_zh_demo.json", "alpaca", 1000, {}),
        ("chat_sets/dpo_zh_demo.json", "sharegpt", 300, {}),
        ("chat_sets/kto_en_demo.json", "openai-chat", 300, {}),
        ("chat_sets/glaive_toolcall_en_demo.json", "sharegpt", 147, {TOOLS: 153}),
        ("chat_sets/fastchat_dummy_conversation.json", "sharegpt", 500, {}),
    ],
)
def test_a_real_file_is_recognised_and_read(name: str, importer: str, records: int, reasons: dict[str, int]):
    drafts, skipped = read(DATA / name)

    assert importers.detect(DATA / name).importer == importer
    assert len(drafts) == records
    assert {
        reason: sum(item.reason == reason for item in skipped) for reason in {item.reason for item in skipped}
    } == reasons


@needs_data
def test_azures_context_is_split_into_its_documents():
    drafts, _ = read(DATA / "rag_logs/azure_baseline.jsonl")

    first = drafts[0]
    assert [passage.document for passage in first.passages] == [
        f"Northwind_Health_Plus_Benefits_Details.pdf#page={page}" for page in (4, 3, 5)
    ]
    assert first.passages[1].text.startswith("Preventive Care Services:")
    assert first.signals["latency_ms"] == 3348
    assert first.reference.startswith("Choosing the right provider")
    assert "[Northwind_Health_Plus_Benefits_Details.pdf#page=4]" in first.answer


@needs_data
def test_preferences_keep_the_worse_answer():
    drafts, _ = read(DATA / "chat_sets/dpo_zh_demo.json")

    assert all(draft.signals["rejected"] for draft in drafts)
    assert {draft.signals.get("thumbs") for draft in read(DATA / "chat_sets/kto_en_demo.json")[0]} == {1, -1}
