"""The few numbers of a training run that a person may want to change, as the trainer's own contract describes them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from pydantic.fields import FieldInfo

from db.models import Json, Project
from trainer.recipe import LoraSpec, TrainSpec


@dataclass(frozen=True)
class RecipeField:
    """One number: `usual` is what the project uses when the field is left empty."""

    name: str
    hint: str
    usual: str


CHANGEABLE = ("epochs", "learning_rate", "batch_size", "max_steps", "max_length", "seed")


def fields(project: Project) -> list[RecipeField]:
    """List the changeable numbers with the trainer's sentence about each and the project's usual value."""
    usual: Json = {"seed": project.seed} | project.recipe
    found = [_field(name, TrainSpec.model_fields[name], usual) for name in CHANGEABLE]
    return [*found, _field("rank", LoraSpec.model_fields["rank"], usual.get("lora", {}))]


def overrides(project: Project, given: Json) -> Json:
    """Answer TrainSpec fields for one run from what was typed; what is None stays as usual.

    The scale follows the rank, so that a smaller adapter does not learn more timidly.
    """
    chosen: Json = {name: value for name, value in given.items() if value is not None}
    rank = chosen.pop("rank", None)
    if rank is not None:
        chosen["lora"] = {**project.recipe.get("lora", {}), "rank": rank, "alpha": 2 * rank}
    return chosen


def _field(name: str, info: FieldInfo, usual: Json) -> RecipeField:
    value: Any = usual.get(name, info.default)  # a number of the recipe, or None
    return RecipeField(name, info.description or "", "" if value is None else f"{value:g}")
