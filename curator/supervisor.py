"""`curator up`: web app, two workers and the embedded runtime behind one command.

Every child is restarted when it dies, and none outlives the supervisor: each is tied to it (launchers/tether.py).
The supervisor itself serves nothing and loads nothing, so that there is little in it that could fall over.
"""

from __future__ import annotations

import http.client
import logging
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Generator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from sqlmodel import Session, col, select

from curator.errors import Conflict, Unavailable
from curator.launchers.environment import ROOT
from curator.launchers.tether import tethered
from curator.services import accounts, publishing
from curator.settings import Settings
from db.models import User
from db.session import connect, migrate, open_session
from trainer.runtimes.embedded import EmbeddedHost

log = logging.getLogger("curator.supervisor")

TICK_SECONDS = 0.05
FIRST_PAUSE, LONGEST_PAUSE = 0.5, 30.0
STEADY_SECONDS = 60.0  # a child that lived so long starts afresh without a longer pause
READY_SECONDS = 60.0
GRACE_SECONDS = 75.0  # a trainer has 60 to save
TRIES_BEFORE_READY = 3


@dataclass
class Service:
    """One child process that is to be there as long as the supervisor is."""

    name: str
    argv: Sequence[str]
    env: dict[str, str]
    log_file: Path
    process: subprocess.Popen[bytes] | None = None
    started: float = 0.0
    pause: float = FIRST_PAUSE
    due: float = 0.0
    deaths: int = 0

    def keep(self) -> None:
        """Start it when it is not there and its pause is over."""
        now = time.monotonic()
        if self.process and self.process.poll() is not None:
            code, self.process = self.process.returncode, None
            self.deaths += 1
            self.pause = FIRST_PAUSE if now - self.started > STEADY_SECONDS else min(self.pause * 2, LONGEST_PAUSE)
            self.due = now + self.pause
            log.warning("%s ended with code %s; starting it again in %.1f s", self.name, code, self.pause)
        if self.process is None and now >= self.due:
            with self.log_file.open("ab") as output:
                self.process = subprocess.Popen(  # noqa: S603  an argument list of ours, no shell
                    tethered(self.argv), stdin=subprocess.DEVNULL, stdout=output, stderr=subprocess.STDOUT,
                    env=self.env, start_new_session=True,
                )  # fmt: skip
            self.started = now

    def signal(self, number: signal.Signals) -> None:
        """Send it and all it started a signal, if it is there."""
        if self.process and self.process.poll() is None:
            try:
                os.killpg(self.process.pid, number)
            except ProcessLookupError:
                return

    @property
    def alive(self) -> bool:
        return self.process is not None and self.process.poll() is None


@dataclass
class Supervisor:
    """Keeps the services of one home going until told to stop. `say` prints for people."""

    settings: Settings
    open_as: str = ""
    say: Callable[[str], None] = print
    _trouble: str = ""
    stopping: bool = False  # plain, because a signal handler that takes a lock may wait for itself

    def run(self) -> None:
        """Start everything, print one address, and keep it all going until a signal."""
        self.settings.make_home()
        with only_one(self.settings.home):
            _check_port(self.settings)
            for number in (signal.SIGTERM, signal.SIGINT):
                signal.signal(number, lambda _number, _frame: self.stop())
            link = self._prepare()
            services = self._services()
            host = EmbeddedHost(self.settings.home)
            try:
                self._wait_for_web(services)
                self.say(f"Curator is ready: {self.settings.address}{link}")
                while not self.stopping:
                    for service in services:
                        service.keep()
                    self._step(host)
                    time.sleep(TICK_SECONDS)
            finally:
                self._end(services)
                host.close()

    def _step(self, host: EmbeddedHost) -> None:
        """Look after the embedded runtime; a full disk or a damaged file must not take the rest down with it."""
        try:
            host.step()
            self._trouble = ""
        except (OSError, ValueError) as error:
            if str(error) != self._trouble:
                log.error("the embedded runtime cannot be looked after: %s", error)
            self._trouble = str(error)

    def stop(self) -> None:
        """End the run; safe to call from a signal handler. Once more: do not wait for children to save."""
        self.stopping = True

    def _prepare(self) -> str:
        """Bring the database up to date, queue the repair, and answer the path of a link that lets one person in."""
        self.settings.signing_key()
        engine = connect(self.settings.url)
        migrate(engine)
        with open_session(engine, write=True) as session:
            publishing.request_repair(session)
            link = entrance(session, self.open_as)
        engine.dispose()
        return link

    def _services(self) -> list[Service]:
        logs = self.settings.folder("logs")
        env = dict(os.environ) | {
            "CURATOR_HOME": str(self.settings.home),
            "CURATOR_HOST": self.settings.host,
            "CURATOR_PORT": str(self.settings.port),
            "PYTHONPATH": os.pathsep.join(filter(None, [str(ROOT), os.environ.get("PYTHONPATH", "")])),
            "PYTHONUNBUFFERED": "1",
        }
        command = [sys.executable, "-m", "curator.cli", "worker"]
        return [
            Service("web", web_argv(self.settings), env, logs / "web.log"),
            Service("worker-train", [*command, "train"], env, logs / "worker-train.log"),
            Service("worker-light", [*command, "light"], env, logs / "worker-light.log"),
        ]

    def _wait_for_web(self, services: list[Service]) -> None:
        web = services[0]
        end = time.monotonic() + READY_SECONDS
        while not self.stopping:
            for service in services:
                service.keep()
            if web.alive and answers(self.settings):
                return
            if web.deaths >= TRIES_BEFORE_READY or time.monotonic() > end:
                raise Unavailable("The web app does not start. Its log says why: %(log)s", log=str(web.log_file))
            time.sleep(0.05)

    def _end(self, services: list[Service]) -> None:
        """End all children: first politely, so that a trainer saves; a second signal or a minute later by force."""
        self.stopping = False
        self.say("Stopping. A training under way is saved first, which takes up to a minute.")
        for service in services:
            service.signal(signal.SIGTERM)
        end = time.monotonic() + GRACE_SECONDS
        while any(service.alive for service in services) and time.monotonic() < end and not self.stopping:
            time.sleep(0.05)
        for service in services:
            service.signal(signal.SIGKILL)
            if service.process:
                service.process.wait()


