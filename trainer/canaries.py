"""General questions that no project teaches, asked before and after: what a model forgot while it learnt.

Capitals, sums, opposites, the days of the week, in English and Chinese; our own, in canaries.jsonl. They are asked
without the project's instructions, which might rightly forbid to answer them.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from functools import cache
from importlib.resources import files
from typing import Literal

from pydantic import Field

from trainer.asking import NEW, OLD, Asker
from trainer.evaluation import CanaryResult, Check, Knowledge
from trainer.failures import Cancelled
from trainer.measures import normal
from trainer.recipe import Frozen
from trainer.spec import Message

LONGEST = 24  # tokens of an answer
LOST_AT_LEAST = 3
LOST_SHARE = 0.15
BRIEFLY = {"en": "Answer in one or two words.", "zh": "请用一两个词回答。"}
_NUMERALS = "〇零一二三四五六七八九十百千万两"


class Canary(Frozen):
    """One question; an answer is right when one of the accepted words stands in it."""

    id: str
    language: Literal["en", "zh"]
    question: str
    accepted: list[str] = Field(min_length=1)

    @property
    def messages(self) -> list[Message]:
        """Answer the conversation. The request to be brief is the user's: not every chat template knows a system."""
        return [Message(role="user", content=f"{self.question} {BRIEFLY[self.language]}")]


@cache
def every() -> tuple[Canary, ...]:
    """Answer all general questions."""
    text = files("trainer").joinpath("canaries.jsonl").read_text(encoding="utf-8")
    return tuple(Canary.model_validate_json(line) for line in text.splitlines())


def ask(asker: Asker, stop: Callable[[], bool]) -> list[CanaryResult]:
    """Ask both models all general questions."""
    found: list[CanaryResult] = []
    for canary in every():
        if stop():
            raise Cancelled
        old, new = (asker.ask(which, canary.messages, LONGEST).text for which in (OLD, NEW))
        found.append(
            CanaryResult(
                id=canary.id,
                question=canary.question,
                accepted=canary.accepted,
                old=old,
                new=new,
                old_right=is_right(canary.accepted, old),
                new_right=is_right(canary.accepted, new),
            )
        )
    return found


def is_right(accepted: list[str], answer: str) -> bool:
    """Tell whether an accepted word stands in an answer as a word of its own: 2 is not in 12, nor 二 in 十二."""
    text = normal(answer)
    return any(_whole(normal(word)).search(text) for word in accepted)


def check(knowledge: Knowledge) -> Check:
    """Answer the gate's line: a warning when clearly more was forgotten than chance explains.

    The likeliest words of a small model flip at a breath, so one or two lost say nothing however few it knew, and of
    many a few always flip: hence at least 3 and more than 15 %. It is a warning and no bar, since an assistant is
    taught to do its own work well; whether it needs the world besides is for its people to say.
    """
    few = knowledge.lost < LOST_AT_LEAST or knowledge.lost <= LOST_SHARE * knowledge.before
    return Check(
        name="canaries",
        passed=few,
        warning=True,
        detail=f"{knowledge.kept} of the {knowledge.before} general questions that the base answers right are still "
        f"right, {knowledge.lost} were lost; of all {knowledge.asked}, {knowledge.now} are right now.",
    )


@cache
def _whole(word: str) -> re.Pattern[str]:
    beside = "a-z0-9" if word.isascii() else _NUMERALS if set(word) <= set(_NUMERALS) else ""
    edges = (f"(?<![{beside}])", f"(?![{beside}])") if beside else ("", "")
    return re.compile(re.escape(word).join(edges))
