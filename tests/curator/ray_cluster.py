"""A throw-away Ray cluster on this machine: a head that takes no work and one node, which share no folder."""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Generator
from contextlib import contextmanager, suppress
from importlib.util import find_spec
from pathlib import Path

import httpx
import psutil
import pytest

MISSING = "These tests need Ray: pip install 'curator[ray]'."
START_SECONDS = 180
GONE_SECONDS = 20.0
MOST_STARTS = 5


class RayCluster:
    """Starts and kills the two halves. Every process of a half works in the half's folder, or names it."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.port, self.client, self.dashboard, *self.agents = free_ports(3 + MOST_STARTS)
        self.address = f"http://127.0.0.1:{self.dashboard}"
        self.starts = 0

    def home(self, half: str) -> Path:
        """Answer what is its own cache folder to a half of the cluster."""
        return self.folder / f"{half}-home"

    def start_head(self) -> None:
        ports = ("--port", self.port, "--ray-client-server-port", self.client, "--dashboard-port", self.dashboard)
        self._start("head", "--head", "--num-cpus", 0, *ports)

    def start_node(self) -> None:
        here = socket.gethostbyname(socket.gethostname())
        self._start("node", "--num-cpus", 1, "--address", f"{here}:{self.port}")
        end = time.monotonic() + START_SECONDS
        while not self._has_node():
            assert time.monotonic() < end, "the node did not come up"
            time.sleep(0.2)

    def kill(self, half: str) -> None:
        """End a half of the cluster as a power cut would."""
        mark = f"{self.folder}/{half}"
        end = time.monotonic() + GONE_SECONDS
        while processes := [one for one in psutil.process_iter(["cmdline", "cwd"]) if _bears(one, mark)]:
            assert time.monotonic() < end, f"{processes} cannot be ended"
            for process in processes:
                with suppress(psutil.NoSuchProcess):
                    process.kill()
            psutil.wait_procs(processes, timeout=1)

    def _start(self, half: str, *options: object) -> None:
        self.starts += 1
        more = ("--disable-usage-stats", "--min-worker-port", 0, "--max-worker-port", 0, "--object-store-memory", 10**8)
        command = [sys.executable, "-m", "ray.scripts.scripts", "start", *options, *more]
        command += ["--temp-dir", self.folder / f"{half}{self.starts}"]
        command += ["--dashboard-agent-listen-port", self.agents[self.starts]]  # a lost node keeps its own for a while
        environment = {name: value for name, value in os.environ.items() if not name.startswith("PYTEST")}
        environment |= {"XDG_CACHE_HOME": str(self.home(half)), "SOME_API_KEY": "the node's own secret"}
        environment["PATH"] = f"{Path(sys.executable).parent}{os.pathsep}{environment['PATH']}"
        environment["RAY_raylet_start_wait_time_s"] = str(START_SECONDS)
        environment.pop("PYTHONPATH", None)  # the node must use the code that travels
        cwd = self.folder / f"{half}{self.starts}-cwd"
        cwd.mkdir()
        done = subprocess.run(  # noqa: S603  our own words
            [str(word) for word in command], cwd=cwd, env=environment, capture_output=True, check=False,
            timeout=START_SECONDS,
        )  # fmt: skip
        assert done.returncode == 0, done.stderr.decode()[-2000:] + done.stdout.decode()[-2000:]

    def _has_node(self) -> bool:
        try:
            found = httpx.get(f"{self.address}/api/v0/nodes", params={"detail": "true"}, timeout=5).json()
        except (httpx.TransportError, ValueError):
            return False
        rooms = found["data"]["result"]["result"]
        return any(room["state"] == "ALIVE" and room["resources_total"].get("CPU") for room in rooms)


def _bears(process: psutil.Process, mark: str) -> bool:
    return any(mark in word for word in (process.info["cwd"] or "", *(process.info["cmdline"] or [])))


@contextmanager
def running() -> Generator[RayCluster]:
    """Start a cluster, and leave nothing of it behind."""
    if find_spec("ray") is None:
        pytest.fail(MISSING)
    folder = Path(tempfile.mkdtemp(prefix="ray-", dir="/tmp"))  # a socket's path must be short
    cluster = RayCluster(folder)
    try:
        cluster.start_head()
        cluster.start_node()
        yield cluster
    finally:
        cluster.kill("")
        shutil.rmtree(folder, ignore_errors=True)


def free_ports(count: int) -> list[int]:
    """Find ports that nobody uses, outside of the range from which the system gives away its own."""
    found: list[int] = []
    for port in range(21000 + os.getpid() % 5000, 32000):
        with socket.socket() as one:
            try:
                one.bind(("", port))
            except OSError:
                continue
        found.append(port)
        if len(found) == count:
            return found
    pytest.fail("There is no free port.")
