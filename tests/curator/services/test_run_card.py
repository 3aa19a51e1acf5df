"""The card of a run: figures of today, and runs of before there were some of them."""

from __future__ import annotations

from typing import Any

import pytest

from curator.services.run_card import RunCard, card, figures
from db.models import Run
from tests.curator.taught import CARD
from trainer.evaluation import CanaryResult, Check, Evaluation, Totals
from trainer.spec import RunResult


def totals(**given: Any) -> Totals:
    usual = {
        "answers": 4, "overlap": 50.0, "refusals": 0, "characters": 100.0, "tokens": 20.0, "stops": 4,
        "language_kept": 4, "language_told": 4,
    }  # fmt: skip
    return Totals(**{**usual, **given})


def found(**given: Any) -> RunCard:
    return RunCard(**{**CARD, "checks": (), **given})


def test_the_card_of_an_older_run_still_opens() -> None:
    opened = card(Run(project_id=1, snapshot_id=1, base_id=1, card=CARD))

    assert opened is not None and opened.passed
    assert (opened.old, opened.knowledge, opened.length) == (None, None, None)
    assert "general questions" not in opened.sentence


def test_what_was_measured_comes_back_from_the_database() -> None:
    lost = CanaryResult(id="1", question="?", accepted=["a"], old="a", new="b", old_right=True, new_right=False)
    kept = lost.model_copy(update={"new_right": True})
    evaluation = Evaluation(
        old_loss=2, new_loss=1, questions=[], pins=[], better=1, same=0, worse=0, old_pins=0, new_pins=0, stops=1,
        stops_asked=1, checks=[], old=totals(overlap=41.2), new=totals(overlap=58.0), canaries=[lost, kept],
    )  # fmt: skip

    opened = card(Run(project_id=1, snapshot_id=1, base_id=1, card=figures(RunResult(status="finished"), evaluation)))

    assert opened is not None and opened.new is not None and opened.knowledge is not None
    assert opened.new.overlap == 58
    assert (opened.knowledge.before, opened.knowledge.kept, opened.knowledge.lost) == (2, 1, 1)
    assert opened.approved is None
    assert (
        "Nearness to approved answers: 58 of 100, before 41. Still knows 1 of 2 general questions." in opened.sentence
    )


def test_a_warning_is_no_failure() -> None:
    warning = Check(name="canaries", passed=False, warning=True, detail="Half was lost.")

    assert found(checks=(warning,)).passed
    assert "Half was lost" not in found(checks=(warning,)).sentence
    assert not found(checks=(warning.model_copy(update={"warning": False}),)).passed


@pytest.mark.parametrize(
    ("before", "now", "word"),
    [(100, 50, "shorter"), (100, 95, "same"), (100, 110, "same"), (100, 111, "longer"), (0, 50, None), (50, 0, None)],
)
def test_a_tenth_more_or_less_is_about_as_long(before: float, now: float, word: str | None) -> None:
    assert found(old=totals(characters=before), new=totals(characters=now)).length == word
