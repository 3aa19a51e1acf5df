"""Cut texts into the words that search compares: without case, width and accents, in every script.

Each character of a script that is written without spaces (Chinese, Japanese, Thai …), and each Korean syllable, is a
word of its own. Two of them side by side also make a pair, so that a Chinese word of two characters is looked up as
one thing rather than pieced together from the places of two frequent characters.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterator
from operator import add
from typing import NamedTuple

from db.search import GAP, LONGEST

_SPACELESS = (
    "\u0e01-\u0e30\u0e32\u0e33\u0e40-\u0e46\u0e81-\u0eb0\u0eb2\u0eb3\u0ebd\u0ec0-\u0ec6"  # Thai, Lao
    "\u1000-\u102a\u103f\u1780-\u17b3"  # Burmese, Khmer
    "\u1100-\u11ff\u3131-\u318e\ua960-\ua97c\uac00-\ud7a3\ud7b0-\ud7fb\uffa0-\uffdc"  # Korean
    "\u2e80-\u2fd5\u3005-\u3007\u3021-\u3029\u3038-\u303c\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff"  # Chinese characters
    "\U00020000-\U0003ffff"
    "\u3041-\u3096\u309d-\u309f\u30a1-\u30fa\u30fc-\u30ff\u31f0-\u31ff\uff66-\uff9d"  # Japanese
    "\u3105-\u312f\u31a0-\u31bf"  # Bopomofo
)
_JOINING = ("Mn", "Mc", "Me", "Cf")  # signs that stand on or between letters and end no word
MARKS = "\xad\uff9e\uff9f\U000e0100-\U000e01ef" + "".join(
    chr(code) for code in range(0x300, 0x10000) if unicodedata.category(chr(code)) in _JOINING
)
_FOLDED_AWAY = re.compile(  # accents of Latin, Greek, Cyrillic, Hebrew and Arabic, and what cannot be seen
    "[\xad\u0300-\u036f\u0483-\u0489\u0591-\u05c7\u0610-\u061c\u064b-\u065f\u0670\u06d6-\u06ed\u180b-\u180f\u1ab0-\u1aff"
    "\u1dc0-\u1dff\u200b-\u200f\u202a-\u202e\u2060-\u206f\u20d0-\u20ff\ufe00-\ufe0f\ufe20-\ufe2f\ufeff\U000e0100-\U000e01ef]"
)
_LINE_END = r"[ \t]{0,8}\r?\n[ \t]{0,8}"  # a text copied from a page breaks words of such scripts at the line's end
_RUN = rf"[{_SPACELESS}][{_SPACELESS}{MARKS}]*(?:{_LINE_END}[{_SPACELESS}][{_SPACELESS}{MARKS}]*)*"
_WORD = rf"[^\W_{_SPACELESS}]+(?:[{MARKS}]+[^\W_{_SPACELESS}]*)*"
_PIECE = re.compile(f"({_RUN})|({_WORD})")
_SYLLABLE = "[\u1100-\u115f][\u1160-\u11a7][\u11a8-\u11ff]?|[\uac00-\ud7a3][\u11a8-\u11ff]"  # Korean in its parts
_SIGN = re.compile(f"{_SYLLABLE}|[{_SPACELESS}][{MARKS}]*")
_FINAL = re.compile(f"[{_SPACELESS}][{MARKS}]*|{_WORD}")
_COMMON_RUN = re.compile("[\u4e00-\u9fff]+")  # nothing in it to fold
_ASCII_WORD = re.compile(f"[A-Za-z0-9]{{1,{LONGEST}}}")


class Tokens(NamedTuple):
    """The words of a text, and its pairs with a gap behind each run of them."""

    words: list[str]
    pairs: list[str]


class Piece(NamedTuple):
    """One word as it was written, or one run of characters without spaces (`solid`), as tokens."""

    words: list[str]
    solid: bool


class Places(NamedTuple):
    """The tokens of a text, where each begins and ends, and the number of the piece it is from: four equal lists."""

    tokens: list[str]
    starts: list[int]
    ends: list[int]
    pieces: list[int]


class _Folding(dict[str, tuple[str, ...]]):
    """Remembers how words are folded; most of a log's words come again and again."""

    MOST = 50_000

    def __missing__(self, written: str) -> tuple[str, ...]:
        if len(self) >= self.MOST:
            self.clear()
        found = tuple(_fold(written))
        if len(written) <= LONGEST:
            self[written] = found
        return found


_folded = _Folding()


def tokens(text: str) -> list[str]:
    """Answer the words of a text as they are compared."""
    return read(text).words


def read(text: str) -> Tokens:
    """Answer the words and pairs of a text."""
    if text.isascii():
        return Tokens(_ASCII_WORD.findall(text.lower()), [])
    words: list[str] = []
    pairs: list[str] = []
    for run, word in _PIECE.findall(text):
        if word:
            words += _folded[word]
            continue
        signs = _signs(run)
        words += signs
        if len(signs) > 1:
            pairs += pairs_of(signs)
            pairs.append(GAP)
    return Tokens(words, pairs)


def pieces(text: str) -> list[Piece]:
    """Answer a text's tokens by what was written together."""
    found = [
        Piece(_signs(run), True) if run else Piece(list(_folded[word]), False) for run, word in _PIECE.findall(text)
    ]
    return [piece for piece in found if piece.words]


def places(text: str) -> Places:
    """Answer the tokens of a text and where they stand."""
    found = Places([], [], [], [])
    if text.isascii():
        for number, match in enumerate(_ASCII_WORD.finditer(text)):
            _note(found, (match.group().lower(),), *match.span(), number)
        return found
    for number, match in enumerate(_PIECE.finditer(text)):
        start, end = match.span()
        if match.lastindex == 2:
            _note(found, _folded[match.group()], start, end, number)
        elif _COMMON_RUN.fullmatch(text, start, end):
            found.tokens.extend(text[start:end])
            found.starts.extend(range(start, end))
            found.ends.extend(range(start + 1, end + 1))
            found.pieces.extend([number] * (end - start))
        else:
            for sign in _SIGN.finditer(text, start, end):
                _note(found, _folded[sign.group()], *sign.span(), number)
    return found


def _note(found: Places, words: tuple[str, ...], start: int, end: int, number: int) -> None:
    for word in words:
        found.tokens.append(word)
        found.starts.append(start)
        found.ends.append(end)
        found.pieces.append(number)


def pairs_of(signs: list[str]) -> list[str]:
    """Answer the pairs in one run of characters."""
    return list(map(add, signs, signs[1:]))


def _signs(run: str) -> list[str]:
    if _COMMON_RUN.fullmatch(run):
        return list(run)
    return [token for sign in _SIGN.findall(run) for token in _folded[sign]]


def _fold(written: str) -> Iterator[str]:
    bare = _FOLDED_AWAY.sub("", unicodedata.normalize("NFKD", written))
    plain = _FOLDED_AWAY.sub("", unicodedata.normalize("NFKC", bare.casefold()))
    for token in _FINAL.findall(plain):
        yield from (token[at : at + LONGEST] for at in range(0, len(token), LONGEST))
