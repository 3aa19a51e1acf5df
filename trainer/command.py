"""Say how a run is repeated by hand: its command, its recipe as YAML, and the nearest recipe for LLaMA-Factory.

Imports no torch, so that the web app can show a command before anything has run.
"""

from __future__ import annotations

import shlex
from dataclasses import dataclass
from itertools import groupby
from pathlib import PurePath
from typing import Any

import yaml

from trainer.flags import shown
from trainer.recipe import LINEAR_LAYERS, Flat, TrainSpec, flat, settings

FULL_PRECISION = "FOLDER_OF_THE_FULL_PRECISION_MODEL"  # LLaMA-Factory reads no GGUF
EXPORT = "FOLDER_OF_THE_SHAREGPT_EXPORT"


@dataclass(frozen=True)
class ByHand:
    """What a person types, or saves as a file, to do a run without Curator's pages."""

    command: str
    recipe: str
    llama_factory: str


def by_hand(spec: TrainSpec, folder: str, dataset: str, train: int, val: int, bad: int = 0) -> ByHand:
    """Write everything down for a run in `folder` on so many examples; `dataset` is the name it is exported under.

    `bad` is how many of those to learn from are bad answers, which kto weighs.
    """
    return ByHand(command(spec, folder), recipe(spec), llama_factory(spec, folder, dataset, train, val, bad))


def command(spec: TrainSpec, folder: str) -> str:
    """Answer the line that does this run: the base, and each parameter that is not as usual."""
    usual = {setting.name: shown(setting.usual) for setting in settings()}
    flags = [
        part
        for name, value in _values(spec).items()
        if shown(value) != usual[name]
        for part in (f"--{name}", shown(value))
    ]
    base = str(PurePath(folder) / spec.base.gguf)  # relative paths start at the run folder
    return shlex.join(["python", "-m", "trainer", "all", folder, "--base", base, *flags])


def recipe(spec: TrainSpec) -> str:
    """Answer every parameter as YAML, in the groups that people see them in; `--config` reads it."""
    values = _values(spec)
    parts = (
        "\n".join([f"# {group}", *(f"{each.name}: {_yaml(values[each.name])}" for each in members)])
        for group, members in groupby(settings(), lambda setting: setting.group)
    )
    return "\n\n".join(parts) + "\n"


def llama_factory(spec: TrainSpec, folder: str, dataset: str, train: int, val: int, bad: int = 0) -> str:
    """Answer the YAML that comes nearest to this run in LLaMA-Factory 0.9.5, on the ShareGPT export of its dataset.

    Without `template` it takes the one of the base's tokenizer, which is what we teach with as well. Its loss is the
    mean over the answer tokens of a step, like ours; it cuts long examples where ours lists them.
    """
    files = f"{dataset}_kto" if spec.method == "kto" else dataset
    targets = "all" if set(spec.lora.target_modules) == set(LINEAR_LAYERS) else ",".join(spec.lora.target_modules)
    asked: Flat = {
        "model_name_or_path": spec.base.folder or FULL_PRECISION,
        **({"adapter_name_or_path": f"{folder}/start"} if spec.continues else {}),
        **({"quantization_bit": 4, "quantization_method": "bnb"} if spec.base_bits == 4 else {}),
        "stage": spec.method,
        "do_train": True,
        "finetuning_type": "lora",
        "lora_rank": spec.lora.rank,
        "lora_alpha": spec.lora.alpha,
        "lora_dropout": spec.lora.dropout,
        "lora_target": targets,
        **_preferences(spec, train - bad, bad),
        "dataset_dir": EXPORT,
        "dataset": f"{files}_train",
        "cutoff_len": spec.max_length,
        "mask_history": spec.turns == "last",
        "output_dir": f"{folder}/llama_factory",
        "per_device_train_batch_size": spec.batch_size,
        "gradient_accumulation_steps": 1,
        "learning_rate": spec.learning_rate,
        "lr_scheduler_type": "cosine",
        "warmup_ratio": spec.warmup_ratio,
        "max_grad_norm": 1.0,
        "weight_decay": 0.0,
        **({"max_steps": spec.steps(train)} if spec.max_steps else {"num_train_epochs": spec.epochs}),
        "bf16": spec.precision == "bfloat16",
        "disable_gradient_checkpointing": spec.checkpointing != "on",
        **(_choosing(spec, f"{files}_val", spec.steps_between_checks(train)) if val else {}),
        "logging_steps": 1,
        "seed": spec.seed,
        "report_to": "none",
    }
    return yaml.safe_dump(asked, sort_keys=False, allow_unicode=True)


def _preferences(spec: TrainSpec, good: int, bad: int) -> Flat:
    """Answer how preferences are learnt; without good or bad answers to count, both weigh alike."""
    if spec.method == "sft":
        return {}
    if spec.method == "dpo":
        return {"pref_loss": "sigmoid", "pref_beta": spec.beta, "pref_ftx": spec.sft_weight}
    good_weight, bad_weight = spec.kto_weights(good or 1, bad or good or 1)
    return {"pref_beta": spec.beta, "kto_chosen_weight": good_weight, "kto_rejected_weight": bad_weight}


def _choosing(spec: TrainSpec, dataset: str, steps: int) -> Flat:
    """Answer how the best moment is chosen on held-out examples."""
    return {
        "eval_dataset": dataset,
        "eval_strategy": "steps",
        "eval_steps": steps,
        "save_steps": steps,
        "load_best_model_at_end": True,
        "metric_for_best_model": "eval_loss",
        "early_stopping_steps": spec.patience,
    }


def _values(spec: TrainSpec) -> Flat:
    """Answer what the spec says, setting by setting, in the order people see them in."""
    found = flat(spec.model_dump())
    return {setting.name: found[setting.name] for setting in settings()}


def _yaml(value: Any) -> str:  # Any: a value of a field
    """Write a value as YAML reads it back, on one line."""
    plain = list(value) if isinstance(value, tuple) else value
    return yaml.safe_dump(plain, default_flow_style=True, width=1000).removesuffix("\n").removesuffix("\n...")
