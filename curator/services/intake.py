"""What Curator works out about a draft when it becomes a record: digest, group, language, signals and rank."""

from __future__ import annotations

import re
import unicodedata
from hashlib import sha256
from json.encoder import encode_basestring as quoted
from typing import Any

from curator.importers.draft import RecordDraft
from trainer.refusals import refuses

_CJK = re.compile("[\u3400-\u9fff\uf900-\ufaff\U00020000-\U0003ffff]")
_WORDLESS = re.compile(r"[\W_]+")
CONTROL = re.compile(r"<\|\w{1,40}\|>|</?s>|\[/?INST\]|<<SYS>>|<(?:start|end)_of_turn>")


def digest(draft: RecordDraft) -> str:
    """Answer the identity of a record's content: sha256 over (system, turns, question, answer, passage texts)."""
    return sha256(canonical(draft).encode()).hexdigest()


def canonical(draft: RecordDraft) -> str:
    """Answer what the digest covers as JSON without spaces, put together by hand since this runs for every record."""
    turns = ",".join([f"[{quoted(turn['role'])},{quoted(turn['content'])}]" for turn in draft.turns])
    passages = ",".join([quoted(passage.text) for passage in draft.passages])
    system, question, answer = quoted(draft.system), quoted(draft.question), quoted(draft.answer)
    return f"[{system},[{turns}],{question},{answer},[{passages}]]"


def folded(question: str) -> str:
    """Answer a question without case, width, white space and punctuation; of signs alone nothing is folded away."""
    text = question.casefold() if question.isascii() else unicodedata.normalize("NFKC", question).casefold()
    return _WORDLESS.sub("", text) or text


def group(draft: RecordDraft) -> str:
    """Answer what must stay on one side of the split: the conversation, or else all askings of one question."""
    key = f"conversation:{draft.conversation}" if draft.conversation else f"question:{folded(draft.question)}"
    return sha256(key.encode()).hexdigest()[:32]


def language(draft: RecordDraft) -> str:
    """Answer the language the log gives, else a guess by script: zh when a sixth of the letters are Chinese."""
    if draft.language:
        return draft.language
    text = draft.question + draft.answer[:400]
    if text.isascii():
        return "en"
    return "zh" if len(_CJK.findall(text)) * 6 >= len(text) else "en"


def signals(draft: RecordDraft) -> dict[str, Any]:
    """Answer the log's signals with those that the text itself shows: best passage score, refusal, control tokens."""
    found = dict(draft.signals)
    if draft.language:
        found["language"] = draft.language
    scores = [passage.score for passage in draft.passages if passage.score is not None]
    if scores and "score" not in found:
        found["score"] = max(scores)
    if refuses(draft.answer):
        found["refusal"] = True
    if any("<" in text or "[" in text for text in (draft.question, draft.answer)) and CONTROL.search(
        f"{draft.question}\n{draft.answer}"
    ):
        found["control_tokens"] = True
    return found


def facets(draft: RecordDraft, found: dict[str, Any]) -> tuple[int, bool, int, int]:
    """Answer (thumbs, refusal, weak, length) as Record's columns hold them, for the orders and filters of the queue."""
    thumbs, score = found.get("thumbs"), found.get("score")
    weak = round(1000 * (1 - score)) if isinstance(score, int | float) and 0 <= score <= 1 else 0
    return (
        thumbs if thumbs in (-1, 1) else 0,
        bool(found.get("refusal")),
        weak,
        len(draft.question) + len(draft.answer),
    )


def rank(found: dict[str, Any]) -> int:
    """Answer a record's place in the review queue, 0 to 200; lower is asked sooner.

    100, less 60 where a user put the thumb down, less 25 where the answer refuses, less up to 15 for a weak best
    passage (15 x (1 - score), scores between 0 and 1); plus 30 where a user was content, plus 70 where the log cut
    the answer short, since such a record can only be taught after somebody rewrites it. So complaints come first,
    then refusals, then what retrieval was unsure of. Records of equal rank come in the order of the log.
    """
    place = 100
    thumbs, score = found.get("thumbs"), found.get("score")
    place += {-1: -60, 1: 30}.get(thumbs, 0) if isinstance(thumbs, int) else 0
    place -= 25 if found.get("refusal") else 0
    place -= round(15 * (1 - score)) if isinstance(score, int | float) and 0 <= score <= 1 else 0
    return place + (70 if found.get("truncated") else 0)
