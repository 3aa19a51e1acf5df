"""A Ray cluster as its head's own address shows it: jobs, packages and the log folders of nodes, over HTTP.

This is the REST interface that Ray's job client speaks. Spoken to directly, every wait has a limit, and Curator's
machine needs no Ray and no Python of the same version. docs/decisions/0011-ray-jobs.md says more.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import httpx

from trainer import net

TIMEOUT = 30.0
READ_SECONDS = 24 * 3600
OVER = ("STOPPED", "SUCCEEDED", "FAILED")


class Away(Exception):  # noqa: N818 - named as people say it, like curator.errors
    """The cluster does not answer, or not sensibly; it may in a moment. The text says how, for the log."""


@dataclass(frozen=True)
class Job:
    """A submitted job. `node` is where it runs, None before it does."""

    status: str
    node: str | None
    message: str
    exit: int | None

    @property
    def over(self) -> bool:
        return self.status in OVER

    @property
    def broke_off(self) -> bool:
        """Tell whether it ended without a word, as with the node it ran on."""
        return self.status == "FAILED" and self.exit is None


@dataclass(frozen=True)
class Room:
    """What one living node has."""

    cpus: float
    gpus: float


class Cluster:
    """Asks the head of one cluster. Raises net.BadUrl for an address that is none, Away when no good answer comes."""

    def __init__(self, address: str) -> None:
        self.address = net.checked_url(address)
        self._http = net.client(self.address, timeout=TIMEOUT)

    def version(self) -> str:
        """Answer which Ray it is."""
        return str(self._object("GET", "/api/version").get("ray_version", "?"))

    def nodes(self) -> list[Room]:
        """Answer what each living node has in all."""
        found = self._object("GET", "/api/v0/nodes?detail=true")["data"]["result"]["result"]
        living = [node["resources_total"] for node in found if node["state"] == "ALIVE"]
        return [Room(cpus=has.get("CPU", 0.0), gpus=has.get("GPU", 0.0)) for has in living]

    def job(self, name: str) -> Job | None:
        """Look a job up; None when the cluster knows nothing of it, as after its head was restarted."""
        answer = self._ask("GET", f"/api/jobs/{name}")
        if answer.status == 404:
            return None
        found = _good(answer).json()
        return Job(
            status=found["status"],
            node=found.get("driver_node_id"),
            message=found.get("message") or "",
            exit=found.get("driver_exit_code"),
        )

    def submit(
        self, name: str, entrypoint: str, code: str, environment: Mapping[str, str], cpus: float, gpus: float
    ) -> None:
        """Start a program on a node that has so many processors to spare; `code` names the package it runs in."""
        body = {
            "submission_id": name,
            "entrypoint": entrypoint,
            "entrypoint_num_cpus": cpus,
            "entrypoint_num_gpus": gpus,
            "runtime_env": {"working_dir": f"gcs://{code}", "env_vars": dict(environment)},
        }
        _good(self._ask("POST", "/api/jobs/", body))

    def stop(self, name: str) -> None:
        """Ask a job to end: SIGTERM to all its processes, SIGKILL when its time is up."""
        _good(self._ask("POST", f"/api/jobs/{name}/stop"))

    def hold(self, name: str, content: bytes) -> None:
        """Put a package into the head's store unless it is there; Ray forgets it when nobody uses it for a while."""
        path = f"/api/packages/gcs/{name}"
        if self._ask("GET", path).ok:
            return
        try:
            response = self._http.put(path, content=content)
        except httpx.TransportError as error:
            raise Away(repr(error)) from error
        _good(net.Answer(response.status_code, response.content))
        self._ask("GET", path)  # to ask is what starts the time after which it is forgotten; it may be taken by now

    def read(self, node: str, name: str) -> Iterator[bytes]:
        """Read a file in a node's log folder from its beginning; raises FileNotFoundError when it is not there."""
        asked = {"node_id": node, "filename": name, "lines": -1, "timeout": READ_SECONDS}
        try:
            with self._http.stream("GET", "/api/v0/logs/file", params=asked) as response:
                if response.status_code != 200:
                    said = net.read(response).body.decode("utf-8", "replace")
                    raise FileNotFoundError(said) if "file is not found" in said else Away(f"{name}: {said[-500:]}")
                yield from response.iter_raw()
        except (httpx.TransportError, net.BadAnswer) as error:
            raise Away(repr(error)) from error

    def _object(self, method: str, path: str) -> net.Json:
        return _good(self._ask(method, path)).json()

    def _ask(self, method: str, path: str, body: Any = None) -> net.Answer:  # Any: what JSON can say
        try:
            return net.fetch(self._http, method, path, body)
        except (httpx.TransportError, net.BadAnswer) as error:
            raise Away(repr(error)) from error


def _good(answer: net.Answer) -> net.Answer:
    if not answer.ok:
        raise Away(f"{answer.status}: {answer.body[-500:].decode('utf-8', 'replace')}")
    return answer
