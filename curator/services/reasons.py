"""A project's reasons to reject: chosen by reviewers with the keys 1 to 9, edited by its lead."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from itertools import count
from typing import NamedTuple

from curator.errors import Invalid
from db.models import Json, Project

MOST = 9  # one for each number key
LONGEST = 60  # characters of a name; it has to fit on a button


class Row(NamedTuple):
    """One line of the settings' form. `key` is empty for a new reason, `place` is the number key it wants."""

    key: str
    place: int
    en: str
    zh: str


def chosen(project: Project, verdict: str, keys: Iterable[str]) -> list[str]:
    """Answer the reasons that count, or raise Invalid for a rejection without one. Unknown keys are left out."""
    known = {reason["key"] for reason in project.reasons}
    reasons = [key for key in dict.fromkeys(keys) if key in known]
    if verdict == "reject" and not reasons and project.reasons:
        raise Invalid("Please choose at least one reason for the rejection.")
    return reasons


def edited(project: Project, rows: Sequence[Row]) -> list[Json]:
    """Answer a project's reasons as a lead wrote them, in the order of their places.

    A row without a name is left out; one name stands for both languages where the other is empty. A renamed reason
    keeps its key, so that old reviews keep their meaning; what is new gets a key nobody had.
    """
    tidy = (row._replace(en=" ".join(row.en.split()), zh=" ".join(row.zh.split())) for row in rows)
    named = sorted((row for row in tidy if row.en or row.zh), key=lambda row: row.place)
    if len(named) > MOST:
        raise Invalid("A project can have %(count)s reasons at most, one for each number key.", count=MOST)
    known = {str(reason["key"]) for reason in project.reasons}
    taken, reasons = set(known), list[Json]()
    for row in named:
        en, zh = row.en or row.zh, row.zh or row.en
        if max(len(en), len(zh)) > LONGEST:
            raise Invalid("The name of a reason can have %(count)s characters at most.", count=LONGEST)
        if row.key in known:
            key = row.key
            known.discard(key)  # a key sent twice is a new reason the second time
        else:
            key = _free_key(en, taken)
        taken.add(key)
        reasons.append({"key": key, "en": en, "zh": zh})
    return reasons


def _free_key(name: str, taken: set[str]) -> str:
    stem = re.sub(r"[^a-z0-9]+", "_", name.lower()).strip("_")[:30] or "reason"
    return next(key for number in count(1) if (key := f"{stem}_{number}" if number > 1 else stem) not in taken)
