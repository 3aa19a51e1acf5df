"""Every parameter is a flag and a YAML key; what comes of them is in spec.json before anything starts."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from tests.trainer.folders import make_run
from trainer.__main__ import MISUSED, main
from trainer.flags import Misuse, parser, prepare, read
from trainer.recipe import GIVEN, LoraSpec, TrainSpec, flat, nested, settings
from trainer.rundir import RunDir, write_model
from trainer.spec import Plan

ROOT = Path(__file__).resolve().parents[2]
PLAN = Plan(
    examples={"train": 1, "val": 0, "test": 0}, too_long=[], answer_tokens=1, total_tokens=2, longest=2,
    histogram=[(2, 1)], steps=1, estimated_seconds=1, end_of_turn="<e>", example=[],
)  # fmt: skip


def asked(run: RunDir, *flags: str) -> TrainSpec:
    prepare(run, read(["all", str(run.path), *flags]))
    return run.spec()


def test_every_parameter_of_a_run_is_a_documented_setting() -> None:
    fields = {*TrainSpec.model_fields, *(f"lora.{name}" for name in LoraSpec.model_fields)} - {"lora", *GIVEN}

    assert {setting.name for setting in settings()} == fields
    assert len(settings()) == len(fields)
    assert [
        setting.name for setting in settings() if not setting.field.title or not setting.sentence.endswith(".")
    ] == []


def test_help_shows_each_flag_with_its_sentence_and_loads_no_torch() -> None:
    code = "import sys; from trainer.flags import parser; parser().format_help(); print('torch' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)  # noqa: S603 - our own words
    words = " ".join(parser().format_help().split())

    assert done.stdout.strip() == "False"
    for setting in settings():
        assert f"--{setting.name} VALUE" in words
        assert setting.sentence in words
    assert "Passes over the training examples. (usually 3.0)" in words


def test_flags_win_over_the_file_and_the_file_over_the_folder(tmp_path: Path) -> None:
    run = make_run(tmp_path, epochs=7.0, batch_size=2, seed=5)
    recipe = tmp_path / "recipe.yaml"
    recipe.write_text("epochs: 5\nlearning_rate: 1e-4\ncheckpointing: on\nlora:\n  dropout: 0\n")

    spec = asked(run, "--config", str(recipe), "--epochs", "2", "--lora.rank", "8", "--overlong", "refuse")

    assert (spec.epochs, spec.learning_rate, spec.batch_size, spec.seed) == (2.0, 1e-4, 2, 5)
    assert (spec.lora.rank, spec.lora.alpha, spec.lora.dropout, spec.checkpointing) == (8, 16, 0.0, "on")
    assert spec.overlong == "refuse"
    assert spec.base == make_run(tmp_path / "other").spec().base


def test_without_a_flag_the_folder_stays_as_it_is(tmp_path: Path) -> None:
    run = make_run(tmp_path)
    before = run.spec_file.stat().st_mtime_ns

    asked(run)

    assert run.spec_file.stat().st_mtime_ns == before


def test_values_are_read_as_yaml_reads_them(tmp_path: Path) -> None:
    run = make_run(tmp_path, max_steps=4)

    spec = asked(run, "--max_steps", "none", "--canaries", "true", "--lora.target_modules", "q_proj, v_proj")

    assert (spec.max_steps, spec.canaries, spec.lora.target_modules) == (None, True, ("q_proj", "v_proj"))


def test_preferences_take_their_own_usual_values_unless_said(tmp_path: Path) -> None:
    assert asked(make_run(tmp_path / "a"), "--method", "dpo").learning_rate == 5e-6
    assert asked(make_run(tmp_path / "b"), "--method", "dpo", "--learning_rate", "1e-5").learning_rate == 1e-5


def test_a_class_of_run_takes_the_place_of_another_and_what_is_said_wins(tmp_path: Path) -> None:
    run = make_run(tmp_path, epochs=7.0, batch_size=2)
    recipe = tmp_path / "recipe.yaml"
    recipe.write_text("preset: quick\nepochs: 2\n")

    quick = asked(run, "--config", str(recipe), "--evals_per_epoch", "3")
    assert (quick.epochs, quick.max_steps, quick.evals_per_epoch, quick.batch_size) == (2.0, 60, 3, 2)
    assert (quick.lora.rank, quick.lora.alpha) == (8, 16)

    thorough = asked(run, "--preset", "thorough")
    assert (thorough.epochs, thorough.max_steps, thorough.lora.rank, thorough.lora.alpha) == (3.0, None, 16, 32)
    assert thorough.batch_size == 2

    recipe.write_text("preset: hasty\n")
    with pytest.raises(Misuse, match="There is no preset hasty"):
        asked(run, "--config", str(recipe))


@pytest.mark.parametrize(
    ("flags", "recipe", "sentence"),
    [
        (["--epoch", "2"], "", "There is no parameter --epoch. Did you mean --epochs?"),
        (["--epochs", "0"], "", "The recipe cannot be used: epochs is 0, and input should be greater than 0."),
        ([], "epoch: 2", "recipe.yaml: there is no parameter epoch. Did you mean epochs?"),
        ([], "run: mine", "recipe.yaml: there is no parameter run. "),
        ([], "lora: {ranks: 3}", "recipe.yaml: there is no parameter lora.ranks. Did you mean lora.rank?"),
        ([], "lora: 3", "recipe.yaml: there is no parameter lora."),
        ([], "- a", "recipe.yaml is not a recipe."),
        ([], "a: [", "recipe.yaml is not YAML: "),
        ([], "!!python/object/apply:os.system [x]", "recipe.yaml is not YAML: "),
    ],
)
def test_what_cannot_be_is_told_in_a_sentence_and_changes_nothing(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], flags: list[str], recipe: str, sentence: str
) -> None:
    run = make_run(tmp_path)
    before = run.spec_file.read_bytes()
    (tmp_path / "recipe.yaml").write_text(recipe)

    code = main(["all", str(run.path), "--config", str(tmp_path / "recipe.yaml"), *flags])

    assert code == MISUSED
    assert sentence in capsys.readouterr().err
    assert run.spec_file.read_bytes() == before
    assert not run.events_file.exists()


def test_a_run_that_has_begun_keeps_its_values(tmp_path: Path) -> None:
    run = make_run(tmp_path, epochs=3.0)
    write_model(run.plan_file, PLAN)

    with pytest.raises(Misuse, match=r"begun with other values: epochs 3.0, not 2.0\. Repeat it from a fresh folder"):
        asked(run, "--epochs", "2")

    assert asked(run, "--epochs", "3").epochs == 3.0


def test_a_folder_of_examples_becomes_a_run_by_its_base(tmp_path: Path) -> None:
    run = make_run(tmp_path / "mine")
    made = run.spec()
    run.spec_file.unlink()

    with pytest.raises(Misuse, match="Say with --base"):
        asked(run)
    spec = asked(run, "--base", str(run.path / "base.gguf"), "--epochs", "1")

    assert (spec.run, spec.base.sha256, spec.epochs, spec.batch_size) == ("mine", made.base.sha256, 1.0, 8)
    with pytest.raises(Misuse, match="There is no file none"):
        asked(run, "--base", str(tmp_path / "none.gguf"))
    with pytest.raises(Misuse, match="is not a GGUF file"):
        asked(run, "--base", str(run.split_file("train")))


def test_settings_go_flat_and_back() -> None:
    spec = TrainSpec.model_validate({"run": "x", "base": {"name": "n", "gguf": "g", "sha256": "0" * 64}})
    values = spec.model_dump(mode="json")

    assert nested(flat(values)) | {name: values[name] for name in GIVEN} == values
