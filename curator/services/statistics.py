"""What votes mean: a win rate with its interval, and whether it can be told yet."""

from __future__ import annotations

from dataclasses import dataclass
from math import sqrt
from typing import Literal

Z = 1.959964  # two-sided 95 %
FEWEST = 10  # people look after every vote, so an early lead is not believed
EVEN = 0.1  # an interval within 50 % ± this is "about the same"
MOST_VOTES = 2000  # nobody votes more often; past this a lead is not worth settling

Meaning = Literal["none", "open", "new", "old", "even"]


@dataclass(frozen=True)
class Tally:
    """The votes on two models. `share` is the new one's of the decisive votes, `low` to `high` its 95 % interval.

    `meaning`: `none` no decisive vote yet, `open` not enough to tell, `new` or `old` is better, `even` about the
    same. `needed` is how many decisive votes would settle it if the share stayed as it is; None when it is settled,
    or never would be.
    """

    new: int
    old: int
    ties: int
    both_bad: int
    share: float
    low: float
    high: float
    meaning: Meaning
    needed: int | None

    @property
    def decisive(self) -> int:
        return self.new + self.old

    @property
    def votes(self) -> int:
        return self.decisive + self.ties + self.both_bad


def wilson(wins: float, n: int) -> tuple[float, float]:
    """Answer the 95 % interval of a share, (0, 1) for no votes at all.

    Source: E. B. Wilson, "Probable inference, the law of succession, and statistical inference" (1927).
    """
    if n <= 0:
        return 0.0, 1.0
    share = wins / n
    middle = (share + Z * Z / (2 * n)) / (1 + Z * Z / n)
    reach = Z / (1 + Z * Z / n) * sqrt(share * (1 - share) / n + Z * Z / (4 * n * n))
    return max(0.0, middle - reach), min(1.0, middle + reach)


def votes_needed(share: float) -> int | None:
    """Answer how many decisive votes at this share put its interval beside one half; None when more than MOST_VOTES.

    Wilson's interval inverts the score test, so it leaves out one half as soon as n exceeds z² / (2p - 1)²;
    never fewer than FEWEST.
    """
    lead = abs(2 * share - 1)
    if lead == 0:
        return None
    needed = max(FEWEST, int(Z * Z / (lead * lead)) + 1)
    return needed if needed <= MOST_VOTES else None


def tally(new: int, old: int, ties: int = 0, both_bad: int = 0) -> Tally:
    """Say what these counts of votes mean. Ties and "both bad" are told, but do not move the share."""
    decisive = new + old
    low, high = wilson(new, decisive)
    share = new / decisive if decisive else 0.5
    meaning = _meaning(decisive, low, high)
    return Tally(
        new=new,
        old=old,
        ties=ties,
        both_bad=both_bad,
        share=share,
        low=low,
        high=high,
        meaning=meaning,
        needed=votes_needed(share) if meaning == "open" else None,
    )


def _meaning(decisive: int, low: float, high: float) -> Meaning:
    if not decisive:
        return "none"
    if decisive < FEWEST:
        return "open"
    if low > 0.5:
        return "new"
    if high < 0.5:
        return "old"
    return "even" if low > 0.5 - EVEN and high < 0.5 + EVEN else "open"
