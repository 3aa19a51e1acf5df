"""Two runs side by side, and versions over time."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import Engine

from curator.errors import NotFound
from curator.services import history, lineage, run_comparison
from curator.services.run_comparison import Comparison
from curator.settings import Settings
from db.models import Base, Run
from db.session import open_session
from tests.curator.taught import CARD, School, school
from trainer.evaluation import Answered, Evaluation, Measures, PinResult
from trainer.rundir import RunDir, write_model

PIN = PinResult(id="1", question="Cats?", approved="Yes.", old="", new="Yes.", old_right=False, new_right=True)


@pytest.fixture
def place(engine: Engine, settings: Settings, tmp_path: Path) -> School:
    return school(engine, settings, tmp_path)


def asked(number: int, loss: float, overlap: float | None = None, **given: Any) -> Answered:
    measures = Measures(overlap=overlap) if overlap is not None else None
    values = {"question": f"Question {number}?", "approved": "Yes.", "old": "", "new": "No.", **given}
    return Answered(id=str(number), old_loss=2, new_loss=loss, outcome="better", new_measures=measures, **values)


def finished(place: School, questions: list[Answered], pins: list[PinResult] | None = None, **fields: Any) -> Run:
    with open_session(place.engine, write=True) as session:
        run = place.run(session, **{"state": "finished", "card": CARD, **fields})
        run.folder = str(place.settings.folder("runs") / str(run.id))
        session.add(run)
    Path(run.folder).mkdir()
    evaluation = Evaluation(
        old_loss=2, new_loss=1, questions=questions, pins=pins or [], better=1, same=0, worse=0, old_pins=0,
        new_pins=0, stops=1, stops_asked=1, checks=[],
    )  # fmt: skip
    write_model(RunDir(Path(run.folder)).evaluation_file, evaluation)
    return run


def compared(place: School, one: Run, other: Run) -> Comparison:
    with open_session(place.engine) as session:
        return run_comparison.compare(session, one, other)


def test_questions_of_both_are_won_by_the_smaller_loss(place: School) -> None:
    one = finished(place, [asked(1, 1.0), asked(2, 1.5), asked(3, 1.00), asked(4, 1.0)])
    other = finished(place, [asked(1, 1.5), asked(2, 1.0), asked(3, 1.04), asked(5, 1.0)])

    found = compared(place, one, other)

    assert [(duel.one.id, duel.winner) for duel in found.duels] == [("1", "one"), ("2", "other"), ("3", "same")]
    assert [duel.one.id for duel in found.won("other")] == ["2"]


def test_a_question_whose_approved_answer_was_changed_is_not_compared(place: School) -> None:
    found = compared(place, finished(place, [asked(1, 1.0)]), finished(place, [asked(1, 0.5, approved="Never.")]))

    assert found.duels == []


def test_runs_on_other_bases_are_compared_by_wording(place: School) -> None:
    one = finished(place, [asked(1, 0.1, 20.0), asked(2, 0.1, 50.0), asked(3, 0.1)])
    with open_session(place.engine, write=True) as session:
        mine = session.get_one(Base, one.base_id)
        base = Base(name="bigger", path=mine.path, sha256="f" * 64, size=1, architecture="llama")
        session.add(base)
        session.flush()
        number = base.id
    other = finished(place, [asked(1, 9.0, 60.0), asked(2, 9.0, 47.0), asked(3, 9.0)], base_id=number)

    found = compared(place, one, other)

    assert [(duel.one.id, duel.winner) for duel in found.duels] == [("1", "other"), ("2", "same")]
    assert ("Base model", "tiny", "bigger") in found.settings


def test_only_settings_that_differ_are_told(place: School) -> None:
    spec = {"epochs": 3.0, "learning_rate": 2e-4, "lora": {"rank": 16, "alpha": 32}}
    one = finished(place, [], spec=spec)
    other = finished(place, [], spec={**spec, "learning_rate": 1e-3, "lora": {"rank": 8, "alpha": 32}, "seed": 1})

    assert compared(place, one, other).settings == [
        ("Learning rate", "0.0002", "0.001"),
        ("LoRA rank", "16", "8"),
        ("Seed", "17", "1"),
    ]


def test_pins_of_both_stand_in_pairs(place: School) -> None:
    lost = PIN.model_copy(update={"new": "No.", "new_right": False})
    found = compared(place, finished(place, [], [PIN, PIN.model_copy(update={"id": "2"})]), finished(place, [], [lost]))

    assert [(one.new_right, other.new_right) for one, other in found.pins] == [(True, False)]


def test_a_run_whose_files_are_gone_is_compared_by_its_figures(place: School) -> None:
    one, other = finished(place, [asked(1, 1.0)]), finished(place, [asked(1, 0.5)])
    RunDir(Path(one.folder)).evaluation_file.unlink()

    found = compared(place, one, other)

    assert (found.duels, found.pins) == ([], [])
    assert found.one.card.examples == 33


def test_an_address_names_the_runs_or_leaves_them_open(place: School) -> None:
    first, second, third = (finished(place, []) for _ in range(3))
    runs = [third, second, first]

    def numbers(one: int | None, other: int | None) -> tuple[int | None, ...]:
        pair = run_comparison.chosen(runs, one, other)
        return tuple(run.id for run in pair) if pair else ()

    assert numbers(None, None) == (second.id, third.id)
    assert numbers(first.id, third.id) == (first.id, third.id)
    assert numbers(None, second.id) == (first.id, second.id)
    assert numbers(third.id, None) == (third.id, second.id)
    assert run_comparison.chosen(runs[:1], None, None) is None
    with pytest.raises(NotFound):
        run_comparison.chosen(runs, 999, third.id)


def test_versions_over_time_leave_out_what_was_not_measured(place: School) -> None:
    totals = {
        "answers": 4, "overlap": 50, "refusals": 0, "characters": 9, "tokens": 2, "stops": 4, "language_kept": 0,
        "language_told": 0,
    }  # fmt: skip
    place.version(1)
    version = place.version(2, "in service")
    with open_session(place.engine, write=True) as session:
        run = session.get_one(Run, version.run_id)
        run.card = {**CARD, "new": totals, "knowledge": {"asked": 45, "before": 20, "kept": 15, "now": 18}}

    with open_session(place.engine) as session:
        old, new = history.milestones(lineage.of_versions(session, place.project), 2)

    assert (old.number, old.serving, old.better, old.pins, old.overlap, old.kept) == (1, False, 50, 100, None, None)
    assert (new.number, new.serving, new.overlap, new.kept) == (2, True, 50, 75)
    better, kept = history.dots([old, new], "better"), history.dots([old, new], "kept")
    assert [dot.x for dot in better] == [history.EDGE, history.WIDTH - history.EDGE]
    assert [dot.x for dot in kept] == [history.WIDTH - history.EDGE], "the same version stands at the same place"
    assert better[0].y == history.HEIGHT / 2
