"""Find out which column of a log holds the question, the answer and what else a record knows.

A column is a key, or a dotted path of two keys such as `output.answer`; names are compared without case,
spaces and marks. A mapping is {field: column}.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

SYNONYMS: dict[str, tuple[str, ...]] = {
    "question": (
        "question", "query", "userinput", "userquery", "userquestion", "querystr", "prompt", "q", "ask", "instruction",
        "问题", "用户问题", "提问", "用户提问", "提问内容", "问", "input",
    ),
    "answer": (
        "answer", "response", "ragreply", "airesponse", "botanswer", "modelanswer", "generatedanswer", "reply",
        "result", "completion", "output", "prediction", "generatedtext", "a", "回答", "答案", "答复", "回复", "答",
        "ai回答", "机器人回答",
    ),
    "passages": (
        "contexts", "context", "retrievedcontexts", "retrievedcontext", "passages", "documents", "docs", "chunks",
        "sourcedocuments", "sourcenodes", "retrieverresources", "retrieveddocuments", "sources", "refs", "references",
        "knowledge", "上下文", "参考资料", "引用", "检索内容", "检索结果", "召回内容", "知识库内容",
    ),
    "reference": (
        "reference", "groundtruth", "truth", "gtanswer", "groundtruths", "expectedanswer", "expectedoutput",
        "goldanswer", "gold", "correctanswer", "idealanswer", "referenceanswer", "标准答案", "参考答案", "正确答案",
    ),
    "external_id": ("id", "messageid", "queryid", "recordid", "questionid", "traceid", "runid", "uuid", "编号", "序号"),
    "conversation": (
        "conversationid", "sessionid", "chatid", "threadid", "session", "会话id", "对话id", "会话", "会话编号",
    ),
    "happened_at": (
        "createdat", "timestamp", "happenedat", "messagedate", "createtime", "starttime", "datetime", "created", "time",
        "date", "创建时间", "提问时间", "时间", "日期",
    ),
    "thumbs": (
        "thumbs", "feedback", "userfeedback", "feedbackratingraw", "feedbackrating", "thumb", "thumbup", "vote",
        "liked", "rating", "label", "ktotag", "用户反馈", "反馈", "评价",
    ),
    "comment": ("feedbackcomment", "usercomment", "comment", "反馈内容", "反馈意见"),
    "latency": ("latencyms", "latency", "responsetime", "duration", "durationms", "elapsed", "耗时", "响应时间"),
    "score": ("score", "retrievalscore", "topscore", "similarity"),
    "language": ("language", "lang", "locale", "语言"),
    "system": ("system", "systemprompt", "系统提示", "系统提示词"),
}  # fmt: skip
FIELDS = tuple(SYNONYMS)
EXTRAS = tuple(field for field in FIELDS if field not in ("question", "answer", "system"))
TRACE = frozenset({"attributes", "spanContext", "resource"})  # of a span; what is in them needs an importer of its own
_STRINGS = frozenset({"question", "answer"})

Getter = Callable[[Mapping[str, Any]], Any]


def plain(name: str) -> str:
    """Answer a column name without case, spaces and marks: `User Input` and `user_input` are `userinput`."""
    return "".join(letter for letter in name.casefold() if letter.isalnum())


def columns(objects: Iterable[Mapping[str, Any]]) -> dict[str, list[Any]]:
    """Answer the columns of the objects in order, down to two levels, each with its values that are not empty."""
    found: dict[str, list[Any]] = {}
    for values in objects:
        for key, value in values.items():
            _note(found, key, value)
            if isinstance(value, dict) and key not in TRACE:
                for inner, below in value.items():
                    _note(found, f"{key}.{inner}", below)
    return found


def _note(found: dict[str, list[Any]], column: str, value: Any) -> None:
    filled = found.setdefault(column, [])
    if value not in (None, "", [], {}):
        filled.append(value)


def guess(objects: Sequence[Mapping[str, Any]], wanted: Iterable[str] = FIELDS) -> dict[str, str]:
    """Answer which column holds each wanted field, as far as names tell; the earlier synonym wins.

    Question and answer need text in the column. Without an answer the reference is the answer: a set of
    questions with their right answers.
    """
    found = columns(objects)
    names: dict[str, list[str]] = {}
    for column in sorted(found, key=lambda column: column.count(".")):
        names.setdefault(plain(column.rpartition(".")[2]), []).append(column)
    mapping: dict[str, str] = {}
    for field in wanted:
        for column in (column for synonym in SYNONYMS[field] for column in names.get(synonym, ())):
            values = found[column]
            if column in mapping.values() or (field in _STRINGS and not _mostly_text(values)):
                continue
            if values:
                mapping[field] = column
                break
    if "answer" in wanted and "answer" not in mapping and "reference" in mapping:
        mapping["answer"] = mapping.pop("reference")
    return mapping


def _mostly_text(values: list[Any]) -> bool:
    """Tell whether most values are text, and not JSON kept in text."""
    return sum(isinstance(value, str) and not value.startswith('{"') for value in values) * 2 > len(values)


def getter(column: str | None) -> Getter:
    """Answer what takes a column's value out of an object; None where it has none."""
    if not column:
        return lambda _values: None
    outer, dot, inner = column.partition(".")
    if not dot:
        return lambda values: values.get(column)

    def take(values: Mapping[str, Any]) -> Any:
        value = values.get(column)
        if value is None and isinstance(below := values.get(outer), dict):
            return below.get(inner)
        return value

    return take


class Picker:
    """Takes the fields of a mapping out of objects."""

    def __init__(self, mapping: Mapping[str, str]) -> None:
        self.mapping = dict(mapping)
        self.getters = [(field, getter(column)) for field, column in mapping.items()]

    def __call__(self, values: Mapping[str, Any]) -> dict[str, Any]:
        """Answer {field: value} for the fields that are filled."""
        picked: dict[str, Any] = {}
        for field, take in self.getters:
            value = take(values)
            if value is not None and value != "":
                picked[field] = value
        return picked
