"""Real training on a real two-node Ray cluster, held against the same training here."""

from __future__ import annotations

import shutil
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest

from curator.errors import Unavailable
from curator.launchers.base import Child
from curator.launchers.local import LocalLauncher
from curator.launchers.ray import RayLauncher
from curator.launchers.ray_api import Cluster
from curator.launchers.ray_child import RayChild
from tests.curator.ray_cluster import RayCluster, running
from tests.curator.teaching import wait_until
from tests.trainer.folders import make_run
from trainer.rundir import RunDir, sha256_of
from trainer.spec import Stage

pytestmark = pytest.mark.slow

ADAPTER = "adapter/adapter_model.safetensors"
STAGES: tuple[Stage, ...] = ("plan", "train", "convert")
LONG = {"train": 240, "epochs": 24.0, "batch_size": 8, "evals_per_epoch": 1, "patience": 100}
"""About twelve seconds of training, so that something can happen meanwhile; two checkpoints are a turn apart."""
STEPS = 720
GRACE = 60.0
PATIENCE = 300.0  # not how long it takes, but how long two busy cores may make it


@pytest.fixture(scope="module")
def cluster() -> Iterator[RayCluster]:
    with running() as cluster:
        yield cluster


@pytest.fixture(scope="module")
def local(tmp_path_factory: pytest.TempPathFactory) -> RunDir:
    """The run as this machine does it, without a break."""
    run = make_run(tmp_path_factory.mktemp("local"), **LONG)
    for stage in STAGES:
        assert ended(LocalLauncher().start(stage, run)) == 0
    return run


@pytest.fixture
def launcher(cluster: RayCluster) -> RayLauncher:
    return RayLauncher(cluster.address, grace=GRACE)


@pytest.fixture
def planned(local: RunDir, tmp_path: Path) -> RunDir:
    """The same run, planned and no further."""
    run = make_run(tmp_path / "run", **LONG)
    shutil.copyfile(local.plan_file, run.plan_file)
    return run


def ended(child: Child) -> int | None:
    wait_until(lambda: child.poll() is not None, PATIENCE)
    return child.poll()


def losses(run: RunDir) -> dict[int, float]:
    """Answer the curve as the page draws it: the last word for each step."""
    return {e.step: e.loss for e in run.events() if e.kind == "step" and e.step is not None and e.loss is not None}


def assert_taught_the_same(run: RunDir, local: RunDir) -> None:
    here, there = losses(local), losses(run)
    assert list(there) == list(here) == list(range(1, STEPS + 1))
    assert max(abs(here[step] - there[step]) for step in here) <= 1e-5
    assert sha256_of(run.path / ADAPTER) == sha256_of(local.path / ADAPTER)


def saved(run: RunDir) -> list[int]:
    return sorted(int(mark.parent.name.split("-")[1]) for mark in run.checkpoints.glob("checkpoint-*/COMPLETE"))


def started(launcher: RayLauncher, run: RunDir) -> RayChild:
    """Start to train, and wait until a checkpoint came back while it goes on."""
    child = launcher.start("train", run)
    assert isinstance(child, RayChild)
    wait_until(lambda: child.poll() is not None or saved(run), PATIENCE)
    assert child.poll() is None, "it was over before anything was seen of it"
    return child


def test_a_cluster_teaches_what_this_machine_teaches_and_shows_it_live(
    cluster: RayCluster, launcher: RayLauncher, local: RunDir, tmp_path: Path
):
    run = make_run(tmp_path / "run", **LONG)
    assert ended(launcher.start("plan", run)) == 0

    first = started(launcher, run)
    job = Cluster(cluster.address).job(first.note.job)
    assert job and not job.over, "events come while the job runs"
    seen = len(losses(run))
    first.left.set()  # the worker dies
    second = RayLauncher(cluster.address, grace=GRACE).start("train", run)
    assert isinstance(second, RayChild) and second.note.job == first.note.job, "two trainers on one run"
    assert ended(second) == 0
    assert ended(launcher.start("convert", run)) == 0

    assert 0 < seen < len(losses(run))
    assert_taught_the_same(run, local)
    assert set(Counter(e.step for e in run.events() if e.kind == "step").values()) == {1}, "an event came twice"
    assert [e.kind for e in run.events()] == [e.kind for e in local.events()]
    assert run.plan() and run.did("plan")
    for name in ("adapter.gguf", "model.gguf"):
        assert sha256_of(run.path / name) == sha256_of(local.path / name), name
    assert saved(run) == saved(local)
    assert (cluster.home("node") / "curator-ray" / "bases" / f"{run.spec().base.sha256}.gguf").exists()
    assert not cluster.home("head").exists(), "the head trains nothing"
    assert str(cluster.folder) not in run.spec_file.read_text(), "the node's own paths stay there"


def test_a_stopped_run_saves_brings_back_what_it_saved_and_goes_on(
    launcher: RayLauncher, planned: RunDir, local: RunDir
):
    child = started(launcher, planned)

    child.cancel()

    assert child.poll() == 143
    assert planned.events()[-1].kind == "cancelled"
    reached = max(losses(planned))
    assert reached < STEPS and saved(planned)[-1] == reached, "the step it was stopped at was saved and came back"
    assert ended(launcher.start("train", planned)) == 0
    assert f"Going on from step {reached}." in [event.message for event in planned.events()]
    assert_taught_the_same(planned, local)


def test_when_the_head_is_lost_the_run_is_submitted_again_and_goes_on(
    cluster: RayCluster, launcher: RayLauncher, planned: RunDir, local: RunDir
):
    child = started(launcher, planned)

    cluster.kill("head")
    cluster.start_head()
    cluster.start_node()
    with pytest.raises(Unavailable, match=r"knows the job no more.*goes on from its newest checkpoint"):
        ended(child)
    child.cancel()
    here = saved(planned)[-1]
    assert ended(launcher.start("train", planned)) == 0

    assert f"Going on from step {here}." in [event.message for event in planned.events()]
    assert_taught_the_same(planned, local)
