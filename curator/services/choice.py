"""Which records are meant: one value for the list, the queue, saved views, batches and assignment.

What an address says is read leniently, field by field, into a fixed set of filters; no name of a column ever comes
from outside.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from datetime import date, datetime, time, timedelta
from typing import Annotated, Any, Literal, NamedTuple, get_args

from pydantic import BaseModel, BeforeValidator, Field, ValidationError
from sqlalchemy import ColumnElement, Text, case, cast, literal_column, true
from sqlmodel import col, func

from curator.services.opinions import judged_by
from db.models import Record, RecordState

Signal = Literal["down", "up", "refusal", "truncated", "control"]
Order = Literal["doubt", "thumbs", "weak", "refusal", "asked", "oldest", "newest"]
STATES: tuple[RecordState, ...] = get_args(RecordState)
SIGNALS: tuple[Signal, ...] = get_args(Signal)
ORDERS: tuple[Order, ...] = get_args(Order)
HIGHEST = 2**31 - 1  # what PostgreSQL can compare an id with; an address may say more
LONGEST_SEARCH = 200
LANGUAGE = r"^([A-Za-z]{2,3}([-_][A-Za-z0-9]{2,8}){0,3})?$"
FIRST_YEAR, LAST_YEAR = 1970, 2199


def _day(value: object) -> object:
    """Read a day as 2026-03-05 only; pydantic alone would take any number for a time."""
    if isinstance(value, str):
        if not re.fullmatch(r"\d{4}-\d{2}-\d{2}", value, re.ASCII):
            raise ValueError("not a day")
        value = date.fromisoformat(value)
    if isinstance(value, date) and not FIRST_YEAR <= value.year <= LAST_YEAR:
        raise ValueError("not a day of this age")
    return value


def _clean(value: object) -> object:
    return " ".join(value.replace("\0", " ").split()) if isinstance(value, str) else value


Id = Annotated[int, Field(ge=1, le=HIGHEST)]
Length = Annotated[int, Field(ge=0, le=HIGHEST)]
Day = Annotated[date, BeforeValidator(_day)]


class Choice(BaseModel, frozen=True):
    """The records that are meant, and their order. A field that says nothing leaves nothing out.

    Days are those of the machine's own time zone, and mean when the exchange happened or, where the log does not say,
    when it was imported. `assigned` and `twins` are a word or an id: of a person, of a group of near-duplicates.
    """

    state: RecordState | Literal[""] = ""
    signal: tuple[Signal, ...] = ()
    language: str = Field(default="", max_length=20, pattern=LANGUAGE)
    source: Id | None = None
    since: Day | None = None
    until: Day | None = None
    shortest: Length | None = None  # characters of question and answer
    longest: Length | None = None
    reviewer: Id | None = None  # has an opinion on it that was not taken back
    twins: Literal["", "any"] | Id = ""
    personal: bool = False
    edited: bool = False
    gold: bool = False
    assigned: Literal["", "me", "nobody"] | Id = ""
    rating: int | None = Field(default=None, ge=1, le=5)  # this or worse
    q: Annotated[str, BeforeValidator(_clean)] = Field(default="", max_length=LONGEST_SEARCH)
    order: Order | Literal[""] = ""

    @property
    def queue_order(self) -> Order:
        """Answer the order in which the desk hands records out."""
        return self.order or "doubt"

    @property
    def is_empty(self) -> bool:
        """Tell whether it leaves nothing out, whatever its order."""
        return not self.without("order").args()

    def args(self) -> dict[str, str | list[str]]:
        """Answer the shortest words that say this choice in an address."""
        said: dict[str, str | list[str]] = {}
        for name, field in type(self).model_fields.items():
            value = getattr(self, name)
            if value != field.default:
                said[name] = list(value) if name == "signal" else "1" if value is True else str(value)
        return said

    def desk_args(self) -> dict[str, str | list[str]]:
        """Answer the same for the desk, where saying nothing means: go on with what I chose last."""
        return self.at_desk().args() or {"order": "doubt"}

    def at_desk(self) -> Choice:
        """Answer this choice as the desk takes it: only what waits is there, and a search comes newest first."""
        return self.model_copy(update={"state": "", "order": "newest" if self.q else self.order})

    def without(self, name: str, value: str = "") -> Choice:
        """Answer this choice without one of its fields, or without one of its signals."""
        left = tuple(signal for signal in self.signal if signal != value) if name == "signal" and value else ()
        return self.model_copy(update={name: left if name == "signal" else type(self).model_fields[name].default})

    def with_state(self, state: RecordState) -> Choice:
        """Answer those of this choice that are in a state."""
        return self.model_copy(update={"state": state})

    def facets(self) -> list[ColumnElement[bool]]:
        """Answer the conditions on what a record is: all filters but state, assignment and search."""
        found: list[ColumnElement[bool]] = [_SIGNALS[signal] for signal in self.signal]
        when = func.coalesce(Record.happened_at, Record.created_at)
        if self.language:
            found.append(col(Record.language) == self.language)
        if self.source is not None:
            found.append(col(Record.source_id) == self.source)
        if self.shortest is not None:
            found.append(col(Record.length) >= self.shortest)
        if self.longest is not None:
            found.append(col(Record.length) <= self.longest)
        if self.twins:
            group = col(Record.cluster_id)
            found.append(group.is_not(None) if self.twins == "any" else group == self.twins)
        if self.personal:
            found.append(func.coalesce(Record.personal, "") != "")
        if self.edited:
            found.append(col(Record.edited) == true())
        if self.gold:
            found.append(col(Record.gold) == true())
        if self.rating is not None:
            found.append(col(Record.rating) <= self.rating)
        if self.since is not None:
            found.append(when >= _midnight(self.since))
        if self.until is not None:
            found.append(when < _midnight(self.until + timedelta(days=1)))
        if self.reviewer is not None:
            found.append(judged_by(self.reviewer))
        return found

    def conditions(self, user_id: int) -> list[ColumnElement[bool]]:
        """Answer what the database is asked for on behalf of this person; the search is joined in by its user."""
        found = self.facets()
        if self.state == "new":
            found.append(waits())
        elif self.state:
            found.append(col(Record.state) == self.state)
        if self.assigned == "nobody":
            found.append(col(Record.assigned_to).is_(None))
        elif self.assigned:
            found.append(col(Record.assigned_to) == (user_id if self.assigned == "me" else self.assigned))
        return found


ALL = Choice()


class Reading(NamedTuple):
    """A choice as read from an address, and the fields whose values made no sense and were left out."""

    choice: Choice
    ignored: list[str]


def read(args: Mapping[str, str | Sequence[str]]) -> Reading:
    """Read what an address or a saved view says; unknown names count for nothing, nonsense is left out and named."""
    values: dict[str, Any] = {}  # raw values, validated below
    ignored: list[str] = []
    for name in Choice.model_fields:
        given = [args[name]] if isinstance(args.get(name), str) else list(args.get(name, ()))
        said = [value for value in given if value != ""]
        if name == "signal":
            values[name] = tuple(signal for signal in SIGNALS if signal in said)
            ignored += [name] if set(said) - set(SIGNALS) else []
        elif said:
            values[name] = said[-1]
    try:
        return Reading(Choice.model_validate(values), ignored)
    except ValidationError as error:
        broken = dict.fromkeys(str(problem["loc"][0]) for problem in error.errors())
        sound = {name: value for name, value in values.items() if name not in broken}
        return Reading(Choice.model_validate(sound), [*ignored, *broken])


def waits() -> ColumnElement[bool]:
    """Answer the condition that a record waits; written out, since a bound value would not find the partial index."""
    return col(Record.state) == literal_column("'new'")


def _midnight(day: date) -> datetime:
    return datetime.combine(day, time()).astimezone()


def _flag(name: str) -> ColumnElement[bool]:
    """Tell whether a signal of the log is true; SQLite answers 1 and PostgreSQL the word."""
    said = cast(col(Record.signals)[name].as_string(), Text)
    return case((said.in_(("1", "true")), True), else_=False) == true()


_SIGNALS: dict[Signal, ColumnElement[bool]] = {
    "down": col(Record.thumbs) == -1,
    "up": col(Record.thumbs) == 1,
    "refusal": col(Record.refusal) == true(),
    "truncated": _flag("truncated"),
    "control": _flag("control_tokens"),
}
