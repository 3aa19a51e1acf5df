"""What an answer rests on: the words it took from passages, sentences that no passage supports, and its citations.

Words are compared without case and width; a Chinese character counts as a word of its own, so the same comparison
works for both languages. Wording that was taken over is found by runs of equal words. Whether a sentence that puts
things in its own words has support is told by its character n-grams and by its numbers.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from typing import NamedTuple

from trainer.refusals import refuses

SEED = 3  # equal words in a row where a comparison begins
ENOUGH_LETTERS = 14  # of three words or more, so that "in the and" is no evidence
ENOUGH_CJK = 4
SHARE = 0.45  # of a sentence's n-grams that passages must hold; below, nothing there supports it
READ_ANSWER, READ_PASSAGES = 20_000, 200_000  # characters that are looked at
_CJK = "\u3040-\u30ff\u3400-\u9fff\uf900-\ufaff\U00020000-\U0003ffff"
_WORD = re.compile(rf"[{_CJK}]|(?:(?![{_CJK}])[^\W_])+(?:[.,:]\d+)*")
_NUMBER = re.compile(r"\d+(?:[.,:]\d+)*")
_SENTENCE = re.compile(r"[^\n。！？；]*?(?:[.!?](?=\s|$)|[。！？；]|\n|$)")
_PLACE = re.compile(r"\d+")
_LIST_MARK = re.compile(r"\s*(?:\d{1,2}[.)、]|[-*•])\s")
_CITATION = re.compile(
    r"[\[［【〔]\^?(?:doc(?:ument)?\s*|passage\s*)?(\d{1,3}(?:\s?[,，、;；]\s?\d{1,3}){0,20})(?:\^|†[^】]{0,40})?[\]］】〕]",
    re.IGNORECASE,
)
# Round brackets hold years, amounts and list numbers too: they cite where they end a clause, and after nothing that
# reads on into them, as "section 5 (1)" and "open(1)" do.
_ROUND = re.compile(r"[(（](\d{1,3})[)）]")
_CITED_CLAUSE = re.compile(
    rf"(?:(?<=[\w%”’」』》）】])(?=（)|(?<=[{_CJK}”’」』》）】])|(?<=[^\W\d_] )|(?<=[\"'”’%)\]] ))"
    rf"(?:{_ROUND.pattern}\s?){{1,9}}(?=[.,;!?。，；！？…|*]|\s*$)",
    re.MULTILINE,
)


class Span(NamedTuple):
    """Words of the answer, and where a passage has the same; offsets are characters, ends exclusive."""

    start: int
    end: int
    passage: int
    passage_start: int
    passage_end: int


class Piece(NamedTuple):
    """A stretch of the answer: from a passage, part of a sentence without support, a citation, or none of it."""

    text: str
    passage: int | None
    unsupported: bool
    cited: int | None


class _Words(NamedTuple):
    words: list[str]
    spans: list[tuple[int, int]]


@dataclass(frozen=True)
class Evidence:
    """What was found about one answer. `doubtful` are the sentences without support; `cut`: it was not read whole."""

    answer: str
    spans: Sequence[Span] = ()
    doubtful: Sequence[tuple[int, int]] = ()
    citations: Sequence[tuple[int, int, int]] = ()  # (start, end, position of the passage)
    cut: bool = False
    _marked: dict[int, list[tuple[int, int]]] = field(default_factory=dict[int, list[tuple[int, int]]])

    @property
    def unsupported(self) -> int:
        """Count the sentences without support."""
        return len(self.doubtful)

    @property
    def pieces(self) -> list[Piece]:
        """Answer the whole answer in pieces, in order; joined they are the answer to the character."""
        edges = {0, len(self.answer)}
        for found in (self.spans, self.doubtful, self.citations):
            edges.update(edge for start, end, *_ in found for edge in (start, end))
        cuts = sorted(edges)
        return [self._piece(start, end) for start, end in pairwise(cuts)]

    def _piece(self, start: int, end: int) -> Piece:
        cited = next((place for a, b, place in self.citations if a <= start and end <= b), None)
        passage = next((span.passage for span in self.spans if span.start <= start and end <= span.end), None)
        doubtful = any(a <= start and end <= b for a, b in self.doubtful)
        return Piece(self.answer[start:end], passage, doubtful, cited)

    def of_passage(self, position: int, text: str) -> list[tuple[str, bool]]:
        """Answer a passage's text in pieces, those that the answer took marked."""
        pieces: list[tuple[str, bool]] = []
        last = 0
        for start, end in self._marked.get(position, ()):
            pieces += [(text[last:start], False), (text[start:end], True)]
            last = end
        return [(text, marked) for text, marked in [*pieces, (text[last:], False)] if text]


