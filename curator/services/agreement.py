"""Agreement: how alike people judge the same records, as Krippendorff's alpha with its interval and its meaning.

Alpha is 1 when everybody agrees and 0 when they agree no more than chance would make them. The limits of what it
means are Krippendorff's own: from 0.8 on judgements can be relied on, below 0.667 they cannot.
Source: K. Krippendorff, "Content Analysis" (2018), chapter 12.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

from sqlalchemy import select as select_columns
from sqlmodel import Session, col, func, select

from curator.services.opinions import is_retracted
from db.models import Project, Record, Review

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    Table = NDArray[np.float64]

Level = Literal["nominal", "ordinal"]
Meaning = Literal["few", "alike", "good", "fair", "poor"]

NEWEST = 2_000  # records that are looked at
OPINIONS = 20_000  # among the newest of the project
FEWEST, WIDEST = 20, 0.5  # with fewer records, or an interval wider than this, an alpha says nothing yet
RESAMPLES = 1_000
SEED = 17
GOOD, FAIR = 0.8, 0.667
VERDICTS = ("accept", "reject", "unsure")
RATINGS = (1, 2, 3, 4, 5)


@dataclass(frozen=True)
class Agreement:
    """Alpha with its 95 % interval over `records`; `alpha` is None when there is nothing to compute it from.

    `meaning`: too `few` records to tell by, `alike` when nobody ever gave two different judgements and so chance cannot
    be told from agreement, else `good`, `fair` or `poor`.
    """

    alpha: float | None
    low: float
    high: float
    records: int
    meaning: Meaning


@dataclass(frozen=True)
class Agreements:
    """How alike people decide, and how alike they rate."""

    verdict: Agreement
    rating: Agreement


def of(session: Session, project: Project) -> Agreements:
    """Measure agreement on the newest records that two people or more have judged, a lead's adjudications left out.

    Verdicts are names, so any two differ alike (nominal); ratings are ranks without equal steps (ordinal).
    """
    verdicts: dict[int, dict[int, str]] = {}
    ratings: dict[int, dict[int, int]] = {}
    for record_id, user_id, verdict, rating in _opinions(session, project):
        verdicts.setdefault(record_id, {})[user_id] = verdict  # oldest first: the newest of a person stays
        if rating is not None:
            ratings.setdefault(record_id, {})[user_id] = rating
    return Agreements(
        measure([Counter(one.values()) for one in verdicts.values()], VERDICTS, "nominal"),
        measure([Counter(one.values()) for one in ratings.values()], RATINGS, "ordinal"),
    )


def _opinions(session: Session, project: Project) -> Sequence[tuple[int, int, str, int | None]]:
    wanted: list[Any] = [Review.id, Review.record_id, Review.user_id, Review.verdict, Review.rating]  # several types
    newest = (
        select_columns(*wanted)
        .join(Record, col(Record.id) == col(Review.record_id))
        .where(
            col(Record.project_id) == project.id, col(Review.verdict) != "skip", ~col(Review.adjudication),
            ~is_retracted(),
        )
        .order_by(col(Review.id).desc())
        .limit(OPINIONS)
        .cte("newest")
    )  # fmt: skip
    several = (
        select(newest.c.record_id)
        .group_by(newest.c.record_id)
        .having(func.count(newest.c.user_id.distinct()) > 1)
        .order_by(func.max(newest.c.id).desc())
        .limit(NEWEST)
    )
    told = select(newest.c.record_id, newest.c.user_id, newest.c.verdict, newest.c.rating)
    rows = session.exec(told.where(newest.c.record_id.in_(several)).order_by(newest.c.id)).all()
    return [(row[0], row[1], row[2], row[3]) for row in rows]


def measure(judged: Sequence[Mapping[object, int]], values: Sequence[object], level: Level) -> Agreement:
    """Answer alpha of judgements counted per record, `values` in their order, with a bootstrap interval over records.

    A record that only one person judged says nothing about agreement and is left out.
    """
    pairable = [[count.get(value, 0) for value in values] for count in judged if count and sum(count.values()) > 1]
    if not pairable:
        return Agreement(None, 0.0, 0.0, 0, "few")
    import numpy as np  # here, not above: the web process starts without them

    table = np.array(pairable, dtype=float)
    if np.count_nonzero(table.sum(axis=0)) < 2:
        return Agreement(None, 1.0, 1.0, len(pairable), "alike" if len(pairable) >= FEWEST else "few")
    import krippendorff

    alpha = float(krippendorff.alpha(value_counts=table, level_of_measurement=level))
    found = resampled(table, level)
    low, high = (float(edge) for edge in np.nanquantile(found, (0.025, 0.975)))
    few = len(pairable) < FEWEST or high - low > WIDEST
    return Agreement(alpha, low, high, len(pairable), "few" if few else _meaning(alpha))


def _meaning(alpha: float) -> Meaning:
    return "good" if alpha >= GOOD else "fair" if alpha >= FAIR else "poor"


def resampled(table: Table, level: Level, resamples: int = RESAMPLES) -> Table:
    """Answer alpha of as many resamples of the records, drawn with replacement from a fixed seed.

    Records with the same counts are one row with a weight, so a resample is one draw of weights and all of them are
    a few products of small matrices. Alpha is 1 - observed / expected disagreement, NaN where a resample has one
    value only and nothing to disagree about.
    """
    import numpy as np

    rows, weights = np.unique(table, axis=0, return_counts=True)
    draws = np.random.default_rng(SEED).multinomial(int(weights.sum()), weights / weights.sum(), size=resamples)
    size = rows.shape[1]
    pairs = rows[:, :, None] * rows[:, None, :] - rows[:, :, None] * np.eye(size)
    pairs /= (rows.sum(axis=1) - 1)[:, None, None]
    coincidences = np.tensordot(draws, pairs, axes=1)
    seen = coincidences.sum(axis=2)
    expected = (seen[:, :, None] * seen[:, None, :] - seen[:, :, None] * np.eye(size)) / (
        seen.sum(axis=1) - 1
    )[:, None, None]  # fmt: skip
    distance = _distance(seen, level)
    with np.errstate(invalid="ignore", divide="ignore"):
        apart = (expected * distance).sum(axis=(1, 2))
        return np.where(apart > 0, 1 - (coincidences * distance).sum(axis=(1, 2)) / apart, np.nan)


def _distance(seen: Table, level: Level) -> Table:
    """Answer how far two values are apart, for each resample: 1, or the squared number of judgements between ranks."""
    import numpy as np

    size = seen.shape[1]
    if level == "nominal":
        return np.broadcast_to(1 - np.eye(size), (len(seen), size, size))
    upto = np.cumsum(seen, axis=1)
    first, last = np.minimum.outer(np.arange(size), np.arange(size)), np.maximum.outer(np.arange(size), np.arange(size))
    between = upto[:, last] - upto[:, first] + seen[:, first]
    ends = (seen[:, first] + seen[:, last]) / 2
    return np.where(first == last, 0.0, (between - ends) ** 2)
