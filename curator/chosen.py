"""A choice of records as an address says it, and in words: the state, signals and filters by name, a chip for each."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from babel import Locale, UnknownLocaleError
from flask import request, url_for
from flask_babel import format_date, get_locale, gettext
from flask_babel import lazy_gettext as _

from curator import web
from curator.security import project
from curator.services import assignment, sources
from curator.services.choice import Choice, Reading, read

STATES = {
    "new": _("To review"),
    "accepted": _("Accepted"),
    "rejected": _("Rejected"),
    "unsure": _("Waiting for a lead"),
}
SIGNALS = {
    "down": _("Thumbs down"),
    "up": _("Thumbs up"),
    "refusal": _("Refused to answer"),
    "truncated": _("Cut short by the log"),
    "control": _("Control signs of a chat template"),
}
ORDERS = {
    "": _("doubtful first"),
    "thumbs": _("complaints first"),
    "weak": _("weak passages first"),
    "refusal": _("refusals first"),
    "asked": _("often asked first"),
    "oldest": _("oldest first"),
    "newest": _("newest first"),
}
FIELDS = {  # what a part of an address is called where it made no sense
    "state": _("state"),
    "signal": _("signal"),
    "language": _("language"),
    "source": _("log"),
    "since": _("from"),
    "until": _("to"),
    "shortest": _("shortest"),
    "longest": _("longest"),
    "reviewer": _("reviewer"),
    "twins": _("near-duplicates"),
    "personal": _("personal data"),
    "edited": _("corrected"),
    "gold": _("measure"),
    "assigned": _("asked of"),
    "rating": _("rating"),
    "q": _("search"),
    "order": _("order"),
}
LONGEST_SOURCE = 40


@dataclass(frozen=True)
class Chip:
    """One filter in words, and the choice that is left without it."""

    words: str
    rest: Choice


@dataclass(frozen=True)
class Names:
    """What logs and people are called, by id; an id that is not here is said as a number."""

    sources: Mapping[int, str]
    people: Mapping[int, str]


def asked() -> Reading:
    """Read the choice of the request's address."""
    return read(request.args.to_dict(flat=False))


def address(endpoint: str, choice: Choice, **values: Any) -> str:  # url_for's own parameters
    """Answer the address of a page for a choice."""
    said: dict[str, Any] = choice.args()  # url_for names parameters of its own, whose types these are not
    return url_for(endpoint, **values, **said)


def names() -> Names:
    """Answer what the logs and the people of this project are called."""
    logs, people = sources.recent(web.session(), project()), assignment.people(web.session(), project())
    return Names({log.id or 0: log.name for log in logs}, {person.id or 0: person.name for person in people})


def chips(choice: Choice, names: Names) -> list[Chip]:
    """Say a choice filter by filter, its state and order left out, which a page shows otherwise."""
    return [Chip(words, choice.without(*field)) for words, *field in _said(choice, names)]


def words(choice: Choice, names: Names) -> str:
    """Say a choice in one line: Thumbs down · Chinese · from Sample log."""
    state = [str(STATES[choice.state])] if choice.state else []
    order = [str(ORDERS[choice.order])] if choice.order in ORDERS and choice.order else []
    return " · ".join([*state, *(chip.words for chip in chips(choice, names)), *order]) or gettext("All records")


def ignored(fields: list[str]) -> str:
    """Name the parts of an address that made no sense."""
    return ", ".join(str(FIELDS[field]) for field in fields)


def language_name(code: str) -> str:
    """Say a language in the page's language: zh → Chinese; a code nobody knows stays as it is."""
    try:
        return Locale.parse(code, sep="-").get_display_name(get_locale()) or code
    except (ValueError, UnknownLocaleError):
        return code


def _said(choice: Choice, names: Names) -> Iterator[tuple[str, ...]]:
    """Say each filter that is set, with what Choice.without needs to remove it."""
    for signal in choice.signal:
        yield str(SIGNALS[signal]), "signal", signal
    if choice.q:
        yield gettext("“%(text)s”", text=choice.q), "q"
    if choice.language:
        yield language_name(choice.language), "language"
    if choice.source is not None:
        name = names.sources.get(choice.source) or gettext("log %(number)s", number=choice.source)
        yield gettext("from %(source)s", source=name[:LONGEST_SOURCE]), "source"
    if choice.since is not None:
        yield gettext("since %(day)s", day=format_date(choice.since)), "since"
    if choice.until is not None:
        yield gettext("until %(day)s", day=format_date(choice.until)), "until"
    if choice.shortest is not None:
        yield gettext("at least %(count)s characters", count=choice.shortest), "shortest"
    if choice.longest is not None:
        yield gettext("at most %(count)s characters", count=choice.longest), "longest"
    if choice.rating is not None:
        yield gettext("rated %(number)s or worse", number=choice.rating), "rating"
    if choice.reviewer is not None:
        yield gettext("reviewed by %(name)s", name=_person(choice.reviewer, names)), "reviewer"
    if choice.twins:
        said = (
            gettext("has near-duplicates")
            if choice.twins == "any"
            else gettext("near-duplicates of %(id)s", id=choice.twins)
        )
        yield said, "twins"
    for field, said in (
        ("personal", gettext("holds personal data")),
        ("edited", gettext("corrected")),
        ("gold", gettext("reviewers are measured by it")),
    ):
        if getattr(choice, field):
            yield said, field
    if choice.assigned:
        yield _assigned(choice.assigned, names), "assigned"


def _assigned(to: str | int, names: Names) -> str:
    if isinstance(to, int):
        return gettext("asked of %(name)s", name=_person(to, names))
    return gettext("asked of me") if to == "me" else gettext("asked of nobody")


def _person(user_id: int, names: Names) -> str:
    return names.people.get(user_id) or gettext("somebody who left")