EMPTY = Evidence("")


def evidence(answer: str, passages: Sequence[str]) -> Evidence:
    """Compare an answer with the passages it was made from; without any, nothing is marked.

    Of very long texts the beginning is compared: 20,000 characters of the answer, 200,000 of all passages.
    """
    read, left = [], READ_PASSAGES
    for passage in passages:
        read.append(_words(passage[:left]))
        left -= min(left, len(passage))
    cited = list(_citations(answer[:READ_ANSWER], len(passages)))
    said = _words(_without(answer[:READ_ANSWER], cited))
    if not any(words.words for words in read):
        return Evidence(answer)
    spans = list(_runs(said, read))
    marked: dict[int, list[tuple[int, int]]] = {}
    for span in spans:
        marked.setdefault(span.passage, []).append((span.passage_start, span.passage_end))
    return Evidence(
        answer,
        spans,
        list(_doubtful(answer[:READ_ANSWER], said, read)),
        cited,
        len(answer) > READ_ANSWER or sum(map(len, passages)) > READ_PASSAGES,
        {position: _joined(found) for position, found in marked.items()},
    )


def _words(text: str) -> _Words:
    found = list(_WORD.finditer(text))
    return _Words([_folded(match.group()) for match in found], [match.span() for match in found])


def _folded(word: str) -> str:
    return word.lower() if word.isascii() else unicodedata.normalize("NFKC", word).casefold()


def _runs(said: _Words, read: Sequence[_Words]) -> Iterator[Span]:
    """Yield the longest runs of equal words, from the start of the answer to its end."""
    seeds: dict[tuple[str, ...], list[tuple[int, int]]] = {}
    for position, (words, _) in enumerate(read):
        for at in range(len(words) - SEED + 1):
            places = seeds.setdefault(tuple(words[at : at + SEED]), [])
            if len(places) < 8:  # a phrase that stands everywhere says nothing more by its ninth place
                places.append((position, at))
    at = 0
    while at <= len(said.words) - SEED:
        places = seeds.get(tuple(said.words[at : at + SEED]), ())
        runs = [(_length(said.words, at, read[position].words, place), position, place) for position, place in places]
        length, position, place = max(runs, key=lambda run: (run[0], -run[1], -run[2]), default=(0, 0, 0))
        if _tells(said.words[at : at + length]):
            there = read[position].spans
            yield Span(
                said.spans[at][0],
                said.spans[at + length - 1][1],
                position,
                there[place][0],
                there[place + length - 1][1],
            )
            at += length
        else:
            at += max(1, length - SEED + 1)  # one word on would compare the same long run again and again


def _length(left: Sequence[str], a: int, right: Sequence[str], b: int) -> int:
    length = SEED
    most = min(len(left) - a, len(right) - b)
    while length < most and left[a + length] == right[b + length]:
        length += 1
    return length


def _tells(words: Sequence[str]) -> bool:
    """Tell whether a run of equal words is more than a turn of phrase."""
    ideographs = sum(len(word) == 1 and word > "\u3000" for word in words)
    letters = sum(map(len, words)) - ideographs
    return ideographs >= ENOUGH_CJK or (letters >= ENOUGH_LETTERS and any(len(word) > 3 for word in words))


