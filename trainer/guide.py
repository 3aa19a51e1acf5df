"""When a run measures, saves and stops."""
# ruff: noqa: ARG002 - transformers calls these methods with more than is needed

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from transformers import TrainerCallback, TrainerControl, TrainerState, TrainingArguments

from trainer.failures import TrainerFailure
from trainer.progress import Journal
from trainer.recipe import TrainSpec

Stop = Callable[[], bool]
"""Answers whether the run was asked to stop."""

AWAY_BY, AWAY_FOR = 3.0, 10  # nats above the first step's loss: answers 20 times less likely; steps in a row


class Guide(TrainerCallback):
    """Decides when to measure, save and stop, and keeps the journal."""

    def __init__(self, spec: TrainSpec, examples: int, journal: Journal, stop: Stop, *, held_out: bool) -> None:
        self.spec = spec
        self.every = spec.steps_between_checks(examples)
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
            if has_run_away(state):
                raise TrainerFailure(
                    "diverged",
                    f"Learning went out of control before step {state.global_step}: for {AWAY_FOR} steps the loss was "
                    "far above where it began. Nothing was published. Start a new run with a lower learning rate than "
                    f"{self.spec.learning_rate:g}.",
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


def has_run_away(state: TrainerState) -> bool:
    """Tell whether the loss has long been far above its start; unlike one that is no number, it could go on for ever.

    Where held-out loss is measured, patience may end the run before this, with the best moment kept.
    """
    losses = [entry["loss"] for entry in state.log_history if "loss" in entry]
    return len(losses) > AWAY_FOR and min(losses[-AWAY_FOR:]) > losses[0] + AWAY_BY
