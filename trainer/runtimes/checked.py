"""Look a file through before a runtime gets it: some of what is wrong would end the runtime's process."""

from __future__ import annotations

from pathlib import Path

from trainer.gguf_check import BadGguf, GgufSummary, check
from trainer.runtimes.base import RuntimeFailure


def checked(path: Path) -> GgufSummary:
    """Answer what a whole model's file says of itself, or raise RuntimeFailure."""
    try:
        return check(path, whole=True)
    except BadGguf as error:
        raise RuntimeFailure(str(error)) from error


def checked_adapter(path: Path, base: GgufSummary) -> GgufSummary:
    """Answer what an adapter's file says of itself; RuntimeFailure where it would not work on this base."""
    from trainer.adapter_pairs import adapter_pairs  # here: they need numpy, which the web app has no use for
    from trainer.lora_gguf import CannotConvert

    try:
        adapter = check(path, whole=True, finite=True)
        adapter_pairs(adapter, base)
    except (BadGguf, CannotConvert) as error:
        raise RuntimeFailure(str(error)) from error
    return adapter
