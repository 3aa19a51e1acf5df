"""Keep the embedded runtime going: one child process per base, started on first need, restarted when it dies.

    with EmbeddedHost(home): ...      # in a thread, for commands without `curator up`

The host makes what runs (runtime.json) follow what is to be served (served.json). A second host of the same
home does nothing until the first one ends, so both of the ways to have one can be used side by side.
"""

from __future__ import annotations

import os
import secrets
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from importlib.util import find_spec
from pathlib import Path
from typing import BinaryIO, Self

import httpx

from trainer import net
from trainer.gguf_check import BadGguf, check
from trainer.runtimes.home import (
    Actual,
    Loaded,
    Served,
    actual_file,
    read_served,
    read_stored,
    runtime_folder,
    try_lock,
    write_private,
)
from trainer.runtimes.llamacpp_child import ChildConfig, Ready

TICK_SECONDS = 0.05
START_SECONDS = 600.0
DRAIN_SECONDS = 60.0
STEADY_SECONDS = 60.0
MOST_CRASHES = 3
FIRST_PAUSE = 0.5
PASSED_ON = ("PATH", "HOME", "LANG", "LD_LIBRARY_PATH", "DYLD_LIBRARY_PATH", "SYSTEMROOT", "TEMP", "TMP")
WAIT_BRIEFLY = {"GOMP_SPINCOUNT": "1000"}
"""How long threads spin before they sleep. Measured on 2 cores, tokens/s idle and beside other work: asleep at once
54 and 43, after 1,000 rounds 188 and 65, after llama.cpp's default of 300,000 195 and 31."""
PACKAGE_PARENT = Path(__file__).resolve().parents[2]


@dataclass
class Child:
    """One running llama.cpp process."""

    process: subprocess.Popen[bytes]
    key: str
    adapters: tuple[str, ...]
    rejected: dict[str, str]
    context: int
    started: float
    ready: Path
    address: str = ""
    draining: float | None = None

    def busy(self) -> bool:
        """Tell whether an answer is being written. A server that does not say so is not worth waiting for."""
        try:
            with net.client(self.address, token=self.key, timeout=1.0) as http:
                slots = http.get("/slots").json()
        except (httpx.TransportError, ValueError):
            return False
        return any(slot.get("is_processing") for slot in slots)

    def end(self) -> None:
        self.process.kill()  # it has nothing to save
        self.process.wait()
        if self.process.stdin:
            self.process.stdin.close()


@dataclass
class Trouble:
    """What went wrong with a base's child of late."""

    crashes: int = 0
    not_before: float = 0.0
    error: str = ""


