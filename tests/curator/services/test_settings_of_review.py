"""What a lead sets about reviewing: guidelines with their versions, reasons on their keys."""

from __future__ import annotations

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from sqlmodel import Session

from curator.errors import Invalid
from curator.services import guidelines, reasons
from curator.services.reasons import Row
from db.models import Project


def rows_of(project: Project) -> list[Row]:
    return [Row(r["key"], place, r["en"], r["zh"]) for place, r in enumerate(project.reasons, 1)]


def test_ten_reasons_or_a_long_name_are_refused(project: Project):
    with pytest.raises(Invalid, match="9 reasons"):
        reasons.edited(project, [Row("", n, f"Reason {n}", "") for n in range(10)])
    with pytest.raises(Invalid, match="60 characters"):
        reasons.edited(project, [Row("", 1, "x" * 61, "")])


def test_a_renamed_reason_keeps_its_key_and_a_new_one_gets_a_free_one(project: Project):
    rows = rows_of(project)
    changed = [
        rows[0]._replace(en="Old news"),
        Row("", 2, "Stale!", "  "),
        Row("forged", 3, "", "新理由"),
        Row("", 4, " ", ""),
    ]

    found = reasons.edited(project, changed)

    assert found == [
        {"key": "stale", "en": "Old news", "zh": "信息过时"},
        {"key": "stale_2", "en": "Stale!", "zh": "Stale!"},
        {"key": "reason", "en": "新理由", "zh": "新理由"},
    ]


def test_places_are_the_order_of_the_keys(project: Project):
    rows = rows_of(project)
    swapped = [rows[0]._replace(place=2), rows[1]._replace(place=1), *rows[2:]]

    assert [reason["key"] for reason in reasons.edited(project, swapped)][:3] == [
        "unsupported",
        "stale",
        "wrong_passage",
    ]


names = st.text("a 日\n", max_size=5)


@settings(max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    rows=st.lists(
        st.builds(Row, st.sampled_from(["", "stale", "too_long", "x"]), st.integers(-9, 99), names, names), max_size=9
    )
)
def test_whatever_is_typed_keys_stay_different_and_names_are_there(project: Project, rows: list[Row]):
    found = reasons.edited(project, rows)

    assert len({reason["key"] for reason in found}) == len(found) <= 9
    assert all(reason["key"] and reason["en"].strip() and reason["zh"].strip() for reason in found)


def test_guidelines_keep_their_versions(session: Session, project: Project, make_user):
    lea = make_user("lea", "lead")
    project.guidelines = "Be kind."  # as the sample project writes them
    session.add(project)

    assert not guidelines.change(session, project, "Be kind.", lea)
    assert guidelines.history(session, project) == []
    assert guidelines.change(session, project, "Be kind. Always.", lea)
    assert guidelines.change(session, project, "", None)

    versions = guidelines.history(session, project)
    assert [(one.number, one.guideline.text, one.name) for one in versions] == [
        (3, "", ""), (2, "Be kind. Always.", "Lea"), (1, "Be kind.", ""),
    ]  # fmt: skip
    assert project.guidelines == ""


def test_two_versions_are_compared_and_missing_ones_are_the_newest_two(session: Session, project: Project, make_user):
    lea = make_user("lea", "lead")
    assert guidelines.compared([], 1, 2) == (None, None)
    for text in ("One.", "Two.", "Three."):
        guidelines.change(session, project, text, lea)
    versions = guidelines.history(session, project)

    def numbers(old: int, new: int) -> list[int | None]:
        return [one and one.number for one in guidelines.compared(versions, old, new)]

    assert numbers(1, 3) == [1, 3] and numbers(0, 0) == [2, 3] and numbers(99, 99) == [2, 3]
    assert numbers(0, 1) == [None, 1]
