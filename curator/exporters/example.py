"""What exporters are given: trainer.spec.Example for sft snapshots, PreferenceExample for preference ones."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from pydantic import Field

from trainer.recipe import Frozen
from trainer.spec import Example, Message, Split


class PreferenceExample(Frozen):
    """A prompt with the answer people preferred and the one they did not."""

    id: str
    group: str
    prompt: list[Message] = Field(min_length=1)
    chosen: str
    rejected: str


Splits = Mapping[Split, Iterable[Example] | Iterable[PreferenceExample]]
