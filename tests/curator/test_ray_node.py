"""What a node does before the trainer begins, with a head's store in a dictionary."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from curator.launchers import ray_node
from curator.launchers.parcel import REPORT, Contents, Report, order, order_name
from curator.launchers.ray_node import Node, alone, forget_old
from tests.trainer.folders import make_run
from trainer.rundir import RunDir, sha256_of

PIECE = 2000  # more than a spec, less than the base


class PretendHead:
    """Gives a node each piece it reports to lack, as Curator would, and keeps what was reported."""

    def __init__(self, here: RunDir, there: RunDir, job: str) -> None:
        asked = order(here, "train", Contents())
        self.files = {content.sha256: here.path / name for name, content in asked.files.items()}
        self.files[asked.base.sha256] = here.base_gguf()
        self.order = (f"gcs://{order_name(job)}".encode(), asked.model_dump_json().encode())
        self.there = there
        self.reports: list[Report] = []

    def internal_kv_get(self, key: bytes, _namespace: None) -> bytes:
        if key == self.order[0]:
            return self.order[1]
        report = Report.model_validate_json((self.there.path / REPORT).read_text())
        self.reports.append(report)
        assert report.lacks
        return self.files[report.lacks.sha256].read_bytes()[report.lacks.offset :][:PIECE]

    def internal_kv_del(self, _key: bytes, _by_prefix: bool, _namespace: None) -> None:
        return


class Pair:
    """A run folder here and the same on a node."""

    def __init__(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        self.here, self.there = make_run(tmp_path / "here"), RunDir(tmp_path / "home" / "runs" / "key")
        self.home = tmp_path / "home"
        for folder in (self.there.path, self.home / "incoming", self.home / "bases"):
            folder.mkdir(parents=True)
        self.monkeypatch = monkeypatch

    def prepare(self) -> PretendHead:
        head = PretendHead(self.here, self.there, "job")
        self.monkeypatch.setenv("RAY_ADDRESS", "head:6379")
        self.monkeypatch.setattr(ray_node, "GcsClient", lambda **_address: head)
        Node("job", self.there, self.home).prepare()
        return head

    def checkpoint(self, run: RunDir, step: int, content: str) -> None:
        folder = run.checkpoints / f"checkpoint-{step}"
        folder.mkdir(parents=True)
        for name in ("adapter", "COMPLETE"):
            (folder / name).write_text(content)


@pytest.fixture
def pair(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Pair:
    return Pair(tmp_path, monkeypatch)


def files(run: RunDir) -> dict[str, str]:
    return {
        str(path.relative_to(run.path)): sha256_of(path)
        for path in run.path.rglob("*")
        if path.is_file() and path.name not in (REPORT, "spec.json", "base.gguf")
    }


def test_a_node_makes_its_folder_equal_and_its_base_its_own(pair: Pair):
    pair.checkpoint(pair.here, 10, "ours")
    pair.prepare()

    assert files(pair.there) == files(pair.here)
    base = pair.home / "bases" / f"{pair.here.spec().base.sha256}.gguf"
    assert pair.there.base_gguf() == base and sha256_of(base) == sha256_of(pair.here.base_gguf())
    again = [report.lacks.sha256 for report in pair.prepare().reports if report.lacks]
    assert again == [sha256_of(pair.here.spec_file)], "only the spec, which says where the base lies, comes again"


def test_what_a_node_has_of_an_attempt_that_was_lost_is_not_used_and_not_reported(pair: Pair):
    for step, content in ((10, "ours"), (15, "ours too")):
        pair.checkpoint(pair.here, step, content)
    for step, content in ((10, "ours"), (20, "lost")):
        pair.checkpoint(pair.there, step, content)
    pair.there.events_file.write_text("lost")

    head = pair.prepare()

    assert files(pair.there) == files(pair.here)
    assert head.reports and all(not report.finished and not report.growing for report in head.reports)


def test_two_files_that_hold_the_same_are_asked_for_once(pair: Pair):
    same = pair.here.split_file("val").read_bytes()
    pair.here.split_file("test").write_bytes(same)

    lacks = [report.lacks for report in pair.prepare().reports if report.lacks]

    assert files(pair.there) == files(pair.here)
    assert len(lacks) == len(set(lacks)), "said again, the same would be no news and never come"


def test_a_file_that_broke_off_goes_on_where_it_stopped(pair: Pair):
    base = pair.here.base_gguf()
    (pair.home / "incoming" / sha256_of(base)).write_bytes(base.read_bytes()[:-10])

    lacks = [report.lacks for report in pair.prepare().reports if report.lacks]

    assert [lack.offset for lack in lacks if lack.sha256 == sha256_of(base)] == [base.stat().st_size - 10]


def test_a_file_that_is_not_what_was_ordered_is_refused(pair: Pair):
    base = pair.here.base_gguf()
    (pair.home / "incoming" / sha256_of(base)).write_bytes(bytes(base.stat().st_size - 10))

    with pytest.raises(SystemExit, match="did not arrive as it was sent"):
        pair.prepare()

    assert list((pair.home / "bases").iterdir()) == list((pair.home / "incoming").iterdir()) == []


def test_a_trainer_that_was_left_in_the_folder_is_ended(tmp_path: Path):
    code = (
        "import subprocess, sys; from pathlib import Path; from curator.launchers.ray_node import alone\n"
        "from trainer.rundir import RunDir\n"
        "lock = alone(RunDir(Path(sys.argv[1])))\n"
        "child = subprocess.Popen(['sleep', '60'], pass_fds=[lock.fileno()], stdout=2)\n"
        "print('there', flush=True); child.wait()"
    )
    left = subprocess.Popen(  # noqa: S603  our own words
        [sys.executable, "-c", code, str(tmp_path / "run")], stdout=subprocess.PIPE, start_new_session=True
    )
    assert left.stdout and left.stdout.readline() == b"there\n"

    with alone(RunDir(tmp_path / "run")):
        assert left.wait(10) == -9
    left.stdout.close()


def test_runs_that_nobody_used_for_a_week_are_removed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    old = make_run(tmp_path / "runs" / "old")
    monkeypatch.setattr(ray_node, "KEPT_SECONDS", -1)

    forget_old(tmp_path / "runs")

    assert not old.path.exists()
