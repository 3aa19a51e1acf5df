"""The journal of a run: what events.jsonl says while it goes on, and the text a person sees in the terminal."""

from __future__ import annotations

import time
from typing import Any

from trainer.rundir import RunDir, now
from trainer.spec import Event, EventKind, FailureClass, Stage


class Journal:
    """Appends events of one stage. Speeds count from `begin`, so a resumed run reports its own.

    Of several processes that teach together one writes; the others' journals are `silent`.
    """

    def __init__(self, run: RunDir, stage: Stage, *, silent: bool = False) -> None:
        self.run = run
        self.silent = silent
        self.name: Stage = stage
        self.started = time.monotonic()
        self.first = 0

    def write(
        self, kind: EventKind, message: str = "", **values: Any
    ) -> None:  # Any: fields of Event, which validates them
        """Append one event."""
        if not self.silent:
            self.run.append(Event(at=now(), kind=kind, stage=self.name, message=message, **values))

    def say(self, text: str) -> None:
        """Print a line for whoever sits at the terminal."""
        if not self.silent:
            print(text, flush=True)

    def stage(self, message: str) -> None:
        """Say what begins now."""
        self.say(message)
        self.write("stage", message)

    def done(self, message: str) -> None:
        """Say that the stage is finished."""
        self.say(message)
        self.write("done", message)

    def warn(self, message: str) -> None:
        """Say something a person should know though the run goes on."""
        self.say(f"Note: {message}")
        self.write("warning", message)

    def cancelled(self) -> None:
        """Say that the run stopped because it was asked to."""
        self.write("cancelled", "Stopped as asked. Starting the run again goes on from here.")

    def failed(self, failure: FailureClass, sentence: str) -> None:
        """Say why the run cannot go on."""
        self.write("failed", sentence, failure=failure)

    def begin(self, first: int) -> None:
        """Start the clock; `first` is the step already reached."""
        self.started = time.monotonic()
        self.first = first

    def step(self, step: int, steps: int, epoch: float, loss: float, rate: float, tokens: int) -> None:
        """Report one optimiser step; `tokens` were learnt from since `begin`."""
        seconds = max(1e-9, time.monotonic() - self.started)
        left = (steps - step) * seconds / max(1, step - self.first)
        speed = round(tokens / seconds, 1)
        self.write(
            "step", step=step, steps=steps, epoch=round(epoch, 4), loss=loss, learning_rate=rate,
            tokens_per_second=speed, eta_seconds=round(left, 1),
        )  # fmt: skip
        self.say(f"step {step}/{steps}  loss {loss:.4f}  {speed:.0f} tokens/s  {left:.0f} s left")

    def held_out(self, step: int, steps: int, epoch: float, loss: float) -> None:
        """Report a measurement on the val split."""
        self.write("eval", step=step, steps=steps, epoch=round(epoch, 4), eval_loss=loss)
        self.say(f"step {step}/{steps}  held-out loss {loss:.4f}")

    def saved(self, step: int, steps: int) -> None:
        """Report a checkpoint."""
        self.write("checkpoint", step=step, steps=steps)
