"""What every importer yields: a draft of a record, or a line it skipped and why."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import datetime
from typing import Any


@dataclass(frozen=True)
class PassageDraft:
    """One retrieved chunk, in the order the assistant read them."""

    text: str
    document: str = ""
    score: float | None = None


@dataclass(frozen=True)
class RecordDraft:
    """One exchange as the log tells it. `line` is where it stands in the file, 1 for the first."""

    line: int
    question: str
    answer: str
    turns: tuple[dict[str, str], ...] = ()  # earlier turns: {"role": "user" | "assistant", "content"}
    system: str = ""
    passages: tuple[PassageDraft, ...] = ()
    reference: str = ""
    signals: dict[str, Any] = field(default_factory=dict)  # plain JSON, keys as in db.models.Record
    conversation: str = ""
    external_id: str = ""
    happened_at: datetime | None = None
    language: str = ""


@dataclass(frozen=True)
class Skipped:
    """A line that could not become a record, with the reason in a sentence."""

    line: int
    reason: str
