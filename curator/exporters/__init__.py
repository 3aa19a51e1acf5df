"""The dataset formats there are, by name. Each module has `write(folder, name, splits)`, which answers its files.

Files are streamed, written beside their place and renamed, and the same examples give the same bytes.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from types import ModuleType
from typing import cast

from curator.errors import Invalid
from curator.exporters import openai_messages, sharegpt, trl
from curator.exporters.example import Judgement, PreferenceExample, Splits
from curator.exporters.files import pack

__all__ = ["EXPORTERS", "Judgement", "PreferenceExample", "Splits", "pack", "write"]

EXPORTERS: Mapping[str, ModuleType] = {"sharegpt": sharegpt, "openai-messages": openai_messages, "trl": trl}


def write(exporter: str, folder: Path, name: str, splits: Splits) -> list[Path]:
    """Write splits in a format into a folder, made when missing; raises Invalid for an unknown format."""
    if exporter not in EXPORTERS:
        raise Invalid("There is no format “%(name)s”. Known: %(known)s.", name=exporter, known=", ".join(EXPORTERS))
    folder.mkdir(parents=True, exist_ok=True)
    return cast(list[Path], EXPORTERS[exporter].write(folder, name, splits))
