"""What carries a run to a cluster and back, without a cluster: what travels, what is kept, what is said."""

from __future__ import annotations

import re
import zipfile
from collections.abc import Iterator, Mapping
from io import BytesIO
from pathlib import Path
from typing import Any

import pytest

from curator.errors import Invalid, Unavailable
from curator.launchers import ray, ray_child
from curator.launchers.environment import ROOT
from curator.launchers.mirror import Mirror, Torn, keep_whole_lines
from curator.launchers.parcel import FINISHED, GROWING, INPUTS, Contents, Lack, Order, Report, order_name, piece_name
from curator.launchers.ray import RayLauncher, package
from curator.launchers.ray_api import Away, Job
from curator.launchers.ray_child import RayChild, read_note
from tests.curator.teaching import wait_until
from tests.trainer.folders import make_run
from trainer import rundir
from trainer.checkpoints import COMPLETE
from trainer.rundir import RunDir, sha256_of
from trainer.spec import Stage

RUNNING = Job("RUNNING", "node", "", None)


class PretendCluster:
    """A cluster in a dictionary: `store` is the head's, `there` the run folder on the only node."""

    address = "http://head:8265"

    def __init__(self) -> None:
        self.store: dict[str, bytes] = {}
        self.there: dict[str, bytes] = {}
        self.state: Job | None = RUNNING
        self.environment: Mapping[str, str] = {}
        self.submitted: list[str] = []
        self.stopped: list[str] = []
        self.away = False

    def job(self, _name: str) -> Job | None:
        if self.away:
            raise Away("no route")
        return self.state

    def submit(self, name: str, _entry: str, _code: str, environment: Mapping[str, str], *_room: float) -> None:
        self.submitted.append(name)
        self.environment = environment

    def stop(self, name: str) -> None:
        self.stopped.append(name)
        self.state = Job("STOPPED", "node", "", None)

    def hold(self, name: str, content: bytes) -> None:
        self.store[name] = content

    def read(self, _node: str, name: str) -> Iterator[bytes]:
        inner = name.split("/", 1)[1]
        if inner not in self.there:
            raise FileNotFoundError(inner)
        yield self.there[inner]

    def says(self, **report: Any) -> None:  # Any: fields of Report, which validates them
        told = Report(**{"growing": {}, "finished": {}} | report)
        self.there["report.json"] = told.model_dump_json().encode()


@pytest.fixture
def pretend(monkeypatch: pytest.MonkeyPatch) -> PretendCluster:
    cluster = PretendCluster()
    monkeypatch.setattr(ray, "open_cluster", lambda _address: cluster)
    monkeypatch.setattr(ray_child, "TURN_SECONDS", 0.01)
    return cluster


@pytest.fixture
def run(tmp_path: Path) -> RunDir:
    return make_run(tmp_path / "run")


def start(run: RunDir, stage: Stage = "train", **options: Any) -> RayChild:  # Any: of RayLauncher
    child = RayLauncher("http://head:8265", **{"grace": 5.0, "patience": 5.0} | options).start(stage, run)
    assert isinstance(child, RayChild)
    return child


def ended(child: RayChild) -> int | None:
    wait_until(lambda: child.poll() is not None)
    return child.poll()


def test_a_cluster_that_does_not_answer_is_named_with_what_is_safe_and_what_to_do(run: RunDir):
    launcher = RayLauncher("http://127.0.0.1:9")

    with pytest.raises(Unavailable) as failure:
        launcher.start("plan", run)

    assert "at http://127.0.0.1:9 does not answer. Nothing is lost" in str(failure.value)
    assert "CURATOR_RAY_ADDRESS" in str(failure.value)


def test_a_launcher_without_an_address_says_which_setting_is_missing(run: RunDir):
    with pytest.raises(Invalid, match="CURATOR_RAY_ADDRESS is no address of a cluster"):
        RayLauncher("").start("plan", run)


def test_a_stage_that_is_done_asks_no_cluster(run: RunDir):
    run.adapter.mkdir()

    assert RayLauncher("http://127.0.0.1:9").start("train", run).poll() == 0


def test_nothing_of_this_machine_travels_but_the_run(
    pretend: PretendCluster, run: RunDir, monkeypatch: pytest.MonkeyPatch
):
    for name in ("CURATOR_OLLAMA_TOKEN", "HF_TOKEN", "HARMLESS"):
        monkeypatch.setenv(name, "stays at home")
    (run.path / "secret.key").write_text("stays at home")

    child = start(run)
    child.left.set()

    assert set(pretend.environment) == {"HF_HUB_OFFLINE", "PYTHONUNBUFFERED", "RAY_JOB_STOP_WAIT_TIME_S"}
    order = Order.model_validate_json(pretend.store[order_name(child.note.job)])
    assert set(order.files) == {"spec.json", "train.jsonl", "val.jsonl", "test.jsonl", "pins.jsonl"}
    assert b"stays at home" not in b"".join(pretend.store.values())


