"""The command line of `python -m trainer`: every parameter of a recipe is a flag, and the folder keeps what was asked.

Imports no torch, so that --help answers at once.
"""

from __future__ import annotations

import argparse
from difflib import get_close_matches
from pathlib import Path
from typing import Any, NoReturn

import yaml
from pydantic import ValidationError

from trainer.bases import describe
from trainer.failures import TrainerFailure
from trainer.gguf_summary import BadGguf
from trainer.recipe import GIVEN, PRESETS, BaseRef, Flat, Setting, TrainSpec, flat, nested, over, settings, with_preset
from trainer.rundir import RunDir, write_model
from trainer.spec import Stage

STAGES: tuple[Stage, ...] = ("plan", "train", "convert", "evaluate")
NAMES = [setting.name for setting in settings()]
EPILOG = """Flags win over --config, that over --preset, and that over spec.json in the run folder. What comes of it is
checked and written to spec.json before anything starts, so that a run can be repeated from its folder alone."""


class Misuse(Exception):  # noqa: N818 - named as people say it; the text is a full sentence
    """The command line asks for what cannot be."""


class _Parser(argparse.ArgumentParser):
    def error(self, message: str) -> NoReturn:
        self.exit(2, f"{message[:1].upper()}{message[1:]}. See python -m trainer --help.\n")


def parser() -> argparse.ArgumentParser:
    """Make the parser: what to do, where, and a flag for each parameter with its sentence and its usual value."""
    found = _Parser(
        prog="python -m trainer",
        usage="python -m trainer STAGE RUN_DIR [--config FILE.yaml] [--preset NAME] [--PARAMETER VALUE …]",
        description="Teach a base model from a run folder.",
        epilog=EPILOG,
        allow_abbrev=False,
    )
    found.add_argument(
        "stage",
        choices=[*STAGES, "types", "all", "show", "admit"],
        help="What to do; all does what is still missing, types measures what files of other number types would keep, "
        "show says how to do it by hand, admit tests a base.",
    )
    found.add_argument("run_dir", type=Path, help="The run folder; for admit a folder with base.json.")
    found.add_argument("--config", type=Path, metavar="FILE.yaml", help="A recipe: any of the names below, as YAML.")
    found.add_argument("--preset", choices=list(PRESETS), help="A class of run: minutes, or the usual values.")
    found.add_argument(
        "--base", type=Path, metavar="FILE.gguf", help="The base, for a folder that has examples and no spec.json yet."
    )
    groups: dict[str, Any] = {}  # argparse's own groups, whose class is private
    for setting in settings():
        if setting.group not in groups:
            groups[setting.group] = found.add_argument_group(setting.group)
        groups[setting.group].add_argument(f"--{setting.name}", metavar="VALUE", help=_help(setting), default=None)
    return found


def read(arguments: list[str] | None) -> argparse.Namespace:
    """Read the command line; raises Misuse for a parameter that there is not."""
    asked, rest = parser().parse_known_args(arguments)
    if rest:
        raise Misuse(f"There is no parameter {rest[0]}. {_near(rest[0].lstrip('-').partition('=')[0], '--')}")
    return asked


def prepare(run: RunDir, asked: argparse.Namespace) -> None:
    """Bring a folder's spec.json up to what was asked; raises Misuse with a sentence, before anything has changed."""
    before, after = _spec(run, asked.base), wanted(run, asked)
    if after == before:
        return
    if before and _has_begun(run):
        raise Misuse(
            f"This run has begun with {_difference(before, after)}. Repeat it from a fresh folder with its spec.json "
            "and *.jsonl files, or take the flag away."
        )
    write_model(run.spec_file, after)


def wanted(run: RunDir, asked: argparse.Namespace) -> TrainSpec:
    """Answer the spec that follows from the folder and from what was asked; raises Misuse with a sentence."""
    flags = {name: _value(text) for name in NAMES if (text := getattr(asked, name)) is not None}
    chosen = over(_config(asked.config) if asked.config else {}, flags)
    before = _spec(run, asked.base)
    preset = asked.preset or chosen.get("preset")
    chosen = {name: value for name, value in chosen.items() if name != "preset"}
    if preset is not None and preset not in PRESETS:
        raise Misuse(f"There is no preset {preset}. There are {' and '.join(PRESETS)}.")
    known = {} if before is None else flat(before.model_dump(mode="json"))
    below = with_preset(known, preset) if preset else known
    made = {"run": run.path.name, "base": _base(asked.base)} if before is None else before.model_dump(include={*GIVEN})
    return _validated(over(below, chosen), made)


