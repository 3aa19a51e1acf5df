"""Fetch the vendored front-end files: `python tools/vendor.py`. Needs npm; users of Curator never do.

Copies only the named files of each pinned package to static/vendor/ and notes version, sha256 and licence.
"""

from __future__ import annotations

import hashlib
import json
import subprocess
import tarfile
import tempfile
from pathlib import Path

VENDOR = Path(__file__).parent.parent / "static" / "vendor"
PACKAGES = {
    "htmx.org@4.0.1": ("0BSD", ["htmx.min.js"]),
    "uplot@1.6.32": ("MIT", ["uPlot.esm.js", "uPlot.min.css"]),
}


def main() -> None:
    """Fetch every package and write the files and vendor.lock.json."""
    lock: dict[str, dict[str, str]] = {}
    for package, (licence, names) in PACKAGES.items():
        with tempfile.TemporaryDirectory() as folder:
            command = ["npm", "pack", "--silent", package]
            packed = subprocess.run(command, cwd=folder, check=True, capture_output=True, text=True)  # noqa: S603  pinned names of ours
            with tarfile.open(Path(folder) / packed.stdout.strip()) as archive:
                for name in names:
                    member = archive.extractfile(f"package/dist/{name}")
                    if member is None:
                        raise SystemExit(f"{package} has no file dist/{name}.")
                    content = member.read()
                    (VENDOR / name).write_bytes(content)
                    digest = hashlib.sha256(content).hexdigest()
                    lock[name] = {"package": package, "sha256": digest, "licence": licence}
    (VENDOR / "vendor.lock.json").write_text(json.dumps(lock, indent=2) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
