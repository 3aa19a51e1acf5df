"""What is shown to be typed does exactly the run it was shown for."""

from __future__ import annotations

import shlex
from pathlib import Path

import pytest
import yaml

from tests.trainer.folders import make_run
from tests.trainer.test_kto import judgements
from trainer.__main__ import main
from trainer.command import by_hand
from trainer.failures import MISUSED
from trainer.flags import prepare, read
from trainer.recipe import GIVEN, TrainSpec
from trainer.rundir import RunDir


def unusual(folder: Path) -> RunDir:
    """Answer a run in which every kind of value differs from the usual one."""
    return make_run(
        folder,
        epochs=1.5, max_steps=7, learning_rate=3e-6, checkpointing="on", canaries=False, seed=0, precision="bfloat16",
        lora={"rank": 4, "alpha": 4, "dropout": 0, "target_modules": ("q_proj", "v_proj")},
    )  # fmt: skip


def same(one: TrainSpec, other: TrainSpec) -> bool:
    return (
        one.model_dump(exclude={*GIVEN}) == other.model_dump(exclude={*GIVEN}) and one.base.sha256 == other.base.sha256
    )


def test_the_command_makes_the_same_run_of_the_examples_alone(tmp_path: Path) -> None:
    run = unusual(tmp_path / "it's a run")
    wanted = run.spec()
    typed = shlex.split(by_hand(wanted, str(run.path), "v1", 20, 4).command)
    run.spec_file.unlink()

    prepare(run, read(typed[3:]))

    assert typed[:3] == ["python", "-m", "trainer"]
    assert same(run.spec(), wanted)


def test_the_recipe_makes_the_same_run_of_the_examples_alone(tmp_path: Path) -> None:
    run = unusual(tmp_path / "run")
    wanted = run.spec()
    recipe = tmp_path / "recipe.yaml"
    base = str(run.base_gguf())
    recipe.write_text(by_hand(wanted, "", "v1", 20, 4).recipe, encoding="utf-8")
    run.spec_file.unlink()

    prepare(run, read(["all", str(run.path), "--base", base, "--config", str(recipe)]))

    assert same(run.spec(), wanted)


def test_a_usual_run_needs_no_flags(tmp_path: Path) -> None:
    spec = TrainSpec.model_validate({"run": "", "base": make_run(tmp_path).spec().base})

    assert by_hand(spec, "runs/7", "v1", 20, 4).command == "python -m trainer all runs/7 --base runs/7/base.gguf"


def test_llama_factory_is_asked_for_the_same(tmp_path: Path) -> None:
    shown = yaml.safe_load(by_hand(unusual(tmp_path).spec(), "runs/7", "v3", 20, 4).llama_factory)

    assert (shown["stage"], shown["lora_rank"], shown["lora_alpha"], shown["lora_dropout"]) == ("sft", 4, 4, 0)
    assert (shown["lora_target"], shown["learning_rate"], shown["bf16"]) == ("q_proj,v_proj", 3e-6, True)
    assert (shown["max_steps"], "num_train_epochs" in shown, shown["eval_steps"]) == (7, False, 2)
    assert (shown["dataset"], shown["eval_dataset"], shown["mask_history"]) == ("v3_train", "v3_val", True)
    assert shown["disable_gradient_checkpointing"] is False


def test_llama_factory_learns_preferences_and_goes_on_where_we_do(tmp_path: Path) -> None:
    spec = make_run(tmp_path, method="dpo", continues=2, beta=0.3, sft_weight=0.5).spec()
    shown = yaml.safe_load(by_hand(spec, "runs/7", "v3", 20, 0).llama_factory)

    assert (shown["stage"], shown["pref_beta"], shown["pref_ftx"]) == ("dpo", 0.3, 0.5)
    assert shown["adapter_name_or_path"] == "runs/7/start"
    assert "eval_dataset" not in shown


def test_llama_factory_learns_judgements_with_our_weights(tmp_path: Path) -> None:
    spec = make_run(tmp_path, method="kto", beta=0.2, good_weight=2).spec()
    shown = yaml.safe_load(by_hand(spec, "runs/7", "p1", 30, 4, bad=10).llama_factory)

    assert (shown["stage"], shown["pref_beta"]) == ("kto", 0.2)
    assert (shown["kto_chosen_weight"], shown["kto_rejected_weight"]) == (2, 4)
    assert (shown["dataset"], shown["eval_dataset"]) == ("p1_kto_train", "p1_kto_val")
    assert "pref_ftx" not in shown


def test_show_weighs_what_lies_in_the_folder(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run = judgements(tmp_path)

    code = main(["show", str(run.path)])

    text = capsys.readouterr().out
    assert code == 0
    assert "--method kto" in text
    assert "\nstage: kto\n" in text
    assert "\nkto_rejected_weight: 2.0\n" in text


def test_show_refuses_what_a_method_cannot_learn(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run = judgements(tmp_path)

    code = main(["show", str(run.path), "--method", "sft"])

    assert code == MISUSED
    assert "is an answer that people found bad" in capsys.readouterr().err


def test_show_prints_all_three_and_leaves_the_folder_alone(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run = make_run(tmp_path)
    before = run.spec_file.read_bytes()

    code = main(["show", str(run.path), "--epochs", "9"])

    text = capsys.readouterr().out
    assert code == 0
    assert "--epochs 9.0" in text
    assert "\nepochs: 9.0\n" in text
    assert "\nnum_train_epochs: 9.0\n" in text
    assert run.spec_file.read_bytes() == before