def test_the_code_that_travels_is_the_trainer_and_the_same_each_time():
    names = zipfile.ZipFile(BytesIO(package())).namelist()

    assert package() == package()
    ours = {str(path.relative_to(ROOT)) for path in (ROOT / "trainer").rglob("*") if path.is_file()}
    assert {name for name in ours if "__pycache__" not in name} <= set(names)
    assert "curator/launchers/ray_node.py" in names
    assert all(name.startswith(("trainer/", "curator/launchers/")) or name == "curator/__init__.py" for name in names)


def test_everything_that_a_run_folder_is_said_to_hold_travels():
    known = {f"{name}{mark}" for name in (*INPUTS, *GROWING, *FINISHED, "checkpoints") for mark in ("", "/")}
    said = re.findall(r"^(?:in|out|asked): +(.+)$", rundir.__doc__ or "", re.MULTILINE)

    assert len(said) == 3 and set(" ".join(said).split()) <= known


def test_a_node_is_sent_the_pieces_it_asks_for(pretend: PretendCluster, run: RunDir, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(ray_child, "PIECE", 1000)
    base, train = run.base_gguf(), run.split_file("train")
    child = start(run)

    for path, offset in ((base, 0), (base, 2000), (train, 0)):
        lack = Lack(sha256=sha256_of(path), offset=offset)
        pretend.says(lacks=lack)
        name = piece_name(child.note.job, lack)
        wait_until(lambda name=name: name in pretend.store)
        assert pretend.store[name] == path.read_bytes()[offset : offset + 1000]
    child.left.set()


def test_what_the_trainer_ended_with_is_answered_when_all_of_it_is_here(pretend: PretendCluster, run: RunDir):
    pretend.there |= {"events.jsonl": b"1\n2\n", "plan.json": b"{}"}
    finished = {"plan.json": Contents().listing(written(run.path / "x", b"{}"))}
    pretend.says(growing={"events.jsonl": 4}, finished=finished, exit=1)
    pretend.state = Job("FAILED", "node", "exit code 1", 1)

    assert ended(start(run, "plan")) == 1
    assert (run.events_file.read_bytes(), run.plan_file.read_bytes()) == (b"1\n2\n", b"{}")
    assert read_note(run) is None


def test_a_job_that_broke_off_is_told_with_rays_reason(pretend: PretendCluster, run: RunDir):
    pretend.state = Job("FAILED", "node", "Job supervisor actor died: the node was lost.", None)

    with pytest.raises(Unavailable, match=r"broke off .*: Job supervisor actor died: the node was lost\. What"):
        ended(start(run))


def test_a_cluster_out_of_reach_is_waited_for_and_then_told(pretend: PretendCluster, run: RunDir):
    child = start(run, patience=0.1)
    pretend.away = True

    with pytest.raises(Unavailable, match="has not answered for"):
        ended(child)
    child.cancel()

    assert pretend.stopped == [], "it may still be at work: the next start goes on with it"
    pretend.away = False
    again = start(run)
    assert again.note.job == child.note.job
    again.left.set()


def test_a_worker_that_was_asleep_stops_nothing_that_is_not_its_own(pretend: PretendCluster, run: RunDir):
    sleeper = start(run)
    successor = start(run)

    sleeper.cancel()

    assert successor.note.job == sleeper.note.job and pretend.stopped == []
    successor.cancel()
    assert pretend.stopped == [successor.note.job]
    assert ended(successor) == 143


def test_what_a_job_finished_while_nobody_looked_is_brought_back_and_not_done_again(
    pretend: PretendCluster, run: RunDir
):
    first = start(run, "plan")
    first.left.set()
    pretend.there["plan.json"] = b"{}"
    pretend.says(finished={"plan.json": Contents().listing(written(run.path / "x", b"{}"))}, exit=0)
    pretend.state = Job("SUCCEEDED", "node", "", 0)

    assert RayLauncher("http://head:8265").start("plan", run).poll() == 0
    assert run.plan_file.read_bytes() == b"{}" and pretend.submitted == [first.note.job]


def test_a_job_that_waits_for_room_is_not_waited_for_when_it_is_stopped(pretend: PretendCluster, run: RunDir):
    pretend.state = waiting = Job("PENDING", None, "", None)
    child = start(run, grace=600.0)
    pretend.stop = lambda name: pretend.stopped.append(name)

    child.cancel()

    assert pretend.stopped == [child.note.job] and pretend.state == waiting


def test_a_job_that_was_being_stopped_is_not_gone_on_with(pretend: PretendCluster, run: RunDir):
    child = start(run)
    child.left.set()
    note = run.path / "ray.json"
    note.write_text(child.note.model_copy(update={"stopping": True}).model_dump_json())

    after = start(run)

    assert pretend.stopped == [child.note.job]
    assert after.note.job != child.note.job
    after.left.set()


def mirror(run: RunDir, there: dict[str, bytes]) -> Mirror:
    def read(name: str) -> Iterator[bytes]:
        if name not in there:
            raise FileNotFoundError(name)
        yield there[name]

    return Mirror(run, read, Contents())


def written(path: Path, content: bytes) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content)
    return path