def _spec(run: RunDir, base: Path | None) -> TrainSpec | None:
    """Answer the folder's spec, None where --base makes one."""
    if not run.spec_file.exists():
        if not run.split_file("train").exists():
            raise Misuse(f"There is no spec.json in {run.path}. Give the path of a run folder.")
        if base is None:
            raise Misuse(f"There is no spec.json in {run.path} yet. Say with --base which GGUF file is taught.")
        return None
    try:
        spec = run.spec()
    except ValidationError as error:
        raise Misuse(f"The spec.json in {run.path} cannot be used: {_problem(error)}.") from None
    if base and _base(base).sha256 != spec.base.sha256:
        raise Misuse(f"{base.name} is not the base this run was made for, {spec.base.name}. Make a fresh run folder.")
    return spec


def _base(path: Path | None) -> BaseRef:
    try:
        file = describe((path or Path()).resolve())
    except (BadGguf, TrainerFailure) as error:
        raise Misuse(str(error)) from None
    except OSError as error:
        raise Misuse(f"The base {path} cannot be read: {error.strerror}.") from None
    return BaseRef(name=file.name, gguf=str(file.path), sha256=file.sha256)


def _config(path: Path) -> Flat:
    """Read a recipe file; adapters are written nested or with a dot."""
    try:
        found = yaml.safe_load(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise Misuse(f"{path} cannot be read: {error.strerror}.") from None
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise Misuse(f"{path.name} is not YAML: {' '.join(str(error).split())}.") from None
    if found is not None and not isinstance(found, dict):
        raise Misuse(f"{path.name} is not a recipe. Write one “name: value” on each line.")
    values = _leaves(found or {})
    for name in values:
        if name not in (*NAMES, "preset"):
            raise Misuse(f"{path.name}: there is no parameter {name}. {_near(name)}")
    return values


def _leaves(found: dict[Any, Any]) -> Flat:
    """Answer a file's values by setting; what a run folder alone says is refused by its name like any other."""
    lora = found.get("lora")
    inner = {f"lora.{name}": value for name, value in lora.items()} if isinstance(lora, dict) else {}
    return {str(name): value for name, value in found.items() if name != "lora" or not inner} | inner


def _value(text: str) -> Any:  # Any: as YAML reads it; validated with the rest
    try:
        return None if text == "none" else yaml.safe_load(text)
    except yaml.YAMLError:
        return text


def _validated(values: Flat, given: Flat) -> TrainSpec:
    try:
        return TrainSpec.model_validate(nested(values) | given)
    except ValidationError as error:
        raise Misuse(f"The recipe cannot be used: {_problem(error)}.") from None


def _problem(error: ValidationError) -> str:
    first = error.errors()[0]
    where = ".".join(str(part) for part in first["loc"])
    return f"{where} is {first['input']!r}, and {first['msg'][:1].lower()}{first['msg'][1:]}"


def _has_begun(run: RunDir) -> bool:
    return (
        run.plan_file.exists() or run.adapter.exists() or (run.checkpoints.exists() and any(run.checkpoints.iterdir()))
    )


def _difference(before: TrainSpec, after: TrainSpec) -> str:
    old, new = (flat(spec.model_dump(mode="json")) for spec in (before, after))
    return "other values: " + ", ".join(
        f"{name} {old[name]}, not {new[name]}" for name in old if old[name] != new[name]
    )


def _near(name: str, dashes: str = "") -> str:
    near = get_close_matches(name.replace("-", "_"), [*NAMES, "preset"], 1)
    return f"Did you mean {dashes}{near[0]}?" if near else "python -m trainer --help lists them."


def _help(setting: Setting) -> str:
    return f"{setting.sentence} (usually {shown(setting.usual)})".replace("%", "%%")


def shown(value: Any) -> str:  # Any: a value of a field
    """Write a value as a flag takes it."""
    if value is None:
        return "none"
    if isinstance(value, tuple):
        return ",".join(value)
    return str(value).lower() if isinstance(value, bool) else str(value)
