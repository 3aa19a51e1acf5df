"""What votes mean."""

from __future__ import annotations

import pytest

from curator.services.statistics import FEWEST, tally, votes_needed, wilson


def test_no_votes_tell_nothing():
    assert wilson(0, 0) == (0.0, 1.0)
    assert tally(0, 0).meaning == "none"
    assert tally(0, 0, ties=3, both_bad=2).votes == 5


@pytest.mark.parametrize(("wins", "n"), [(9, 10), (15, 20), (21, 30), (32, 50), (60, 100)])
def test_the_known_thresholds_of_a_better_model(wins: int, n: int):
    assert tally(wins, n - wins).meaning == "new"
    assert tally(n - wins, wins).meaning == "old"
    assert tally(wins - 1, n - wins + 1).meaning == "open"


def test_the_interval_agrees_with_a_published_example():
    low, high = wilson(31, 45)  # statsmodels.stats.proportion.proportion_confint(31, 45, method="wilson")

    assert low == pytest.approx(0.54334, abs=1e-4)
    assert high == pytest.approx(0.80471, abs=1e-4)


def test_an_early_lead_is_not_believed():
    lead = tally(FEWEST - 1, 0)

    assert lead.low > 0.5
    assert lead.meaning == "open"
    assert lead.needed == FEWEST


def test_many_even_votes_are_about_the_same():
    assert tally(100, 100).meaning == "even"
    assert tally(5, 5).meaning == "open"
    assert tally(5, 5).needed is None


@pytest.mark.parametrize("share", [0.53, 0.55, 0.6, 0.65, 0.7, 0.8])
def test_the_votes_needed_settle_it_and_one_less_does_not(share: float):
    needed = votes_needed(share)

    assert needed is not None
    assert needed > FEWEST
    assert wilson(share * needed, needed)[0] > 0.5
    assert wilson(share * (needed - 1), needed - 1)[0] <= 0.5


def test_a_hair_is_never_settled():
    assert votes_needed(0.5) is None
    assert votes_needed(0.501) is None


def test_ties_do_not_move_the_share():
    assert tally(6, 3).low == tally(6, 3, ties=50, both_bad=9).low