def test_lines_come_once_and_whole_however_often_they_are_fetched(tmp_path: Path):
    run, there = RunDir(tmp_path), {"events.jsonl": b"one\ntwo\nthr"}
    first, second = mirror(run, there), mirror(run, there)

    first.follow(Report(growing={"events.jsonl": 11}, finished={}))
    assert run.events_file.read_bytes() == b"one\ntwo\n"
    run.events_file.write_bytes(b"one\ntw")  # a power cut
    there["events.jsonl"] = b"one\ntwo\nthree\n"
    for one in (second, first, second):
        one.follow(Report(growing={"events.jsonl": 14}, finished={}))

    assert run.events_file.read_bytes() == b"one\ntwo\nthree\n"


def test_a_worker_that_slept_between_reading_and_writing_doubles_no_line(tmp_path: Path):
    run, report = RunDir(tmp_path), Report(growing={"events.jsonl": 8}, finished={})
    successor = mirror(run, {"events.jsonl": b"one\ntwo\n"})

    def read_and_sleep(_name: str) -> Iterator[bytes]:
        successor.follow(report)
        yield b"one\ntwo\n"

    Mirror(run, read_and_sleep, Contents()).follow(report)

    assert run.events_file.read_bytes() == b"one\ntwo\n"


def test_a_line_that_was_cut_short_is_no_beginning_for_a_node(tmp_path: Path):
    whole, cut, empty = (written(tmp_path / name, text) for name, text in (("a", b"1\n"), ("b", b"1\n2"), ("c", b"")))

    keep_whole_lines([whole, cut, empty, tmp_path / "none"])

    assert [path.read_bytes() for path in (whole, cut, empty)] == [b"1\n", b"1\n", b""]


def test_a_file_that_changed_on_its_way_is_not_kept(tmp_path: Path):
    run = RunDir(tmp_path / "run")
    listing = Contents().listing(written(tmp_path / "x", b"as reported"))
    written(run.path / "keep", b"")

    with pytest.raises(Torn):
        mirror(run, {"model.gguf": b"something else"}).follow(Report(growing={}, finished={"model.gguf": listing}))

    assert [path.name for path in run.path.iterdir()] == ["keep"]


def test_a_node_can_write_only_what_a_trainer_makes(tmp_path: Path):
    run = RunDir(tmp_path / "run")
    written(run.spec_file, b"ours")
    content = Contents().of(written(tmp_path / "x", b"theirs"))
    there = {"spec.json": b"theirs", "adapter/../../out": b"theirs", "../out": b"theirs", "spec": b"theirs\n"}

    mirror(run, there).follow(
        Report(growing={"spec": 7, "../out": 6}, finished={"spec.json": {"": content}, "../out": {"": content}})
    )
    with pytest.raises(Torn):
        mirror(run, there).follow(Report(growing={}, finished={"adapter": {"../../out": content}}))

    assert run.spec_file.read_bytes() == b"ours"
    assert sorted(path.name for path in tmp_path.rglob("*") if path.is_file()) == ["spec.json", "x"]


def test_checkpoints_that_the_trainer_has_replaced_are_removed_here_too(tmp_path: Path):
    run, there = RunDir(tmp_path / "run"), {}
    for step in (5, 10):
        written(run.checkpoints / f"checkpoint-{step}" / COMPLETE, b"{}")
    far = RunDir(tmp_path / "far")
    newest = written(far.checkpoints / "checkpoint-15" / COMPLETE, b"{}").parent
    there["checkpoints/checkpoint-15/COMPLETE"] = b"{}"
    finished = {
        "checkpoints/checkpoint-10": Contents().listing(run.checkpoints / "checkpoint-10"),
        "checkpoints/checkpoint-15": Contents().listing(newest),
    }

    mirror(run, there).follow(Report(growing={}, finished={}))
    assert len(list(run.checkpoints.iterdir())) == 2, "a report without any says nothing about those here"
    mirror(run, there).follow(Report(growing={}, finished=finished))

    assert sorted(folder.name for folder in run.checkpoints.iterdir()) == ["checkpoint-10", "checkpoint-15"]
