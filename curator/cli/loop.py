"""`curator loop`: log, review, dataset, teaching, GGUF, gate, publish and both answers side by side, in one process.

It goes through the same services, jobs and worker as the app, so it shows that the app's path works, and how long
each step takes.
"""

from __future__ import annotations

import re
import shutil
import sys
import tempfile
import time
from collections.abc import Generator
from contextlib import contextmanager
from dataclasses import dataclass, field
from itertools import zip_longest
from pathlib import Path
from unicodedata import east_asian_width

import click
from sqlalchemy import Engine
from sqlmodel import select

from curator.cli._context import home_option, settings_for
from curator.errors import Conflict, Unavailable
from curator.services import bases, pins, publishing, runs, sample, snapshots, versions
from curator.services.run_card import RunCard
from curator.settings import Settings
from curator.worker import Worker
from db.models import Base, ModelVersion, Project, Run
from db.session import connect, migrate, open_session
from trainer.bases import fetch_embedded
from trainer.runtimes.base import ChatOptions, Runtime
from trainer.runtimes.embedded import EmbeddedHost
from trainer.spec import Message

NEW_PINS, OLD_PINS = 8, 4  # right answers, at least and at most: what counts as having learnt the sample
MORE_QUESTIONS = ("My dog is old, may he come on the boat?", "哪里可以退票？")  # not pinned, asked for people to judge
ANSWER_TOKENS = 96


@click.command()
@click.option("--base", type=click.Path(path_type=Path, dir_okay=False), help="GGUF file to teach, not the default.")
@home_option
def loop(base: Path | None, home: Path | None) -> None:
    """Teach the sample project, from its log to two answers side by side, without a browser.

    Without --home a new temporary folder is used and kept. Ends with code 1 when the taught model is not better.
    """
    settings = settings_for(home or Path(tempfile.mkdtemp(prefix="curator-loop-")))
    if not WholeLoop(settings).run(base):
        sys.exit(1)


