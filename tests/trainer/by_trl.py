"""What has to be set so that one of trl's own trainers teaches a run as ours does, and what came of it then."""

from __future__ import annotations

from typing import Any

import torch
from safetensors.torch import load_file

from trainer.rundir import RunDir

Course = tuple[dict[int, float], dict[str, torch.Tensor]]
"""The loss of each step, and the adapter at the end."""


def same_loop(run: RunDir) -> dict[str, Any]:  # Any: fields of trl's configurations
    """Answer the settings of optimiser and loop; the rows are laid out beforehand and hold every epoch."""
    spec = run.spec()
    return {
        "output_dir": str(run.checkpoints),
        "num_train_epochs": 1,
        "train_sampling_strategy": "sequential",
        "learning_rate": spec.learning_rate,
        "lr_scheduler_type": "cosine",
        "warmup_steps": 0,
        "weight_decay": 0.0,
        "max_grad_norm": 1.0,
        "activation_checkpointing": False,
        "bf16": False,  # trl's usual is bfloat16
        "use_cpu": True,
        "seed": spec.seed,
        "logging_steps": 1,
        "save_strategy": "no",
        "report_to": "none",
        "disable_tqdm": True,
        "dataloader_pin_memory": False,
    }


def course_of(trainer: Any, run: RunDir) -> Course:  # Any: one of trl's trainers
    """Answer what a trainer has done, of which the adapter goes through the run folder."""
    trainer.model.save_pretrained(str(run.adapter), save_embedding_layers=False)
    losses = {entry["step"]: entry["loss"] for entry in trainer.state.log_history if "loss" in entry}
    return losses, load_file(run.adapter / "adapter_model.safetensors")
