"""When a run measures, saves and stops."""
# ruff: noqa: ARG002 - transformers calls these methods with more than is needed

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from transformers import TrainerCallback, TrainerControl, TrainerState, TrainingArguments

from trainer.progress import Journal
from trainer.spec import TrainSpec

Stop = Callable[[], bool]
"""Answers whether the run was asked to stop."""


class Guide(TrainerCallback):
    """Decides when to measure, save and stop, and keeps the journal."""

    def __init__(self, spec: TrainSpec, per_epoch: int, journal: Journal, stop: Stop, *, held_out: bool) -> None:
        self.spec = spec
        self.every = max(1, round(per_epoch / spec.evals_per_epoch))
        self.journal = journal
        self.stop = stop
        self.held_out = held_out
        self.tokens_seen: Callable[[], int] = int

    def on_step_end(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **_kwargs: Any
    ) -> None:  # Any: transformers' signature
        last = state.global_step >= state.max_steps
        if state.global_step % self.every == 0 or last:
            control.should_evaluate = self.held_out
            control.should_save = True
        if self.stop():
            control.should_save = control.should_training_stop = True

    def on_log(
        self,
        args: TrainingArguments,
        state: TrainerState,
        control: TrainerControl,
        **found: Any,
    ) -> None:  # Any: as above
        logs: dict[str, float] = found["logs"]
        if "loss" in logs:
            self.journal.step(
                state.global_step,
                state.max_steps,
                state.epoch or 0,
                logs["loss"],
                logs["learning_rate"],
                self.tokens_seen(),
            )

    def on_evaluate(
        self,
        args: TrainingArguments,
        state: TrainerState,
        control: TrainerControl,
        **found: Any,
    ) -> None:  # Any: as above
        loss: float = found["metrics"]["eval_loss"]
        if state.best_metric is None or loss < state.best_metric:
            state.best_metric, state.best_global_step = loss, state.global_step
        self.journal.held_out(state.global_step, state.max_steps, state.epoch or 0, loss)
        if is_settled(state, self.spec.patience):
            control.should_training_stop = True

    def on_save(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **_kwargs: Any
    ) -> None:  # Any: as above
        self.journal.saved(state.global_step, state.max_steps)


def is_settled(state: TrainerState, patience: int) -> bool:
    """Tell whether the held-out loss has not improved for `patience` measurements."""
    later = [1 for entry in state.log_history if "eval_loss" in entry and entry["step"] > (state.best_global_step or 0)]
    return state.best_global_step is not None and len(later) >= patience
