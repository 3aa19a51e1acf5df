"""The process in which llama.cpp runs: `python -m trainer.runtimes.llamacpp_child CONFIG_JSON_PATH`.

llama.cpp ends its process on many kinds of bad input, so nothing else of ours may live in it. It ends itself
when its parent is gone: the parent holds the other end of its standard input, which closes with it; on Linux
the kernel sends SIGKILL as well, since a model that is being loaded does not listen.
"""

from __future__ import annotations

import ctypes
import os
import signal
import sys
from pathlib import Path
from typing import Any

from trainer.runtimes.home import Stored, write_private

PR_SET_PDEATHSIG = 1
PARALLEL = 2  # one place for each side of a comparison
ERRORS_ONLY = 1  # llama.cpp's log level; more of it would write people's questions into the log


class ChildConfig(Stored):
    """What to load and where to say that it is. `context` is in tokens, for each of the two places."""

    parent: int
    base: Path
    adapters: tuple[Path, ...]
    context: int
    threads: int
    key: str
    ready: Path


class Ready(Stored):
    """Where the server listens. Written once it does."""

    address: str
    pid: int


def main(config_file: Path) -> None:
    """Load the model, say where it is served, and stay until standard input ends."""
    config = ChildConfig.model_validate_json(config_file.read_bytes())
    _end_with_parent(config.parent)
    import xllamacpp  # here, so that the rest can be imported without it

    llama: Any = xllamacpp  # Any: a compiled module without type stubs
    params = llama.CommonParams()
    params.model.path = str(config.base)
    params.lora_adapters = [llama.CommonAdapterLoraInfo(str(path), 1.0) for path in config.adapters]
    params.lora_init_without_apply = True  # scale 0 until a request says otherwise
    params.n_parallel = PARALLEL
    params.n_ctx = PARALLEL * config.context
    params.cache_ram_mib = 0  # that cache mixes up adapters: llama.cpp issue 26207
    params.cpuparams.n_threads = config.threads
    params.cpuparams_batch.n_threads = config.threads
    params.api_keys = [config.key]
    params.hostnames = ["127.0.0.1"]
    params.ui = False
    params.verbosity = ERRORS_ONLY
    server = llama.Server(params)
    write_private(config.ready, Ready(address=server.listening_address, pid=os.getpid()))
    sys.stdin.buffer.read()
    os._exit(0)  # at once: taking the server down in order would wait for answers that nobody reads


def _end_with_parent(parent: int) -> None:
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
        if os.getppid() != parent:  # it died before the line above
            os._exit(1)


if __name__ == "__main__":
    main(Path(sys.argv[1]))
