"""What templates say about values: times, counts, languages."""

from __future__ import annotations

import hashlib
from datetime import datetime

from flask import Flask
from flask_babel import format_datetime, format_decimal, get_locale, gettext, ngettext

from curator import told
from db.models import Json, utc_now


def ago(moment: datetime | None) -> str:
    """Say how long ago something was, in the words of the page's language."""
    if moment is None:
        return ""
    seconds = int((utc_now() - moment).total_seconds())
    if seconds < 60:
        return gettext("just now")
    if seconds < 3600:
        return ngettext("%(num)d minute ago", "%(num)d minutes ago", seconds // 60)
    if seconds < 86400:
        return ngettext("%(num)d hour ago", "%(num)d hours ago", seconds // 3600)
    return day(moment)


def day(moment: datetime | None) -> str:
    """Write a date the way the page's language does."""
    return format_datetime(moment, "d MMM y" if str(get_locale()) == "en" else "y年M月d日") if moment else ""


def lasting(seconds: float | None) -> str:
    """Say a length of time roughly: 40 s, 12 min, 2 h 5 min."""
    if seconds is None:
        return "–"
    whole = round(seconds)
    if whole < 60:
        return gettext("%(count)d s", count=whole)
    if whole < 3600:
        return gettext("%(count)d min", count=round(whole / 60))
    return gettext("%(hours)d h %(minutes)d min", hours=whole // 3600, minutes=whole % 3600 // 60)


def count(number: float | None) -> str:
    """Write a number with the separators of the page's language."""
    return "–" if number is None else format_decimal(number)


def size(octets: int) -> str:
    """Write a file size in the unit that reads best."""
    value = float(octets)
    for unit in ("B", "kB", "MB"):
        if value < 1000:
            return f"{value:.0f} {unit}"
        value /= 1000
    return f"{value:.1f} GB"


def said(sentence: str) -> str:
    """Put a sentence, or several, that a service stored into the page's language, where the catalogue has it.

    Not `_()` in a template: that marks what it answers as safe HTML and reads a `%` in it as a placeholder.
    """
    words = list[str]()
    for known, figures in told.sentences(sentence):
        figures = figures | {name: said(figures[name]) for name in ("reason", "material") if name in figures}
        words.append(gettext(known, **figures) if figures else gettext(known))
    return ("" if str(get_locale()).startswith("zh") else " ").join(words)


def fingerprint(text: str) -> str:
    """Name a text by its content, so that a browser can tell whether it is the one it knows."""
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def reason_name(reason: Json) -> str:
    """Answer a reason's name in the page's language."""
    return str(reason.get("zh" if str(get_locale()).startswith("zh") else "en") or reason["key"])


def install(app: Flask) -> None:
    """Give templates these filters."""
    for filter_ in (ago, day, lasting, count, size, said, fingerprint, reason_name):
        app.add_template_filter(filter_)
