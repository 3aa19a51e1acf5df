"""`curator doctor`."""

from __future__ import annotations

import os
import platform
import shutil
import sys
from collections.abc import Callable, Iterator
from importlib import metadata
from importlib.util import find_spec
from pathlib import Path

import click

from curator.cli._context import home_option, open_database, settings_for
from curator.errors import Invalid, NotFound
from curator.launchers.ray import open_cluster
from curator.launchers.ray_api import Away
from curator.services import bases, outside, versions
from curator.settings import Settings
from db.models import ModelVersion
from db.session import open_session, sqlite_driver, wal_is_safe
from trainer.bases import find_embedded
from trainer.runtimes import ollama_versions
from trainer.runtimes.base import RuntimeFailure

GIGABYTE = 1e9
ENOUGH_DISK, ENOUGH_MEMORY = 5.0, 4.0
OLDEST_RAY = (2, 60)

Finding = tuple[bool, str]


@click.command()
@home_option
def doctor(home: Path | None) -> None:
    """Look for what is missing on this machine; ends with code 1 when something is."""
    settings = settings_for(home)
    findings = [finding for look in CHECKS for finding in look(settings)]
    for good, sentence in findings:
        click.echo(f"{'ok     ' if good else 'MISSING'}  {sentence}")
    if not all(good for good, _ in findings):
        sys.exit(1)


def _python(_settings: Settings) -> Iterator[Finding]:
    yield sys.version_info >= (3, 11), f"Python {platform.python_version()} (3.11 or newer)"
    trains = all(find_spec(name) for name in ("torch", "transformers", "peft", "trl"))
    yield trains, "Libraries for teaching: " + ("there" if trains else "pip install 'curator[train]'")


def _sqlite(settings: Settings) -> Iterator[Finding]:
    if settings.url.startswith("sqlite"):
        driver = sqlite_driver()
        safe = wal_is_safe(driver.sqlite_version_info)
        advice = "" if safe else ", too old for its fast mode: it works, but slower. pip install pysqlite3"
        yield safe, f"SQLite {driver.sqlite_version}{advice}"


def _room(settings: Settings) -> Iterator[Finding]:
    existing = next(folder for folder in (settings.home, *settings.home.parents) if folder.exists())
    free = shutil.disk_usage(existing).free / GIGABYTE
    yield free >= ENOUGH_DISK, f"{free:.1f} GB of disk free in {existing} ({ENOUGH_DISK:.0f} or more)"
    yield os.access(existing, os.W_OK), f"{existing} can be written"
    if hasattr(os, "sysconf"):
        memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / GIGABYTE
        yield memory >= ENOUGH_MEMORY, f"{memory:.1f} GB of memory ({ENOUGH_MEMORY:.0f} or more)"


def _models(settings: Settings) -> Iterator[Finding]:
    base = find_embedded(settings.home)
    yield base is not None, "Base model: " + (str(base) if base else "curator init")
    yield from _admissions(settings)
    embedded = find_spec("xllamacpp") is not None
    yield (
        embedded or bool(settings.ollama_url or settings.llama_server_url),
        "Embedded runtime: " + ("there" if embedded else "pip install 'curator[llamacpp]'"),
    )
    if settings.ollama_url:
        yield from _ollama(settings)
    if settings.llama_server_url:
        yield from _llama_server(settings)


def _ollama(settings: Settings) -> Iterator[Finding]:
    """Tell what the Ollama that versions go to allows, what is wrong with it, and what of ours it holds."""
    try:
        ollama = versions.runtime_named("ollama", settings)
        version, warnings, models = ollama.version(), ollama.warnings(), ollama.models()
    except RuntimeFailure as failure:
        yield False, str(failure)
        return
    yield True, f"Ollama {version} at {settings.ollama_url}: {ollama_versions.allows(version)}"
    yield from _forms(settings, version)
    for warning in warnings:
        yield False, warning
    total = sum(model.size for model in models) / GIGABYTE
    yield True, f"Ollama holds {len(models)} models, {total:.1f} GB counted singly; those that share files take less"