@dataclass
class WholeLoop:
    """Runs the loop in one home and says what happens; `seconds` holds how long each step took."""

    settings: Settings
    seconds: dict[str, float] = field(default_factory=dict[str, float])

    def run(self, base_file: Path | None = None) -> bool:
        """Do it all, and tell whether the taught model beats the base on held-out loss and pinned questions."""
        self.settings.home.mkdir(parents=True, exist_ok=True)
        click.echo(f"Home: {self.settings.home}")
        engine = connect(self.settings.url)
        migrate(engine)
        with self._timed("base"):
            file = base_file or fetch_embedded(self.settings.home)
            with open_session(engine, write=True) as session:
                base = bases.register(session, file)
        with self._timed("import and review"):
            project = sample.load(engine, self.settings, base)
        with self._timed("freeze"):
            run = self._start(engine, project)
        run = self._teach(engine, run)
        with EmbeddedHost(self.settings.home):  # as the supervisor has one
            with self._timed("publish"):
                version = self._publish(engine, run)
            with self._timed("ask both"):
                self._ask_both(engine, project, version, base)
        return self._conclude(run)

    def _start(self, engine: Engine, project: Project) -> Run:
        with open_session(engine, write=True) as session:
            project = session.get_one(Project, project.id)
            if left := runs.live(session, project):
                click.echo(f"Going on with run {left.id}")
                return left
            name = f"loop {len(snapshots.recent(session, project)) + 1}"
            snapshot = snapshots.freeze(session, project, name, include_personal=True)  # the people are made up
            run = runs.start(session, project, snapshot, None, {})
        click.echo(f"Dataset {name}: {snapshot.train} to teach, {snapshot.val} to steer by, {snapshot.test} to test")
        if snapshot.left_out:
            click.echo(f"Left out, since they hold personal data: {snapshot.left_out}")
        return run

    def _teach(self, engine: Engine, queued: Run) -> Run:
        begin = time.time()
        worker = Worker(self.settings, "train", engine=engine)
        worker.leave_on_signals()
        worker.run_until_idle()
        with open_session(engine) as session:
            run = session.get_one(Run, queued.id)
        if run.state in runs.LIVE:
            raise Conflict("Stopped and saved. To go on: curator loop --home %(home)s", home=str(self.settings.home))
        if run.state != "finished":
            log = "\n".join(runs.log_tail(run))
            raise Unavailable("The run ended: %(state)s. %(why)s\n%(log)s", state=run.state, why=run.message, log=log)
        for stage, end in runs.stage_ends(run).items():
            self._note(stage, end - begin)
            begin = end
        self._note("make the version", time.time() - begin)
        return run

    def _publish(self, engine: Engine, run: Run) -> ModelVersion:
        with open_session(engine, write=True) as session:
            version = session.exec(select(ModelVersion).where(ModelVersion.run_id == run.id)).one()
            if not version.gate_passed:
                versions.request_publish(session, version, None)
        Worker(self.settings, "light", engine=engine).run_until_idle()
        with open_session(engine) as session:
            version = session.get_one(ModelVersion, version.id)
        if version.state != "published":
            raise Unavailable(
                "Version %(number)d was not published. %(why)s", number=version.number, why=version.message
            )
        return version

    def _ask_both(self, engine: Engine, project: Project, version: ModelVersion, base: Base) -> None:
        with open_session(engine) as session:
            asked = [pin.question for pin in pins.every(session, project)]
        tag, runtime = versions.answering(base, version, self.settings)
        old_tag = publishing.ensure_base(runtime, base)
        for question in [*asked, *MORE_QUESTIONS]:
            old = _ask(runtime, old_tag, project, question, side=0)
            new = _ask(runtime, tag, project, question, side=1)
            click.echo(f"\n{question}\n{_side_by_side(old, new)}")

    def _conclude(self, run: Run) -> bool:
        card = runs.card(run)
        if card is None:
            return False
        click.echo(f"\n{card.sentence}")
        for check in card.checks:
            word = "passed " if check.passed else "FAILED " if check.blocks else "warning"
            click.echo(f"  {word} {check.name}: {check.detail}")
        click.echo("\nSeconds: " + ", ".join(f"{name} {spent:.1f}" for name, spent in self.seconds.items()))
        click.echo(f"In all: {sum(self.seconds.values()):.0f} s")
        return _better(card)

    def _note(self, name: str, spent: float) -> None:
        self.seconds[name] = spent
        click.echo(f"{name}: {spent:.1f} s")

    @contextmanager
    def _timed(self, name: str) -> Generator[None]:
        begin = time.monotonic()
        yield
        self._note(name, time.monotonic() - begin)


def _better(card: RunCard) -> bool:
    return card.new_loss < card.old_loss and card.new_pins >= NEW_PINS and card.old_pins <= OLD_PINS


def _ask(runtime: Runtime, tag: str, project: Project, question: str, side: int) -> str:
    messages = [Message(role="system", content=project.system_prompt), Message(role="user", content=question)]
    chunks = runtime.chat(tag, messages, ChatOptions(max_tokens=ANSWER_TOKENS), side)
    return "".join(chunk.text for chunk in chunks).strip()


def _side_by_side(old: str, new: str) -> str:
    width = max(30, (shutil.get_terminal_size((120, 24)).columns - 5) // 2)
    rows = zip_longest(_lines(f"old: {old}", width), _lines(f"new: {new}", width), fillvalue="")
    return "\n".join(f"  {left}{' ' * (width - _cells(left))} | {right}" for left, right in rows)


def _lines(text: str, width: int) -> list[str]:
    """Break a text into lines of at most `width` terminal cells, between words where there are words."""
    shown = "".join(letter if letter.isprintable() else " " for letter in text)
    lines = [""]
    for piece in re.findall(r"\s+|[!-~]{1,30}|.", shown):
        if _cells(lines[-1] + piece.rstrip()) > width:
            lines.append("")
        lines[-1] += piece if lines[-1] else piece.lstrip()
    return [line.rstrip() for line in lines]


def _cells(text: str) -> int:
    """Count terminal cells; a Chinese character takes two."""
    return sum(2 if east_asian_width(letter) in "WF" else 1 for letter in text)
