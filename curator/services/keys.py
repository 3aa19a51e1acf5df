"""Keys of the desk: which key does what, and what a person changed about it."""

from __future__ import annotations

import re
from collections.abc import Mapping

from curator.errors import Invalid
from curator.words import N_
from db.models import User

# {action: (its key, what it does)}, in the order of the help; digits rate and give reasons, so they are nobody's key.
ACTIONS: dict[str, tuple[str, str]] = {
    "accept": ("a", N_("Accept it as it stands, or with your correction")),
    "edit": ("e", N_("Correct the question or the answer")),
    "reject": ("r", N_("Reject it; then choose reasons and press it again, or Enter")),
    "skip": ("s", N_("Skip it; it comes back when you ask for it")),
    "unsure": ("w", N_("You are unsure: it waits for a lead")),
    "undo": ("u", N_("Take the last decision back")),
    "next": ("j", N_("Next record, without deciding this one")),
    "previous": ("k", N_("Back to the record before")),
    "note": ("c", N_("Add a note")),
    "passages": ("p", N_("Go to the passages and judge them")),
    "quote": ("q", N_("Quote the marked passage in the answer")),
    "mask": ("m", N_("Mask personal data")),
    "search": ("/", N_("Search")),
    "guidelines": ("g", N_("Guidelines")),
    "finish": ("l", N_("Leave the desk and see what you did")),
    "help": ("?", N_("All keys")),
}
_KEY = re.compile(r"[a-z,./;'\[\]=?!+*#-]")


def of(user: User) -> dict[str, str]:
    """Answer a person's key for every action."""
    return {action: user.keys.get(action, key) for action, (key, _) in ACTIONS.items()}


def remap(user: User, wanted: Mapping[str, str], *, single_keys: bool) -> None:
    """Give actions other keys; raises Invalid for what is no single sign, a digit, or used twice.

    Only what differs from the usual key is kept. What is kept is one sign of a short list, so that it can be put on a
    page safely (CVE-2026-22033 came in through a peer's key settings).
    """
    chosen = {action: wanted.get(action, key).strip().lower() or key for action, (key, _) in ACTIONS.items()}
    for key in chosen.values():
        if not _KEY.fullmatch(key):
            raise Invalid("A key is one letter or one of , . / ; ' [ ] = ? ! + * # -. Digits rate and give reasons.")
    taken: set[str] = set()
    for key in chosen.values():
        if key in taken:
            raise Invalid("The key %(key)s is used twice. Each action needs its own.", key=key)
        taken.add(key)
    user.keys = {action: key for action, key in chosen.items() if key != ACTIONS[action][0]}
    user.single_keys = single_keys