def _forms(settings: Settings, ollama: str) -> Iterator[Finding]:
    """Tell what becomes of the wish for adapters, and of versions that are some, with this Ollama."""
    if settings.ollama_form == "adapter":
        takes = ollama_versions.takes_adapters(ollama)
        become = "go there as adapters" if takes else "are merged all the same: it takes none (0.30.0 to 0.34.0 do)"
        yield True, f"CURATOR_OLLAMA_FORM=adapter: versions {become}"
    if not ollama_versions.lost_adapters(ollama):
        return
    for version in _adapters(settings):
        advice = "load it again on the page “Models”, under “Details”"
        yield False, f"{version.tag} is an adapter, which this Ollama still runs but takes no more: {advice}"


def _adapters(settings: Settings) -> list[ModelVersion]:
    """List the versions that are adapters in Ollama; none where there is no home yet."""
    try:
        engine = open_database(settings)
    except NotFound:
        return []
    with open_session(engine) as session:
        return versions.adapters(session)


def _llama_server(settings: Settings) -> Iterator[Finding]:
    """Tell what the llama-server that versions go to has, how they get there, and what is wrong with it."""
    try:
        server = versions.runtime_named("llama-server", settings)
        version, warnings, models = server.version(), server.warnings(), server.models()
    except RuntimeFailure as failure:
        yield False, str(failure)
        return
    folder = settings.llama_server_models
    way = (
        f"loads versions from {folder}"
        if folder
        else "is started by hand with each version, or has a folder of its own"
    )
    names = ", ".join(model.tag for model in models)[:300] or "nothing yet"
    yield True, f"llama-server (build {version}) at {settings.llama_server_url} {way}; it serves {names}"
    for warning in warnings:
        yield False, warning
    if folder:
        yield os.access(folder, os.W_OK), f"{folder} can be written"


def _elsewhere(settings: Settings) -> Iterator[Finding]:
    """Tell whether the server to compare with answers, and whether questions leave this machine for it."""
    if not outside.is_set(settings):
        return
    offer = outside.offer(settings)
    leaves = "" if offer.local else f"; questions leave this machine for {offer.host}"
    yield not offer.trouble, offer.trouble or f"{len(offer.names)} models to compare with at {offer.host}{leaves}"


def _cluster(settings: Settings) -> Iterator[Finding]:
    if settings.launcher != "ray":
        return
    try:
        cluster = open_cluster(settings.ray_address)
        version, nodes = cluster.version(), cluster.nodes()
    except Invalid as error:
        yield False, str(error)
        return
    except Away:
        yield False, f"Ray cluster: {settings.ray_address} does not answer. Start it, or put CURATOR_RAY_ADDRESS right."
        return
    yield _numbers(version) >= OLDEST_RAY, f"Ray {version} at {cluster.address} (2.60 or newer)"
    if find_spec("ray"):
        ours = metadata.version("ray")
        yield ours == version, f"Ray {ours} here" + ("" if ours == version else f", {version} there: install the same")
    wanted = f"{settings.ray_cpus:g} processors" + (f" and {settings.ray_gpus:g} GPUs" if settings.ray_gpus else "")
    able = sum(node.cpus >= settings.ray_cpus and node.gpus >= settings.ray_gpus for node in nodes)
    advice = "" if able else "; add one, or ask for less: CURATOR_RAY_CPUS, CURATOR_RAY_GPUS"
    yield able > 0, f"{able} of {len(nodes)} nodes of the cluster have {wanted} for a stage{advice}"


def _numbers(version: str) -> tuple[int, ...]:
    return tuple(int(part) for part in version.split(".")[:2] if part.isdigit())


def _admissions(settings: Settings) -> Iterator[Finding]:
    """Tell of each base that is known here whether it can be taught; no home yet, nothing to tell."""
    try:
        engine = open_database(settings)
    except NotFound:
        return
    with open_session(engine) as session:
        for base in bases.all_bases(session):
            digest = f"SHA-256 {base.sha256[:12]}"
            if not bases.is_there(base):
                yield False, f"{base.name}: its file is gone ({base.path})"
            elif base.admission == "failed":
                yield False, f"{base.name} cannot be taught as it is. {base.admission_message}"
            elif base.admission == "passed":
                yield True, f"{base.name} ({digest}) can be taught: what teaches and what answers agree on it"
            else:
                yield True, f"{base.name} ({digest}) is not checked yet: curator base check {base.id}"


CHECKS: tuple[Callable[[Settings], Iterator[Finding]], ...] = (
    _python,
    _sqlite,
    _room,
    _models,
    _elsewhere,
    _cluster,
)
