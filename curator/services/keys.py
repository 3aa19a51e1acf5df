"""Keys of the review pages: which key does what, and what a person changed about it."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import NamedTuple

from curator.errors import Invalid
from curator.words import N_
from db.models import User


class Action(NamedTuple):
    """What a key does at the desk, and what else where pages have something like it; `key` is the usual one."""

    key: str
    meaning: str
    elsewhere: str = ""


# In the order of the help; digits rate, give reasons and take sides, so they are nobody's key.
ACTIONS = {
    "accept": Action("a", N_("Accept it as it stands, or with your correction")),
    "edit": Action("e", N_("Correct the question or the answer"), N_("Where reviewers disagree: write your own")),
    "reject": Action("r", N_("Reject it; then choose reasons and press it again, or Enter")),
    "skip": Action(
        "s", N_("Skip it; it comes back when you ask for it"), N_("Where reviewers disagree: leave it for later")
    ),
    "unsure": Action("w", N_("You are unsure: it waits for a lead")),
    "undo": Action("u", N_("Take the last decision back")),
    "next": Action("j", N_("Next record, without deciding this one"), N_("In the list of records: next line")),
    "previous": Action("k", N_("Back to the record before"), N_("In the list of records: line before")),
    "note": Action("c", N_("Add a note")),
    "passages": Action("p", N_("Go to the passages and judge them")),
    "quote": Action("q", N_("Quote the marked passage in the answer")),
    "mask": Action("m", N_("Mask personal data")),
    "search": Action("/", N_("Search")),
    "guidelines": Action("g", N_("Guidelines")),
    "finish": Action("l", N_("Leave the desk and see what you did")),
    "help": Action("?", N_("All keys")),
}
_KEY = re.compile(r"[a-z,./;'\[\]=?!+*#-]")


def of(user: User) -> dict[str, str]:
    """Answer a person's key for every action."""
    return {action: user.keys.get(action, usual.key) for action, usual in ACTIONS.items()}


def remap(user: User, wanted: Mapping[str, str], *, single_keys: bool) -> None:
    """Give actions other keys; raises Invalid for what is no single sign, a digit, or used twice.

    Only what differs from the usual key is kept. What is kept is one sign of a short list, so that it can be put on a
    page safely (CVE-2026-22033 came in through a peer's key settings).
    """
    chosen = {action: wanted.get(action, "").strip().lower() or usual.key for action, usual in ACTIONS.items()}
    for key in chosen.values():
        if not _KEY.fullmatch(key):
            raise Invalid("A key is one letter or one of , . / ; ' [ ] = ? ! + * # -. Digits rate and give reasons.")
    taken: set[str] = set()
    for key in chosen.values():
        if key in taken:
            raise Invalid("The key %(key)s is used twice. Each action needs its own.", key=key)
        taken.add(key)
    user.keys = {action: key for action, key in chosen.items() if key != ACTIONS[action].key}
    user.single_keys = single_keys