def web_argv(settings: Settings) -> list[str]:
    """Answer how the web app is started: one process, many threads."""
    app = "curator.app:create_app"
    if sys.platform == "win32":
        listen = f"--listen={settings.host}:{settings.port}"
        return [sys.executable, "-m", "waitress", listen, f"--threads={settings.threads}", "--call", app]
    return [
        sys.executable, "-m", "gunicorn", f"{app}()", "--worker-class", "gthread", "--workers", "1",
        "--threads", str(settings.threads), "--bind", f"{settings.host}:{settings.port}",
        "--graceful-timeout", "5", "--no-control-socket", "--log-level", "warning",
    ]  # fmt: skip


def answers(settings: Settings) -> bool:
    """Tell whether the web app says that it is well."""
    connection = http.client.HTTPConnection(_reachable(settings.host), settings.port, timeout=2)
    try:
        connection.request("GET", "/healthz", headers={"Host": f"{settings.host}:{settings.port}"})
        return connection.getresponse().status == 200
    except (OSError, http.client.HTTPException):
        return False
    finally:
        connection.close()


@contextmanager
def only_one(home: Path) -> Generator[None]:
    """Hold the home for this process; say so when another one has it."""
    with (home / "up.lock").open("a+b") as file:
        try:
            _lock(file.fileno())
        except OSError:
            raise Conflict(
                "Curator is already running for %(home)s. Use its address, or stop it first.", home=str(home)
            ) from None
        yield


def _lock(descriptor: int) -> None:
    if sys.platform == "win32":
        import msvcrt

        msvcrt.locking(descriptor, msvcrt.LK_NBLCK, 1)
    else:
        import fcntl

        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)


def _check_port(settings: Settings) -> None:
    with socket.socket(socket.AF_INET6 if ":" in settings.host else socket.AF_INET) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((settings.host, settings.port))
        except OSError as error:
            raise Conflict(
                "Nothing can listen on %(host)s:%(port)d (%(problem)s). Choose another port: curator up --port 8701",
                host=settings.host, port=settings.port, problem=error.strerror or str(error),
            ) from None  # fmt: skip


def _reachable(host: str) -> str:
    return {"0.0.0.0": "127.0.0.1", "::": "::1"}.get(host, host)  # noqa: S104  compared with, not listened on


def entrance(session: Session, open_as: str = "") -> str:
    """Answer the path of a link that lets one person in, once: who can start Curator owns its database anyway.

    `open_as` is a sign-in name; while there is no admin, that person is made one. Without a name the first admin is
    let in, or asked to make an account when there is none.
    """
    admin = session.exec(
        select(User).where(col(User.is_admin).is_(True), col(User.disabled).is_(False)).order_by(col(User.id)).limit(1)
    ).first()
    person = admin
    if open_as:
        person = accounts.by_login(session, open_as) if admin else _first_admin(session, open_as)
    if person is None:
        return f"/setup/{accounts.make_link(session, 'setup', minutes=24 * 60)}"
    return f"/link/{accounts.make_link(session, 'sign-in', person)}"


def _first_admin(session: Session, login: str) -> User:
    known = session.exec(select(User).where(User.login == login)).first()
    if known is None:
        return accounts.create_user(session, login, login.title(), admin=True)
    known.is_admin = True
    session.add(known)
    return known
