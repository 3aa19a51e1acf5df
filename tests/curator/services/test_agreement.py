"""Agreement: the published figures, the interval, what is left out, what it means."""

from __future__ import annotations

import time
from collections import Counter

import krippendorff
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sqlmodel import Session

from curator.services import agreement
from curator.services.agreement import measure
from db.models import Project, Retraction, Review
from tests.factories import make_record

# Krippendorff, "Computing Krippendorff's Alpha-Reliability" (2011), example C: 4 observers, 12 units, 5 values;
# he gives 0.743 for names, 0.815 for ranks. One column a unit, 0 where an observer said nothing.
PUBLISHED = [
    [1, 2, 3, 3, 2, 1, 4, 1, 2, 0, 0, 0],
    [1, 2, 3, 3, 2, 2, 4, 1, 2, 5, 0, 3],
    [0, 3, 3, 3, 2, 3, 4, 2, 2, 5, 1, 0],
    [1, 2, 3, 3, 2, 4, 4, 1, 2, 5, 1, 0],
]
UNITS = [Counter(value for value in unit if value) for unit in zip(*PUBLISHED, strict=True)]


@pytest.mark.parametrize(("level", "alpha"), [("nominal", 0.743), ("ordinal", 0.815)])
def test_the_published_example_comes_out(level, alpha):
    found = measure(UNITS, (1, 2, 3, 4, 5), level)

    assert found.alpha == pytest.approx(alpha, abs=0.0006)
    assert found.records == 11  # the twelfth was judged once and says nothing
    assert found.low < found.alpha < found.high
    assert found.meaning == "few"


def test_two_people_who_agree_on_half_by_hand():
    """Observed disagreement 10/20; 20 accepts and 20 rejects expect 2 * 20 * 20 / 39 of 40: alpha is 1 - 0.5/0.5128."""
    judged = [Counter(accept=2)] * 5 + [Counter(reject=2)] * 5 + [Counter(accept=1, reject=1)] * 10

    found = measure(judged, ("accept", "reject", "unsure"), "nominal")

    assert found.alpha == pytest.approx(1 - 0.5 / (2 * 20 * 20 / 39 / 40))
    assert (found.records, found.meaning) == (20, "few")  # the interval is too wide to say more


@pytest.mark.parametrize(
    ("judged", "meaning"),
    [
        ([], "few"),
        ([Counter(accept=1)] * 50, "few"),
        ([Counter(accept=2)] * 50, "alike"),
        ([Counter(accept=2)] * 3, "few"),
        ([Counter(accept=2)] * 30 + [Counter(reject=2)] * 30 + [Counter(accept=1, reject=1)] * 2, "good"),
        ([Counter(accept=2)] * 30 + [Counter(reject=2)] * 30 + [Counter(accept=1, reject=1)] * 8, "fair"),
        ([Counter(accept=1, reject=1)] * 30, "poor"),
    ],
)
def test_a_plain_word_says_what_it_means(judged, meaning):
    assert measure(judged, ("accept", "reject"), "nominal").meaning == meaning


def test_the_interval_is_the_same_each_time_and_quick():
    table = [Counter(accept=2)] * 1200 + [Counter(reject=2)] * 500 + [Counter(accept=1, reject=2)] * 300
    measure(table, ("accept", "reject"), "nominal")
    started = time.perf_counter()

    first, second = (measure(table, ("accept", "reject"), "nominal") for _ in range(2))

    assert first == second and first.high - first.low < 0.1
    assert (time.perf_counter() - started) / 2 < 0.5


@settings(max_examples=40, deadline=None)
@given(
    rows=st.lists(st.lists(st.integers(0, 2), min_size=4, max_size=4), min_size=2, max_size=9),
    level=st.sampled_from(["nominal", "ordinal"]),
)
def test_a_resample_of_everything_once_is_the_packages_alpha(rows, level):
    table = np.array([row for row in rows if sum(row) > 1], dtype=float)
    if len(table) < 1 or np.count_nonzero(table.sum(axis=0)) < 2:
        return
    once = agreement.resampled(np.repeat(table, 1, axis=0), level, 200)
    known = {round(float(value), 9) for value in once if not np.isnan(value)}
    drawn = np.random.default_rng(agreement.SEED)
    unique, weights = np.unique(table, axis=0, return_counts=True)
    first = np.repeat(unique, drawn.multinomial(weights.sum(), weights / weights.sum(), size=200)[0], axis=0)

    if np.count_nonzero(first.sum(axis=0)) > 1:
        wanted = krippendorff.alpha(value_counts=first, level_of_measurement=level)
        assert round(float(once[0]), 6) == round(float(wanted), 6)
    assert all(value <= 1 + 1e-9 for value in known)


def test_what_counts_is_each_persons_newest_opinion_that_stands(session: Session, project: Project, make_user):
    people = [make_user(name) for name in ("noor", "lin", "kim")]
    numbers = iter(range(1000))

    def says(record, person, verdict, **fields):
        review = Review(
            record_id=record.id, user_id=person.id, request_id=f"r{next(numbers)}", verdict=verdict,
            record_version=1, **fields,
        )  # fmt: skip
        session.add(review)
        session.flush()
        return review

    for number in range(24):
        record = make_record(session, project)
        verdict = "accept" if number % 2 else "reject"
        says(record, people[0], "unsure")  # they changed their mind
        says(record, people[0], verdict, rating=3)
        says(record, people[1], verdict, rating=3 + number % 2)
        says(record, people[2], "skip")
        says(record, people[2], "unsure", adjudication=True)
        gone = says(record, people[2], "unsure")
        session.add(Retraction(review_id=gone.id, user_id=people[2].id))
    alone = make_record(session, project)
    says(alone, people[0], "accept")

    found = agreement.of(session, project)

    assert (found.verdict.alpha, found.verdict.records, found.verdict.meaning) == (1.0, 24, "good")
    assert found.rating.records == 24 and found.rating.meaning == "poor"


def test_a_project_without_reviews_has_too_few_to_tell(session: Session, project: Project):
    found = agreement.of(session, project)

    assert (found.verdict.meaning, found.rating.meaning, found.verdict.alpha) == ("few", "few", None)
