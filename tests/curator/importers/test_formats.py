"""Each format as its producer writes it."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from pathlib import Path

import pytest

from curator import importers
from curator.errors import Invalid
from curator.importers import PassageDraft
from tests.curator.importers.reading import LOGS, read


def test_openai_chat_takes_the_last_answer_and_keeps_what_came_before():
    drafts, skipped = read(LOGS / "openai_chat.jsonl")

    assert [draft.answer for draft in drafts] == ["No, dogs travel free [fares.pdf].", "At 19:10."]
    assert drafts[0].system == ""
    second = drafts[1]
    assert (second.system, second.question) == ("Be brief.", "When does the Kittiwake sail?")
    assert second.turns == ({"role": "user", "content": "Hello"}, {"role": "assistant", "content": "Good morning."})
    assert (second.external_id, second.signals) == ("c2", {"thumbs": -1})
    assert [(item.line, item.reason) for item in skipped] == [
        (3, "The conversation calls tools; only plain questions and answers can be reviewed."),
        (4, "The conversation has no answer by the assistant."),
    ]


def test_sharegpt_reads_preferences_and_its_system_prompt():
    drafts, _ = read(LOGS / "sharegpt.json")

    assert (drafts[0].system, drafts[0].question, drafts[0].answer) == ("Be kind.", "儿童票多少钱？", "半价。")
    assert drafts[1].answer == "Yes, at the stern."
    assert drafts[1].signals == {"rejected": "I do not know."}


def test_a_sharegpt_file_that_really_holds_messages_is_read_by_its_keys(tmp_path: Path):
    file = tmp_path / "sharegpt.json"
    file.write_text(
        json.dumps([{"messages": [{"role": "user", "content": "q"}, {"role": "assistant", "content": "a"}]}])
    )

    assert importers.detect(file).importer == "openai-chat"


def test_alpaca_joins_instruction_and_input_and_reads_history():
    drafts, _ = read(LOGS / "alpaca.json")

    first, second = drafts
    assert (first.question, first.answer, first.system) == (
        "Translate into English.\n早上好",
        "Good morning.",
        "You translate.",
    )
    assert first.turns == ({"role": "user", "content": "Hello"}, {"role": "assistant", "content": "Hi."})
    assert (second.question, second.answer, second.signals) == ("Name the boat.", "Kittiwake", {"rejected": "Marigold"})


def test_chinese_excel_csv_is_read_with_its_cells_of_several_lines():
    drafts, skipped = read(LOGS / "qa_gb18030.csv")

    assert not skipped
    assert [draft.question for draft in drafts] == ["怎么退票？", "儿童要买票吗？"]
    assert drafts[0].answer == "开船前七天可以退票，\n手续费一成。"
    assert [draft.line for draft in drafts] == [2, 4]
    assert drafts[1].happened_at == datetime(2026, 4, 2, 9, 30, tzinfo=UTC)


def test_ragas_csv_reads_lists_written_as_python_or_json():
    drafts, _ = read(LOGS / "ragas.csv")

    assert [passage.text for passage in drafts[0].passages] == ["Dogs travel free.", "Cats don't."]
    assert [passage.text for passage in drafts[1].passages] == ["A café is open."]
    assert drafts[0].reference == "Dogs travel free."


def test_dify_feedback_marks_answers_it_cut_short():
    drafts, _ = read(LOGS / "dify_feedback.json")

    assert drafts[0].signals == {"thumbs": -1, "comment": "过期", "truncated": True}
    assert drafts[1].signals == {"thumbs": 1}
    assert (drafts[0].conversation, drafts[0].external_id) == ("c1", "m1")


def test_dify_messages_bring_their_passages():
    drafts, _ = read(LOGS / "dify_messages.json")

    assert drafts[0].passages == (PassageDraft("退货政策：七天内。", "policy.pdf", 0.91),)
    assert drafts[0].signals == {"thumbs": -1}
    assert drafts[0].happened_at == datetime.fromtimestamp(1722500000, UTC)


def test_langfuse_finds_nested_fields_and_decodes_escaped_text():
    drafts, _ = read(LOGS / "langfuse.jsonl")

    assert (drafts[0].question, drafts[0].answer) == ("怎么退货？", "7天内…")
    assert (drafts[0].conversation, drafts[0].signals) == ("s1", {"thumbs": -1})


def test_langchain_documents_are_unwrapped():
    drafts, _ = read(LOGS / "langchain.jsonl")

    assert drafts[0].passages == (
        PassageDraft("Returns within 7 days.", "policy.pdf"),
        PassageDraft("Keep the receipt.", "receipt.md"),
    )


def test_llamaindex_nodes_keep_their_score():
    drafts, _ = read(LOGS / "llamaindex.jsonl")

    assert drafts[0].passages == (PassageDraft("Returns within 7 days.", "policy.pdf", 0.8),)


def test_columns_given_by_hand_go_before_guessed_ones(tmp_path: Path):
    file = tmp_path / "log.csv"
    file.write_text("Ask;Said;answer\nDo dogs pay?;No.;wrong column\n")

    drafts, _ = read(file, question="Ask", answer="Said")

    assert (drafts[0].question, drafts[0].answer) == ("Do dogs pay?", "No.")


@pytest.mark.parametrize(
    ("importer", "mapping", "sentence"),
    [
        ("qa-table", {"question": "Nope"}, "no column “Nope”"),
        ("qa-table", {"quest": "Ask"}, "no field “quest”"),
        ("qa-table", {"question": "Ask"}, "hold the answer"),
        ("excel", {}, "no log format “excel”"),
    ],
)
def test_a_mapping_that_cannot_work_is_refused(tmp_path: Path, importer: str, mapping: dict[str, str], sentence: str):
    file = tmp_path / "log.csv"
    file.write_text("Ask,Said\nDo dogs pay?,No.\n")

    with pytest.raises(Invalid, match=sentence):
        importers.detect(file, importer, mapping)
