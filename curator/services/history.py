"""How a project's versions came on: four figures for each, all from 0 to 100, and the lines a small chart draws."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from curator.services.lineage import Descent
from curator.services.run_card import card_of_version

WIDTH, HEIGHT, EDGE = 160, 48, 6  # of one chart, in its own units


@dataclass(frozen=True)
class Milestone:
    """A version's figures, each a share in per cent; None where its run did not measure it or had nothing to ask."""

    number: int
    serving: bool
    better: float | None
    pins: float | None
    overlap: float | None
    kept: float | None


@dataclass(frozen=True)
class Dot:
    """One version in a chart, with where it stands."""

    x: float
    y: float
    milestone: Milestone
    value: float


def milestones(descents: Sequence[Descent], serving: int | None) -> list[Milestone]:
    """Answer the figures of the versions whose runs have a card, oldest first. `serving` is a version's number."""
    found: list[Milestone] = []
    for descent in reversed(descents):
        if sums := card_of_version(descent.version, descent.run):
            known = sums.knowledge
            number = descent.version.number
            found.append(
                Milestone(
                    number=number,
                    serving=number == serving,
                    better=_share(sums.better, sums.asked),
                    pins=_share(sums.new_pins, sums.pins),
                    overlap=sums.new.overlap if sums.new else None,
                    kept=_share(known.kept, known.before) if known else None,
                )
            )
    return found


def dots(history: Sequence[Milestone], figure: str) -> list[Dot]:
    """Place one figure of every version that has it: the same version stands at the same x in every chart."""
    step = (WIDTH - 2 * EDGE) / max(1, len(history) - 1)
    return [
        Dot(round(EDGE + place * step, 1), round(HEIGHT - EDGE - value / 100 * (HEIGHT - 2 * EDGE), 1), one, value)
        for place, one in enumerate(history)
        if (value := getattr(one, figure)) is not None
    ]


def _share(part: int, whole: int) -> float | None:
    return 100 * part / whole if whole else None
