"""Train on a Ray cluster: each stage is one Ray job, on whichever node has room.

Nothing but the cluster's own address is needed, and no disk that the machines share: a node asks for the files it
lacks and reports what it has (parcel.py, ray_node.py), and everything it makes comes back while it works (mirror.py).
"""

from __future__ import annotations

import hashlib
import io
import secrets
import socket
import zipfile

from curator.errors import Invalid, Unavailable
from curator.launchers.base import Child, Command
from curator.launchers.environment import ROOT
from curator.launchers.local import LocalLauncher
from curator.launchers.mirror import keep_whole_lines
from curator.launchers.parcel import GROWING
from curator.launchers.ray_api import Away, Cluster
from curator.launchers.ray_child import Note, RayChild, read_note
from curator.settings import Settings
from trainer.net import BadUrl
from trainer.rundir import RunDir
from trainer.spec import Stage

CODE = ("trainer/**/*.py", "trainer/*.jsonl", "curator/__init__.py", "curator/launchers/*.py")
GRACE_SECONDS = 60.0
SAVING_SHARE = 0.7  # of the grace; the rest is for bringing back what was saved
PATIENCE_SECONDS = 120.0


class RayLauncher:
    """Starts stages as Ray jobs. `patience` is how long the cluster may be out of reach before the run gives up."""

    def __init__(
        self,
        address: str,
        cpus: float = 1,
        gpus: float = 0,
        *,
        grace: float = GRACE_SECONDS,
        patience: float = PATIENCE_SECONDS,
    ) -> None:
        self.address = address
        self.cpus = cpus
        self.gpus = gpus
        self.grace = grace
        self.patience = patience

    @classmethod
    def from_settings(cls, settings: Settings) -> RayLauncher:
        return cls(settings.ray_address, settings.ray_cpus, settings.ray_gpus)

    def start(self, stage: Command, run: RunDir) -> Child:
        """Go on with the job that an earlier worker left at work on this stage, or submit a new one.

        A base is tested here all the same, where the runtime is that will serve it. Raises Unavailable when the
        cluster does not answer.
        """
        if stage == "admit":
            return LocalLauncher().start(stage, run)
        if run.did(stage):
            return Done()
        cluster = open_cluster(self.address)
        try:
            note = self._left_over(cluster, stage, run)
            if run.did(stage):
                return Done()
            child = self._child(cluster, run, note or Note(job=_new_job(run, stage), stage=stage))
            if note is None:
                self._submit(child)
        except Away as away:
            raise Unavailable(
                "The Ray cluster at %(address)s does not answer. Nothing is lost: tried again, the run goes on where "
                "it was. Check that the cluster is running and that CURATOR_RAY_ADDRESS is its dashboard's address.",
                address=cluster.address,
            ) from away
        return child.begun()

    def _left_over(self, cluster: Cluster, stage: Stage, run: RunDir) -> Note | None:
        """Answer the job that is still at work on this stage; any other is ended, and what it made brought back."""
        note = read_note(run)
        job = cluster.job(note.job) if note else None
        if note is None or job is None:
            return None
        if not job.over and note.stage == stage and not note.stopping:
            return note
        left = self._child(cluster, run, note).begun()
        left.settle(stop=not job.over)
        return None

    def _submit(self, child: RayChild) -> None:
        """Hand a job to the cluster, noted first: a worker that dies in between leaves a note of nothing."""
        child.take()
        keep_whole_lines(child.run.path / name for name in GROWING)
        code = package()
        name = f"_ray_pkg_{hashlib.sha256(code).hexdigest()[:32]}.zip"
        child.cluster.hold(name, code)
        child.offer()
        environment = {
            "HF_HUB_OFFLINE": "1",
            "PYTHONUNBUFFERED": "1",
            "RAY_JOB_STOP_WAIT_TIME_S": str(max(1, int(self.grace * SAVING_SHARE))),
        }
        job = child.note.job
        entrypoint = f"exec python -m curator.launchers.ray_node {job} {_run_key(child.run)}"
        child.cluster.submit(job, entrypoint, name, environment, self.cpus, self.gpus)

    def _child(self, cluster: Cluster, run: RunDir, note: Note) -> RayChild:
        return RayChild(cluster, run, note, grace=self.grace, patience=self.patience)


class Done:
    """A stage whose files are all here already; no node need be asked."""

    def poll(self) -> int:
        return 0

    def cancel(self) -> None:
        return


def open_cluster(address: str) -> Cluster:
    """Answer the cluster at an address, or say that it is none."""
    try:
        return Cluster(address)
    except BadUrl:
        raise Invalid(
            "CURATOR_RAY_ADDRESS is no address of a cluster. Give its dashboard's, for example http://10.0.0.5:8265."
        ) from None


def package() -> bytes:
    """Pack the trainer and what a node needs of Curator; the same code gives the same bytes, which travel once."""
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w") as out:
        for path in sorted(path for pattern in CODE for path in ROOT.glob(pattern)):
            entry = zipfile.ZipInfo(str(path.relative_to(ROOT)))  # dated 1980, whenever it is packed
            out.writestr(entry, path.read_bytes(), zipfile.ZIP_DEFLATED)
    return packed.getvalue()


def _run_key(run: RunDir) -> str:
    """Name the run folder for the nodes of a cluster that several Curators may use."""
    return hashlib.sha256(f"{socket.gethostname()}:{run.path.resolve()}".encode()).hexdigest()[:16]


def _new_job(run: RunDir, stage: Stage) -> str:
    return f"curator-{_run_key(run)}-{stage}-{secrets.token_hex(4)}"
