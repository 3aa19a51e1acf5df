"""`curator up`: everything there, restarted when it dies, nothing left behind."""

from __future__ import annotations

import http.client
import os
import re
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from sqlmodel import Session

from curator.errors import Conflict, NotFound
from curator.launchers.environment import ROOT
from curator.launchers.local import start_time
from curator.services import accounts
from curator.settings import Settings
from curator.supervisor import Service, Supervisor, entrance, only_one
from tests.curator.teaching import wait_until

ENV = {name: value for name, value in os.environ.items() if not name.startswith("CURATOR_")}


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


class Up:
    """A running `curator up`."""

    def __init__(self, home: Path) -> None:
        self.home, self.port = home, free_port()
        command = [sys.executable, "-m", "curator.cli", "up", "--home", str(home), "--port", str(self.port)]
        self.process = subprocess.Popen(command, cwd=ROOT, env=ENV, stdout=subprocess.PIPE, text=True)  # noqa: S603
        assert self.process.stdout
        self.said = self.process.stdout.readline()

    def children(self) -> dict[str, int]:
        """Answer the pid of each service by name, found by its command line."""
        found: dict[str, int] = {}
        for folder in Path("/proc").glob("[0-9]*"):
            try:
                parent = int(folder.joinpath("stat").read_text().rpartition(")")[2].split()[1])
                line = folder.joinpath("cmdline").read_text().replace("\0", " ")
            except OSError:
                continue
            if parent == self.process.pid and "tether" not in line:
                for name in ("gunicorn", "worker train", "worker light"):
                    if name in line:
                        found[name] = int(folder.name)
        return found

    def health(self) -> int:
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=5)
        try:
            connection.request("GET", "/healthz")
            return connection.getresponse().status
        except OSError:
            return 0
        finally:
            connection.close()


@pytest.fixture
def up(tmp_path: Path) -> Iterator[Up]:
    up = Up(tmp_path / "home")
    yield up
    up.process.kill()
    up.process.wait()
    up.process.stdout.close()  # pyright: ignore


def gone(pids: list[int]) -> bool:
    return all(start_time(pid) == "" for pid in pids)


def test_it_starts_heals_and_ends_without_leaving_anything_behind(up: Up):
    assert re.search(rf"http://127\.0\.0\.1:{up.port}/setup/\S+$", up.said.strip()), up.said
    assert up.health() == 200
    wait_until(lambda: len(up.children()) == 3)
    before = up.children()

    os.kill(before["gunicorn"], signal.SIGKILL)
    os.kill(before["worker light"], signal.SIGKILL)

    wait_until(lambda: len(up.children()) == 3 and up.children()["gunicorn"] != before["gunicorn"])
    wait_until(lambda: up.health() == 200)
    assert up.children()["worker train"] == before["worker train"]

    second = subprocess.run(  # noqa: S603
        up.process.args, cwd=ROOT, env=ENV, capture_output=True, text=True, timeout=30, check=False
    )
    assert second.returncode == 2
    assert "already running" in second.stderr

    left = list(up.children().values())
    up.process.send_signal(signal.SIGTERM)
    assert up.process.wait(30) == 0
    assert gone(left)
    assert up.health() == 0


def test_kill_9_takes_the_children_along(up: Up):
    wait_until(lambda: len(up.children()) == 3)
    children = list(up.children().values())

    up.process.kill()
    up.process.wait()

    wait_until(lambda: gone(children))
    wait_until(lambda: up.health() == 0)


def test_a_taken_port_is_told_in_a_sentence(tmp_path: Path):
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        settings = Settings(home=tmp_path, port=taken.getsockname()[1])

        with pytest.raises(Conflict, match="Choose another port"):
            Supervisor(settings).run()


def test_a_home_has_one_supervisor(tmp_path: Path):
    with only_one(tmp_path), pytest.raises(Conflict, match="already running"), only_one(tmp_path):
        pytest.fail("two supervisors")
    with only_one(tmp_path):
        pass  # free again


def test_what_keeps_dying_is_started_ever_more_slowly(tmp_path: Path):
    service = Service("web", [sys.executable, "-c", "raise SystemExit(3)"], dict(os.environ), tmp_path / "log")
    service.env["PYTHONPATH"] = str(ROOT)
    for deaths in (1, 2):
        service.due = 0.0
        service.keep()
        wait_until(lambda: not service.alive)
        service.keep()
        assert service.deaths == deaths

    assert service.pause == 2.0
    assert service.due > time.monotonic() + 1


def test_the_first_start_makes_an_admin_and_later_ones_let_them_in(session: Session):
    accounts.create_user(session, "sample-expert", "Sample expert")
    assert entrance(session).startswith("/setup/")

    admin = accounts.create_user(session, "ada", "Ada", admin=True)
    expert = accounts.by_login(session, "sample-expert")
    for path, person in ((entrance(session), admin), (entrance(session, "sample-expert"), expert)):
        assert accounts.use_link(session, path.removeprefix("/link/"), "sign-in").user_id == person.id

    with pytest.raises(NotFound):
        entrance(session, "nemo")


def test_who_opens_a_new_home_by_name_becomes_its_admin(session: Session):
    path = entrance(session, "demo")

    link = accounts.use_link(session, path.removeprefix("/link/"), "sign-in")
    assert link.user_id == accounts.by_login(session, "demo").id
    assert accounts.by_login(session, "demo").is_admin
