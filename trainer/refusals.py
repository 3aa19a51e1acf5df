"""Tell an answer that declines from one that answers: for records from a log, and for the answers of a taught model."""

from __future__ import annotations

PHRASES = (
    "i'm sorry", "i am sorry", "sorry, ", "sorry but", "i'm afraid", "i am afraid", "i apologize", "i apologise",
    "i don't know", "i do not know", "i can't find", "i cannot find", "i could not find", "i couldn't find",
    "i can't answer", "i cannot answer", "i can't help", "i cannot help", "i can't provide", "i cannot provide",
    "i can't assist", "i cannot assist", "unable to", "not able to", "no information", "no relevant information",
    "not enough information", "insufficient information", "does not contain", "do not contain", "as an ai",
    "抱歉", "对不起", "很遗憾", "我不知道", "不清楚", "无法回答", "无法提供", "无法找到", "无法确定", "不能回答",
    "没有找到", "没有检索到", "没有查到", "没有提供", "未找到", "未检索到", "未查到", "未提供", "作为ai", "作为一个ai",
    "作为人工智能", "作为一个人工智能",
)  # fmt: skip
REACH = 160  # a refusal says so at once; further on, "I don't know" may be quoted


def refuses(answer: str) -> bool:
    """Tell whether an answer begins as one that refuses, in English or Chinese."""
    start = answer[:REACH].casefold().replace("’", "'")
    return any(phrase in start for phrase in PHRASES)
