"""Start llama.cpp's own server as an engineer does: the real one, which xllamacpp has inside, in a child process.

with llama_server(model=path, alias="ferry:v1-abcd", key="secret") as server: server.url
"""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Generator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path

import pytest

CHILD = """
import json, sys
import xllamacpp as x
asked = json.loads(sys.argv[1])
p = x.CommonParams()
p.model.path = asked["model"]
p.lora_adapters = [x.CommonAdapterLoraInfo(path, 1.0) for path in asked["adapters"]]
if asked["alias"]:
    p.model_alias = set(asked["alias"].split(","))
if asked["key"]:
    p.api_keys = [asked["key"]]
if asked["template"]:
    p.chat_template = asked["template"]
if asked["port"]:
    p.port = asked["port"]
p.n_ctx, p.n_parallel, p.warmup, p.cpuparams.n_threads, p.cpuparams_batch.n_threads = asked["context"], 1, False, 1, 1
p.hostnames, p.ui, p.verbosity = ["127.0.0.1"], False, 1
server = x.Server(p)
print(server.listening_address, flush=True)
sys.stdin.read()
import os
os._exit(0)
"""


@dataclass(frozen=True)
class Running:
    """A server that answers."""

    url: str
    process: subprocess.Popen[str]


@contextmanager
def llama_server(
    model: Path,
    *,
    adapters: Sequence[Path] = (),
    alias: str = "",
    key: str = "",
    template: str = "",
    context: int = 1024,
    port: int = 0,
) -> Generator[Running]:
    """Serve a model until the block ends. `alias` is one name, or several with commas between as for --alias."""
    if find_spec("xllamacpp") is None:
        pytest.skip("xllamacpp is not installed")
    asked = json.dumps(
        {"model": str(model), "adapters": [str(path) for path in adapters], "alias": alias, "key": key,
         "template": template, "context": context, "port": port}
    )  # fmt: skip
    command = [sys.executable, "-c", CHILD, asked]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:  # noqa: S603 - our own code
        assert process.stdout
        address = process.stdout.readline().strip()
        assert address, "The server did not start."
        try:
            yield Running(address, process)
        finally:
            process.kill()
