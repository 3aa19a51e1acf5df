"""What changed between two texts, word by word; for Chinese and Japanese, character by character."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable
from difflib import SequenceMatcher
from typing import Literal

Op = Literal["same", "del", "ins"]
Change = tuple[Op, str]

CAP = 200_000  # equal pairs of words that difflib may look at: about 50 ms; two texts of 2,000 words have some 30,000
_ROOM = 200_000  # characters between the common ends that are worth cutting into words
_CJK = "\u3040-\u30ff\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff\U00020000-\U0003ffff"
_MARK = "\u0300-\u036f\u1ab0-\u1aff\u1dc0-\u1dff\u20d0-\u20ff\ufe00-\ufe0f\ufe20-\ufe2f\U0001f3fb-\U0001f3ff"
# A word or one other character, never cut from its accents, joined emoji or the white space before it.
_WORD = re.compile(rf"\s*(?:(?:(?![{_CJK}])\w[{_MARK}]*)+|\S[{_MARK}]*(?:\u200d.[{_MARK}]*)*)|\s+", re.DOTALL)
_CUT = re.compile(rf"[\s{_CJK}]")


def words(before: str, after: str) -> list[Change]:
    """Answer the texts as one list of (op, text), in reading order.

    `same` and `del` pieces together are `before`, `same` and `ins` pieces are `after`, to the character. Texts too
    long or too repetitive to compare in time come back as one deletion and one insertion between their common ends.
    """
    head, tail = _common_ends(before, after)
    old, new = before[head : len(before) - tail], after[head : len(after) - tail]
    changes = _middle(old, new)
    changes.insert(0, ("same", before[:head]))
    changes.append(("same", before[len(before) - tail :]))
    return _joined(changes)


def _middle(old: str, new: str) -> list[Change]:
    whole: list[Change] = [("del", old), ("ins", new)]
    if len(old) + len(new) > _ROOM:
        return whole
    left, right = _WORD.findall(old), _WORD.findall(new)
    often = Counter(right)
    if sum(count * often[word] for word, count in Counter(left).items()) > CAP:
        return whole
    changes: list[Change] = []
    for op, a, b, c, d in SequenceMatcher(None, left, right, autojunk=False).get_opcodes():
        if op == "equal":
            changes.append(("same", "".join(left[a:b])))
        else:
            gone, come = "".join(left[a:b]), "".join(right[c:d])
            before = gone[: len(gone) - len(gone.lstrip())]  # white space that stayed is not part of the change
            kept = before if before and come.startswith(before) else ""
            changes.extend((("same", kept), ("del", gone[len(kept) :]), ("ins", come[len(kept) :])))
    return changes


def _common_ends(before: str, after: str) -> tuple[int, int]:
    """Answer how many characters the texts share at their start and end, ending between words."""
    most = min(len(before), len(after))
    if before == after:
        return most, 0
    head = _shared(most, lambda size: before[:size] == after[:size])
    while head and not _CUT.match(before[head - 1]):
        head -= 1
    most -= head
    tail = _shared(most, lambda size: before[len(before) - size :] == after[len(after) - size :])
    while tail and not _CUT.match(before[len(before) - tail]):
        tail -= 1
    return head, tail


def _shared(most: int, alike: Callable[[int], bool]) -> int:
    low, high = 0, most
    while low < high:  # by halves: comparing slices is far quicker than stepping through characters
        middle = (low + high + 1) // 2
        low, high = (middle, high) if alike(middle) else (low, middle - 1)
    return low


def _joined(changes: list[Change]) -> list[Change]:
    """Leave out empty pieces and join neighbours of one kind."""
    joined: list[Change] = []
    for op, text in changes:
        if text and joined and joined[-1][0] == op:
            joined[-1] = (op, joined[-1][1] + text)
        elif text:
            joined.append((op, text))
    return joined
