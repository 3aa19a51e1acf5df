"""The recipe of a run: what the project usually asks, a class of run over it, and over both what a person typed."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import groupby
from typing import Any, Literal, get_args, get_origin

from pydantic import BaseModel, ValidationError, create_model
from pydantic.fields import FieldInfo

from curator.errors import Invalid
from db.models import Base, Json, Project, Run
from trainer.flags import shown
from trainer.recipe import (
    GIVEN,
    BaseRef,
    Flat,
    Setting,
    TrainSpec,
    flat,
    nested,
    over,
    settings,
    with_preset,
)

BY_CHOICE = ("method", "continues")  # follow from the dataset and the version a person chooses
TYPED = [setting for setting in settings() if setting.name not in BY_CHOICE]
CLASSES = ("", "quick")  # of run: as usual, and a few minutes to see whether it goes the right way


@dataclass(frozen=True)
class RecipeField:
    """One parameter in a form: `usual` is what the project uses when it is left empty, `options` what can be chosen."""

    name: str
    label: str
    hint: str
    usual: str
    options: tuple[str, ...]


def _absent(field: FieldInfo) -> tuple[Any, Any]:  # Any: a type, as pydantic takes it
    """Answer a parameter as a form has it: the same rules, and it may be left empty."""
    return field.annotation | None, FieldInfo.merge_field_infos(field, default=None, default_factory=None)  # type: ignore[operator]


Typed: type[BaseModel] = create_model("Typed", **{setting.name: _absent(setting.field) for setting in TYPED})  # type: ignore[call-overload]


def fields(project: Project) -> list[tuple[str, list[RecipeField]]]:
    """List the parameters by group, with the trainer's sentence about each and the project's usual value."""
    usual = _usual(project)
    return [
        (group, [_field(setting, usual) for setting in members])
        for group, members in groupby(TYPED, lambda setting: setting.group)
    ]


def settled(project: Project, base: Base, kind: str, chosen: Flat, preset: str = "") -> TrainSpec:
    """Answer what a run on a dataset of a kind is asked; raises Invalid for a recipe that cannot be.

    A dataset of preferences is learnt with dpo unless kto is chosen, at its own pace: at that of approved answers it
    ends in loops.
    """
    below = _usual(project)
    if kind == "preference":
        below = over(below, {"method": "dpo"})
    if preset:
        below = with_preset(below, preset)
    values = over(below, flat(chosen))
    if kind == "sft" and values.get("method", "sft") != "sft":
        raise Invalid(
            "Among approved answers there is nothing to prefer or to reject. Choose a dataset of preferences, or leave "
            "the way of learning as usual."
        )
    if unknown := sorted({*values, *chosen} - {"lora", *(setting.name for setting in settings())}):
        raise Invalid("A recipe has no field %(field)s. Remove it.", field=", ".join(unknown))
    try:
        return TrainSpec.model_validate(nested(values) | {"run": "", "base": _reference(base)})
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(str(part) for part in first["loc"])
        problem = first["msg"]
        raise Invalid("The recipe's %(field)s cannot be used: %(problem)s.", field=where, problem=problem) from error


def kept(spec: TrainSpec) -> Json:
    """Answer what a run's row keeps of its spec; the rest is known from elsewhere."""
    return spec.model_dump(mode="json", exclude={*GIVEN})


def of(run: Run, base: Base) -> TrainSpec:
    """Answer what a run was asked."""
    return TrainSpec.model_validate(run.spec | {"run": "", "base": _reference(base)})


def _usual(project: Project) -> Flat:
    return {"seed": project.seed} | flat(project.recipe)


def _reference(base: Base) -> BaseRef:
    return BaseRef(name=base.name, gguf=base.path, sha256=base.sha256, folder=base.folder)


def _field(setting: Setting, usual: Flat) -> RecipeField:
    value = shown(usual.get(setting.name, setting.usual))
    kind = setting.field.annotation
    options = get_args(kind) if get_origin(kind) is Literal else ("true", "false") if kind is bool else ()
    return RecipeField(setting.name, setting.label, setting.sentence, "" if value == "none" else value, options)
