"""Workers at work on real child processes: finish, die, are stopped, are overtaken."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import threading
from datetime import timedelta
from pathlib import Path

import pytest
from sqlalchemy import Engine, update
from sqlmodel import select

from curator.errors import Unavailable
from curator.launchers.environment import ROOT, scrubbed_environment
from curator.launchers.local import LocalLauncher, end_leftover, start_time
from curator.services import jobs, runs
from curator.settings import Settings
from curator.worker import Kind, Worker
from db.models import Job, utc_now
from db.session import open_session
from tests.curator.teaching import Classroom, classroom, wait_until
from trainer.rundir import RunDir


@pytest.fixture
def room(engine: Engine, settings: Settings, tmp_path: Path) -> Classroom:
    return classroom(engine, settings, tmp_path)


def let_lease_run_out(room: Classroom) -> None:
    with open_session(room.engine, write=True) as session:
        session.exec(update(Job).where(Job.state == "running").values(lease_until=utc_now() - timedelta(seconds=1)))


def child_pid(room: Classroom) -> int:
    return json.loads((room.folder() / "child.json").read_text())["pid"]


def training(room: Classroom) -> bool:
    file = room.folder() / "checkpoints" / "step"
    return file.exists() and int(file.read_text() or 0) > 2


def in_background(worker: Worker) -> threading.Thread:
    thread = threading.Thread(target=worker.run_until_idle)
    thread.start()
    return thread


def a_process(room: Classroom, mode: str) -> subprocess.Popen[bytes]:
    """Start a worker in a process of its own, that can be killed."""
    code = (
        "import sys; from pathlib import Path\n"
        "from curator.settings import Settings; from curator.worker import Worker\n"
        "from tests.curator.teaching import launcher\n"
        "worker = Worker(Settings(home=Path(sys.argv[1])), 'train', launcher=launcher(sys.argv[2]), beat=0.05)\n"
        "worker.leave_on_signals(); worker.run_until_idle()"
    )
    return subprocess.Popen([sys.executable, "-c", code, str(room.settings.home), mode], cwd=ROOT)  # noqa: S603


def test_a_run_is_taught_and_its_job_done(room: Classroom):
    room.start()

    assert room.worker().run_until_idle() == 1

    assert (room.run().state, room.job().state, room.job().attempt) == ("finished", "done", 1)
    assert room.version().number == 1


def test_kill_9_of_a_worker_takes_its_trainer_along_and_another_worker_goes_on(room: Classroom):
    room.start()
    first = a_process(room, "slow")
    wait_until(lambda: training(room))
    trainer = child_pid(room)

    first.kill()
    first.wait()
    wait_until(lambda: start_time(trainer) == "")
    let_lease_run_out(room)
    (room.folder() / "go").touch()
    room.worker("slow").run_until_idle()

    assert room.run().state == "finished"
    assert (room.job().attempt, room.job().fence) == (2, 2)
    warnings = runs.progress(room.run()).warnings
    assert len(warnings) == 1 and warnings[0].startswith("goes on from step")


def test_sigterm_puts_the_run_back_without_using_up_an_attempt(room: Classroom):
    room.start()
    worker = a_process(room, "slow")
    wait_until(lambda: training(room))
    trainer = child_pid(room)

    worker.send_signal(signal.SIGTERM)

    assert worker.wait(15) == 0
    assert start_time(trainer) == ""
    assert (room.job().state, room.job().attempt, room.run().state) == ("queued", 0, "running")
    (room.folder() / "go").touch()
    room.worker("slow").run_until_idle()
    assert room.run().state == "finished"


def test_a_person_stops_a_run_at_work(room: Classroom):
    room.start()
    thread = in_background(room.worker("slow"))
    wait_until(lambda: training(room))

    with open_session(room.engine, write=True) as session:
        runs.cancel(session, room.run())
    thread.join(15)

    assert not thread.is_alive()
    assert (room.run().state, room.job().state) == ("cancelled", "cancelled")
    assert start_time(child_pid(room)) == ""


def test_a_trainer_that_does_not_hear_is_ended_by_force(room: Classroom):
    room.start()
    thread = in_background(room.worker("deaf", grace=0.2))
    wait_until(lambda: training(room))

    with open_session(room.engine, write=True) as session:
        runs.cancel(session, room.run())
    thread.join(15)

    assert room.run().state == "cancelled"
    assert start_time(child_pid(room)) == ""


def test_a_worker_that_was_asleep_too_long_lets_go_and_its_trainer_is_ended(room: Classroom):
    room.start()
    sleeper = a_process(room, "slow")
    wait_until(lambda: training(room))
    left_over = child_pid(room)
    sleeper.send_signal(signal.SIGSTOP)

    let_lease_run_out(room)
    room.worker("good").run_until_idle()
    assert start_time(left_over) == "", "two trainers in one folder"
    sleeper.send_signal(signal.SIGCONT)

    assert sleeper.wait(15) == 0
    assert (room.run().state, room.job().state, room.job().fence) == ("finished", "done", 2)


def test_a_job_that_kills_its_worker_is_given_up_after_three_tries(room: Classroom):
    run = room.start()
    for _ in range(3):
        with open_session(room.engine, write=True) as session:
            assert jobs.claim(session, "train", "doomed")
        let_lease_run_out(room)

    assert room.worker().run_until_idle() == 0

    assert room.job().state == "failed"
    assert room.run().id == run.id
    assert room.run().state == "failed"
    assert "short of memory" in room.run().message


@pytest.fixture
def one_job(engine: Engine) -> Job:
    with open_session(engine, write=True) as session:
        return jobs.enqueue(session, "light", "test", "test:1", {"id": 1})


def stored(engine: Engine) -> Job:
    with open_session(engine) as session:
        return session.exec(select(Job)).one()


def test_a_handler_that_crashes_fails_its_job_with_the_traceback(engine: Engine, settings: Settings, one_job: Job):
    told: list[str] = []

    def handler(_work: object) -> None:
        raise ZeroDivisionError("by nothing")

    kinds = {"test": Kind(handler, lambda _session, _id, reason: told.append(reason))}
    Worker(settings, "light", engine=engine, kinds=kinds).run_until_idle()

    assert stored(engine).state == "failed"
    assert "in handler" in stored(engine).error and "ZeroDivisionError" in stored(engine).error
    assert told == ["by nothing"]


def test_what_is_away_is_tried_again_later(engine: Engine, settings: Settings, one_job: Job):
    def handler(_work: object) -> None:
        raise Unavailable("Ollama does not answer.")

    assert Worker(settings, "light", engine=engine, kinds={"test": Kind(handler)}).run_until_idle() == 1

    assert (stored(engine).state, stored(engine).attempt) == ("queued", 1)
    assert stored(engine).run_after > utc_now() + timedelta(seconds=20)


def test_an_unknown_kind_of_job_fails_and_does_not_stop_the_worker(engine: Engine, settings: Settings, one_job: Job):
    Worker(settings, "light", engine=engine, kinds={}).run_until_idle()

    assert stored(engine).state == "failed"


def test_a_trainer_gets_no_secrets_and_no_hub(monkeypatch: pytest.MonkeyPatch):
    for name in ("CURATOR_OLLAMA_TOKEN", "HF_TOKEN", "SOME_API_KEY", "DB_PASSWORD", "aws_secret"):
        monkeypatch.setenv(name, "x")
    monkeypatch.setenv("HARMLESS", "yes")

    environment = scrubbed_environment()

    assert "x" not in environment.values()
    assert (environment["HARMLESS"], environment["HF_HUB_OFFLINE"]) == ("yes", "1")


def test_a_trainer_that_crashes_leaves_no_core_file(tmp_path: Path):
    """A core file holds everything it was taught. It may not ask for one later either, hence both limits."""
    program = (sys.executable, "-c", "import resource; print(resource.getrlimit(resource.RLIMIT_CORE))")

    child = LocalLauncher(program).start("plan", RunDir(tmp_path))
    wait_until(lambda: child.poll() is not None)

    assert RunDir(tmp_path).log_file.read_text().strip() == "(0, 0)"


def test_a_recycled_pid_is_never_killed(tmp_path: Path):
    stranger = subprocess.Popen(["sleep", "60"], start_new_session=True)  # noqa: S607
    note = tmp_path / "child.json"
    try:
        note.write_text(json.dumps({"pid": stranger.pid, "started": "1"}))
        end_leftover(note)
        with pytest.raises(subprocess.TimeoutExpired):
            stranger.wait(0.1)

        note.write_text(json.dumps({"pid": stranger.pid, "started": start_time(stranger.pid)}))
        end_leftover(note)
        assert start_time(stranger.pid) == "", "the very process that the note speaks of is ended"
    finally:
        stranger.kill()
        stranger.wait()


def test_what_a_trainer_says_is_kept_in_the_runs_log(tmp_path: Path):
    folder = RunDir(tmp_path)
    program = (sys.executable, "-c", "import sys; print('out'); print('err', file=sys.stderr); sys.exit(7)")

    child = LocalLauncher(program).start("plan", folder)
    wait_until(lambda: child.poll() is not None)

    assert child.poll() == 7
    assert sorted(folder.log_file.read_text().split()) == ["err", "out"]


def test_children_of_a_stopped_trainer_are_ended_too(tmp_path: Path):
    deaf = (
        "import os, signal, sys, time; signal.signal(signal.SIGTERM, signal.SIG_IGN)\n"
        "open(sys.argv[1] + '/grandchild', 'w').write(str(os.getpid())); time.sleep(60)"
    )
    code = (
        f"import subprocess, sys, time; subprocess.Popen([sys.executable, '-c', {deaf!r}, sys.argv[2]]); time.sleep(60)"
    )
    child = LocalLauncher((sys.executable, "-c", code), 5.0).start("plan", RunDir(tmp_path))
    note = tmp_path / "grandchild"
    wait_until(lambda: note.exists() and note.read_text())

    child.cancel()

    wait_until(lambda: start_time(int(note.read_text())) == "")
