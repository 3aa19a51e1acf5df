"""Say in plain words what is wrong with a field of a form; pydantic's own words are a programmer's."""

from __future__ import annotations

from typing import Any

from flask_babel import gettext, ngettext
from pydantic import ValidationError

from curator.words import FORM_FIELDS, N_, RECIPE_FIELDS

NOT_A_NUMBER = ("int_parsing", "int_type", "int_from_float", "float_parsing", "float_type", "finite_number")
NOT_OFFERED = ("literal_error", "string_pattern_mismatch", "bool_parsing", "bool_type", "enum")
LIMITS = {
    "greater_than": ("gt", N_("it must be more than %(limit)s")),
    "greater_than_equal": ("ge", N_("it must be at least %(limit)s")),
    "less_than": ("lt", N_("it must be less than %(limit)s")),
    "less_than_equal": ("le", N_("it must be at most %(limit)s")),
}


def first_problem(error: ValidationError) -> tuple[str, str]:
    """Answer the field of the first problem, as people call it, and the problem, in the page's language."""
    first = error.errors()[0]
    name = str(first["loc"][0]) if first["loc"] else ""
    words = FORM_FIELDS | RECIPE_FIELDS
    return words.get(name, name.replace("_", " ")), _problem(first["type"], first.get("ctx") or {}, first["msg"])


def _problem(kind: str, limits: dict[str, Any], else_: str) -> str:  # limits: pydantic's own, by kind
    if kind in ("missing", "too_short") or (kind == "string_too_short" and limits["min_length"] == 1):
        return gettext("it is missing")
    if kind == "string_too_long":
        count = limits["max_length"]
        return ngettext("it is longer than %(num)d character", "it is longer than %(num)d characters", count)
    if kind == "string_too_short":
        count = limits["min_length"]
        return ngettext("it is shorter than %(num)d character", "it is shorter than %(num)d characters", count)
    if kind in LIMITS:
        name, sentence = LIMITS[kind]
        return gettext(sentence, limit=f"{limits[name]:g}")
    if kind in NOT_A_NUMBER:
        return gettext("it is not a number")
    if kind in NOT_OFFERED:
        return gettext("it is not one of the choices")
    if kind.startswith("datetime_"):
        return gettext("it is not a date and time")
    return else_
