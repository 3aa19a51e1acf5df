"""What exporters are given: trainer.spec.Example for sft snapshots, pairs and judgements for preference ones."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from pydantic import Field

from trainer.recipe import Frozen
from trainer.spec import Example, Message


class PreferenceExample(Frozen):
    """A prompt with the answer people preferred and the one they did not."""

    id: str
    group: str
    prompt: list[Message] = Field(min_length=1)
    chosen: str
    rejected: str


class Judgement(Frozen):
    """A prompt with one answer, and whether people found it good."""

    id: str
    group: str
    prompt: list[Message] = Field(min_length=1)
    answer: str
    good: bool


Splits = Mapping[str, Iterable[Example] | Iterable[PreferenceExample] | Iterable[Judgement]]
"""Examples by the end of their file's name: a split, or kto_ and a split for judgements. A file holds one kind."""