def _doubtful(answer: str, said: _Words, read: Sequence[_Words]) -> Iterator[tuple[int, int]]:
    """Yield the sentences that claim something which no passage holds."""
    known = {gram for words, _ in read for gram in _grams(words)}
    scripts = {gram > "\u3000" for gram in known}  # an answer in another language than all passages cannot be judged
    numbers = {number for words, _ in read for word in words for number in _numbers(word)}
    at = 0
    for match in _SENTENCE.finditer(answer):
        start, end = match.span()
        mark = _LIST_MARK.match(answer, start, end)
        start = mark.end() if mark else start
        words: list[str] = []
        while at < len(said.words) and said.spans[at][0] < end:
            if said.spans[at][0] >= start:
                words.append(said.words[at])
            at += 1
        text = match.group().strip()
        if len(words) < (ENOUGH_CJK if any(word > "\u3000" for word in words) else SEED) or text.endswith(
            ("?", "？", ":", "：")
        ):
            continue
        if refuses(text) and not any(_numbers(word) for word in words):
            continue  # "I do not know that." claims nothing
        invented = any(number not in numbers for word in words for number in _numbers(word))
        grams = [gram for gram in _grams(words) if (gram > "\u3000") in scripts]
        held = sum(gram in known for gram in grams) / len(grams) if grams else 1
        if invented or held < SHARE:
            lead = len(answer[start:end]) - len(answer[start:end].lstrip())
            yield start + lead, start + lead + len(answer[start:end].strip())


def _grams(words: Sequence[str]) -> list[str]:
    """Answer the character n-grams of a text: two Chinese characters, or four letters of a word."""
    grams: list[str] = []
    for word, after in zip(words, [*words[1:], ""], strict=False):
        if len(word) == 1 and word > "\u3000":
            grams.append(word + after[:1])
        elif len(word) > 3:  # shorter words are mostly grammar
            grams += [word[i : i + 4] for i in range(len(word) - 3)]
    return grams


def _numbers(word: str) -> list[str]:
    """Answer the number a word begins with, so that 30kg is 30, 07:30 is 7.30 and 14.00 is 14."""
    found = _NUMBER.match(word)
    if found is None:
        return []
    parts = found[0].replace(",", "").replace(".", ":").split(":")
    while len(parts) > 1 and not parts[-1].strip("0"):
        parts.pop()
    return [":".join([parts[0].lstrip("0") or "0", *parts[1:]])]


def _citations(answer: str, count: int) -> Iterator[tuple[int, int, int]]:
    """Yield the marks that name a passage by its position; of a mark with several numbers, each number."""
    marks = [*_CITATION.finditer(answer)]
    for clause in _CITED_CLAUSE.finditer(answer):
        marks += _ROUND.finditer(answer, *clause.span())
    for mark in marks:
        numbers = [*_PLACE.finditer(answer, *mark.span(1))]
        for number in numbers:
            if 0 < int(number[0]) <= count:
                yield *(number if len(numbers) > 1 else mark).span(), int(number[0]) - 1


def _without(answer: str, cited: Sequence[tuple[int, int, int]]) -> str:
    """Blank the citations: their numbers are nothing that the answer says."""
    for start, end, _ in cited:
        answer = answer[:start] + " " * (end - start) + answer[end:]
    return answer


def _joined(spans: Sequence[tuple[int, int]]) -> list[tuple[int, int]]:
    """Answer spans in order, overlapping ones as one."""
    joined: list[tuple[int, int]] = []
    for start, end in sorted(spans):
        if joined and start <= joined[-1][1]:
            joined[-1] = (joined[-1][0], max(end, joined[-1][1]))
        else:
            joined.append((start, end))
    return joined
