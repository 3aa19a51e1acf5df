"""What a preference snapshot holds, and what each method learns of it: dpo pairs, kto good and bad answers."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import islice

from sqlmodel import Session

from curator.errors import Invalid, NotFound
from curator.exporters import Judgement, PreferenceExample
from curator.services import snapshots
from db.models import Snapshot
from trainer.recipe import Method
from trainer.spec import Example, Message, Split

LEAST = 10  # good answers, and bad ones, to learn from: of fewer kto learns one answer by heart


@dataclass(frozen=True)
class Holdings:
    """How many pairs, and how many single answers that were found good or bad."""

    pairs: int
    good: int
    bad: int

    @property
    def singles(self) -> int:
        return self.good + self.bad


def held(snapshot: Snapshot, *splits: Split) -> Holdings:
    """Count what a preference snapshot holds on some sides, or on all."""
    chosen = splits or snapshots.SPLITS
    good, bad = (sum(snapshot.singles.get(split, {}).get(word, 0) for split in chosen) for word in ("good", "bad"))
    return Holdings(sum(getattr(snapshot, split) for split in chosen) - good - bad, good, bad)


def learnt(snapshot: Snapshot, method: Method, split: Split) -> tuple[int, int]:
    """Answer how many examples a method learns on one side, and how many of them are bad answers."""
    if snapshot.kind == "sft":
        return getattr(snapshot, split), 0
    found = held(snapshot, split)
    return (2 * found.pairs + found.singles, found.pairs + found.bad) if method == "kto" else (found.pairs, 0)


def check(snapshot: Snapshot, method: Method) -> None:
    """Raise Invalid with a sentence when a method has too little to learn of a snapshot."""
    examples, bad = learnt(snapshot, method, "train")
    if method == "kto" and min(bad, examples - bad) < LEAST:
        raise Invalid(
            "Dataset “%(name)s” holds %(good)d good and %(bad)d bad answers to learn from, and learning from single "
            "judgements needs %(least)d of each. Judge more of the kind that is missing, then freeze it again.",
            name=snapshot.name, good=examples - bad, bad=bad, least=LEAST,
        )  # fmt: skip
    if not examples:
        raise Invalid(
            "Dataset “%(name)s” holds no pair of a better and a worse answer to learn from. Let it learn from single "
            "judgements, or correct and compare more answers first.",
            name=snapshot.name,
        )


def pairs(session: Session, snapshot: Snapshot, split: Split | None = None) -> Iterator[PreferenceExample]:
    """Yield the pairs of a preference snapshot in order, read 1,000 at a time."""
    return (one for one in preferences(session, snapshot, split) if isinstance(one, PreferenceExample))


def judgements(session: Session, snapshot: Snapshot, split: Split | None = None) -> Iterator[Judgement]:
    """Yield every answer of a preference snapshot that was found good or bad; a pair is one of each."""
    for one in preferences(session, snapshot, split):
        if isinstance(one, Judgement):
            yield one
        else:
            yield Judgement(id=one.id, group=one.group, prompt=one.prompt, answer=one.chosen, good=True)
            yield Judgement(id=one.id, group=one.group, prompt=one.prompt, answer=one.rejected, good=False)


def preferences(
    session: Session, snapshot: Snapshot, split: Split | None = None
) -> Iterator[PreferenceExample | Judgement]:
    """Yield the pairs and single judgements of a preference snapshot in order."""
    for id_, group, body in snapshots.rows(session, snapshot, split):
        content = json.loads(body)
        given = {"id": id_, "group": group, "prompt": content["prompt"]}
        if "chosen" in content:
            yield PreferenceExample.model_validate(given | content)
        else:
            good = "good" in content
            yield Judgement.model_validate(given | {"answer": content["good" if good else "bad"], "good": good})


def of_preferences(session: Session, snapshot: Snapshot, split: Split, method: Method) -> Iterator[Example]:
    """Yield what a run learns of a preference snapshot; several examples of one record are told apart."""
    seen: dict[str, int] = {}
    for one in judgements(session, snapshot, split) if method == "kto" else pairs(session, snapshot, split):
        number = seen[one.id] = seen.get(one.id, 0) + 1
        single = isinstance(one, Judgement)
        answer = Message(role="assistant", content=one.answer if single else one.chosen)
        yield Example(
            id=one.id if number == 1 else f"{one.id}.{number}",
            group=one.group,
            messages=[*one.prompt, answer],
            rejected="" if single else one.rejected,
            good=one.good if single else True,
        )


def first(
    session: Session, snapshot: Snapshot, split: str, limit: int
) -> list[Example | PreferenceExample | Judgement]:
    """Answer the first examples of one side, to look at."""
    if split not in snapshots.SPLITS:
        raise NotFound("A dataset has the sides train, val and test.")
    read = snapshots.examples if snapshot.kind == "sft" else preferences
    return list(islice(read(session, snapshot, split), limit))
