"""How far a run is, folded from the events its trainer appended."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from db.models import Run
from trainer.rundir import RunDir
from trainer.spec import Event, Plan, Stage

SHARES: dict[Stage, tuple[float, float]] = {
    "plan": (0.0, 0.03), "train": (0.03, 0.85), "convert": (0.85, 0.9), "evaluate": (0.9, 1.0),
}  # fmt: skip


@dataclass(frozen=True)
class Progress:
    """Where a run is. `share` is of the whole run, 0 to 1; losses are (step, nats per answer token)."""

    state: str
    stage: str
    share: float
    step: int | None = None
    steps: int | None = None
    epoch: float | None = None
    eta_seconds: float | None = None
    tokens_per_second: float | None = None
    losses: list[tuple[int, float]] = field(default_factory=list[tuple[int, float]])
    eval_losses: list[tuple[int, float]] = field(default_factory=list[tuple[int, float]])
    warnings: list[str] = field(default_factory=list[str])
    message: str = ""


def progress(run: Run) -> Progress:
    """Fold the run's events into one picture of where it is."""
    events = [event for event in _events(run) if event.stage in SHARES]
    latest = events[-1] if events else None
    steps = [event for event in events if event.stage == "train" and event.step is not None]
    last = steps[-1] if steps else None
    return Progress(
        state=run.state,
        stage=latest.stage if latest and run.state == "running" else run.stage,
        share=1.0 if run.state == "finished" else _share(latest),
        step=last.step if last else None,
        steps=_latest(steps, "steps"),
        epoch=_latest(steps, "epoch"),
        eta_seconds=_latest(steps, "eta_seconds") if latest and latest.stage == "train" else None,
        tokens_per_second=_latest(steps, "tokens_per_second"),
        losses=_curve(steps, "loss"),
        eval_losses=_curve(steps, "eval_loss"),
        warnings=[event.message for event in events if event.kind == "warning"],
        message=latest.message if latest else "",
    )


def plan(run: Run) -> Plan | None:
    """Answer what the planning stage found out, None before it ended."""
    return RunDir(Path(run.folder)).plan() if run.folder else None


def stage_ends(run: Run) -> dict[str, float]:
    """Answer when each stage spoke last, in seconds since 1970."""
    return {event.stage: event.at.timestamp() for event in _events(run)}


def lasted(run: Run, stage: Stage) -> float | None:
    """Answer the seconds that a stage took the last time it was done, None where that is not known."""
    events = [event for event in _events(run) if event.stage == stage]
    begin = next((event.at for event in reversed(events) if event.kind == "stage"), None)
    end = next((event.at for event in reversed(events) if event.kind == "done"), None)
    return (end - begin).total_seconds() if begin and end and end >= begin else None


def latest_step(run: Run, stage: Stage) -> Event | None:
    """Answer the last step that a stage told of since it began, None before the first."""
    for event in reversed(_events(run)):
        if event.stage == stage and event.kind == "stage":
            return None
        if event.stage == stage and event.kind == "step":
            return event
    return None


def _events(run: Run) -> list[Event]:
    return RunDir(Path(run.folder)).events() if run.folder else []


def _share(latest: Event | None) -> float:
    if latest is None:
        return 0.0
    begin, end = SHARES[latest.stage]
    inside = latest.step / latest.steps if latest.step and latest.steps else 0.0
    return begin + (end - begin) * min(1.0, inside)


def _latest(events: list[Event], name: str) -> Any:  # the type of that field of Event
    return next((value for event in reversed(events) if (value := getattr(event, name)) is not None), None)


def _curve(events: list[Event], name: str) -> list[tuple[int, float]]:
    """Answer (step, value), the last word for a step that was taken twice after a restart."""
    points = {
        event.step: value for event in events if event.step is not None and (value := getattr(event, name)) is not None
    }
    return sorted(points.items())
