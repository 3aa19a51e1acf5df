"""What can be counted about an answer without a judge: how near it is to the approved one, how long, how it ends,
whether it declines, and whether it keeps to the question's language."""

from __future__ import annotations

import unicodedata
from collections.abc import Callable, Sequence
from functools import cache
from statistics import fmean

from sacrebleu.metrics.chrf import CHRF

from trainer.asking import Answer
from trainer.evaluation import Measures, Totals
from trainer.languages import detect
from trainer.refusals import refuses

TokenCount = Callable[[str], int]


@cache
def _chrf() -> CHRF:
    return CHRF()  # as published: character 6-grams, beta 2, white space left out


def measured(question: str, approved: str, answer: Answer, tokens: TokenCount) -> Measures:
    """Count what one answer is like; `tokens` counts the tokens of a text."""
    text = answer.text.strip()
    return Measures(
        overlap=overlap(text, approved),
        refuses=refuses(text),
        characters=len(text),
        tokens=tokens(text),
        stops=answer.stopped,
        language_kept=language_kept(question, approved, text),
    )


def overlap(answer: str, approved: str) -> float | None:
    """Answer how much of the approved answer's wording is there, 0 to 100; None when nothing was approved.

    chrF (Popović 2015, https://aclanthology.org/W15-3049) compares runs of characters, so Chinese needs no words and
    a word with another ending still counts in part.
    """
    if not approved.strip():
        return None
    return round(_chrf().sentence_score(answer, [approved]).score, 2)


def language_kept(question: str, approved: str, answer: str) -> bool | None:
    """Tell whether an answer is in the question's language; None where question or answer are too short to tell.

    For a question that is too short itself, the approved answer says which language was right.
    """
    wanted, found = detect(question) or detect(approved), detect(answer)
    return wanted == found if wanted and found else None


def totals(measures: Sequence[Measures]) -> Totals | None:
    """Sum one side's answers up; None when there are none."""
    if not measures:
        return None
    overlaps = [one.overlap for one in measures if one.overlap is not None]
    told = [one.language_kept for one in measures if one.language_kept is not None]
    return Totals(
        answers=len(measures),
        overlap=round(fmean(overlaps), 2) if overlaps else None,
        refusals=sum(one.refuses for one in measures),
        characters=round(fmean(one.characters for one in measures), 1),
        tokens=round(fmean(one.tokens for one in measures), 1),
        stops=sum(one.stops for one in measures),
        language_kept=sum(told),
        language_told=len(told),
    )


def normal(text: str) -> str:
    """Answer a text without differences of width, case and white space."""
    return " ".join(unicodedata.normalize("NFKC", text).casefold().split())