@dataclass
class EmbeddedHost:
    """Owns the children of one home. Call step() often from one thread, or run() in one, or use it in a `with`.

    `threads` is how many cores a child computes on; all by default.
    """

    home: Path
    threads: int = 0
    clock: Callable[[], float] = time.monotonic
    children: dict[str, Child] = field(default_factory=dict[str, Child])
    _troubles: dict[str, Trouble] = field(default_factory=dict[str, Trouble])
    _revision: int = -1
    _written: Actual | None = None
    _lock: BinaryIO | None = None
    _stop: threading.Event = field(default_factory=threading.Event)
    _thread: threading.Thread | None = None

    def __post_init__(self) -> None:
        self.threads = self.threads or os.cpu_count() or 1
        self._take_over()

    def __enter__(self) -> Self:
        self._thread = threading.Thread(target=self.run, args=[self._stop], name="embedded-host", daemon=True)
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        if self._thread:
            self._thread.join()

    def run(self, stop: threading.Event) -> None:
        """Step until told to stop, then end the children."""
        try:
            while not stop.wait(TICK_SECONDS):
                self.step()
        finally:
            self.close()

    def step(self) -> None:
        """Bring what runs one step nearer to what is to be served. Takes milliseconds; waits for nothing long."""
        if not self._lock and not self._take_over():
            return
        served = read_served(self.home)
        if served.revision != self._revision:
            self._troubles.clear()
            self._revision = served.revision
            for child in self.children.values():
                child.rejected = {}  # the file may have been put right
        for base in set(self.children) - set(served.bases):
            self.children.pop(base).end()
        for base in served.bases:
            self._step_base(base, served)
        self._report(served)

    def close(self) -> None:
        """End all children and let another host take over."""
        while self.children:
            self.children.popitem()[1].end()
        if self._lock:
            self._write(Actual())
            self._lock.close()
            self._lock = None

    def _take_over(self) -> bool:
        """Become the home's host, if it has none: forget what an earlier one left."""
        folder = runtime_folder(self.home)
        self._lock = try_lock(folder / "host.lock")
        if self._lock:
            for file in (*folder.glob("*.wanted"), *folder.glob("*.ready.json"), *folder.glob("*.config.json")):
                file.unlink(missing_ok=True)
            self._write(Actual(host=os.getpid()))
        return self._lock is not None

    def _step_base(self, base: str, served: Served) -> None:
        child, trouble, now = self.children.get(base), self._troubles.setdefault(base, Trouble()), self.clock()
        if child is None:
            wanted = (runtime_folder(self.home) / f"{base}.wanted").exists()
            if wanted and not trouble.error and now >= trouble.not_before:
                self._start(base, served, trouble)
        elif child.process.poll() is not None:
            self._crashed(base, trouble, f"it ended with code {child.process.returncode}")
        elif not child.address:
            child.address = read_stored(child.ready, Ready(address="", pid=0)).address
            if not child.address and now - child.started > START_SECONDS:
                self._crashed(base, trouble, f"it was not ready after {START_SECONDS / 60:.0f} minutes")
        elif self._lacks(child, base, served):
            if child.draining is None:
                child.draining = now  # from here on new questions wait; the next step looks at the old ones
            elif not child.busy() or now - child.draining > DRAIN_SECONDS:
                self.children.pop(base).end()
                self._start(base, served, trouble)
        elif now - child.started > STEADY_SECONDS:
            trouble.crashes = 0

    def _lacks(self, child: Child, base: str, served: Served) -> bool:
        """Tell whether a child must be restarted. What it has too much does no harm and waits for the next time."""
        missing = set(served.adapters_of(base)) - set(child.adapters) - set(child.rejected)
        return bool(missing) or served.context_of(base) > child.context

    def _start(self, base: str, served: Served, trouble: Trouble) -> None:
        if find_spec("xllamacpp") is None:
            trouble.error = "The embedded runtime is not installed. Install it: pip install 'curator[llamacpp]'."
            return
        base_file = self.home / served.bases[base].path  # an absolute path stays as it is
        try:
            size = check(base_file, whole=True).size
        except BadGguf as error:
            trouble.error = str(error)
            return
        if size != served.bases[base].size:
            trouble.error = f"{base_file.name} has changed since it was published. Publish it again."
            return
        rejected: dict[str, str] = {}
        for adapter in served.adapters_of(base):
            try:
                check(self.home / served.adapters[adapter])
            except BadGguf as error:
                rejected[adapter] = str(error)
        adapters = tuple(sha for sha in served.adapters_of(base) if sha not in rejected)
        folder, key = runtime_folder(self.home), secrets.token_urlsafe(32)
        ready, config = folder / f"{base}.ready.json", folder / f"{base}.config.json"
        ready.unlink(missing_ok=True)
        context = served.context_of(base)
        asked = ChildConfig(
            parent=os.getpid(),
            base=base_file.resolve(),
            adapters=tuple((self.home / served.adapters[sha]).resolve() for sha in adapters),
            context=context,
            threads=self.threads,
            key=key,
            ready=ready.resolve(),
        )
        write_private(config, asked)
        with (folder / f"{base}.log").open("wb") as log:
            process = subprocess.Popen(  # noqa: S603 - an argument list of ours, no shell
                [sys.executable, "-m", "trainer.runtimes.llamacpp_child", str(config.resolve())],
                cwd=PACKAGE_PARENT,
                env={name: os.environ[name] for name in PASSED_ON if name in os.environ} | WAIT_BRIEFLY,
                stdin=subprocess.PIPE,
                stdout=log,
                stderr=log,
                start_new_session=True,  # Ctrl-C is for the host, which ends it
            )
        self.children[base] = Child(process, key, adapters, rejected, context, self.clock(), ready)

    def _crashed(self, base: str, trouble: Trouble, how: str) -> None:
        self.children.pop(base).end()
        trouble.crashes += 1
        trouble.not_before = self.clock() + FIRST_PAUSE * 2 ** (trouble.crashes - 1)
        if trouble.crashes >= MOST_CRASHES:
            log = runtime_folder(self.home) / f"{base}.log"
            trouble.error = (
                f"The embedded runtime cannot run this model: {how}, {trouble.crashes} times. It is not started again "
                f"until something is published or Curator is restarted. What it said is in {log}."
            )

    def _report(self, served: Served) -> None:
        bases: dict[str, Loaded] = {}
        for base in served.bases:
            child, error = self.children.get(base), self._troubles[base].error
            if child is None:
                bases[base] = Loaded(error=error)
                continue
            bases[base] = Loaded(
                address="" if child.draining is not None else child.address,
                key=child.key,
                pid=child.process.pid,
                context=child.context,
                adapters=child.adapters,
                error=error,
                rejected=child.rejected,
            )
        self._write(Actual(host=os.getpid(), revision=served.revision, bases=bases))

    def _write(self, actual: Actual) -> None:
        if actual != self._written:
            write_private(actual_file(self.home), actual)
            self._written = actual
