"""GGUF files of a public repository on Hugging Face, or on a mirror that speaks the same interface.

Only data is fetched, never code, and a file counts only when its sha256 is the one the hub announced. Interface:
GET /api/models/{repository}?blobs=true and GET /{repository}/resolve/{revision}/{file}, as huggingface_hub uses them.
"""

from __future__ import annotations

import hashlib
import os
import re
import shutil
from collections.abc import Callable, Generator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import quote, urlsplit

import httpx

from trainer import net
from trainer.bases.files import digest
from trainer.failures import DISK_ERRORS, Cancelled, TrainerFailure
from trainer.rundir import sync_folder

REPOSITORY = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,95}/[A-Za-z0-9][A-Za-z0-9._-]{0,95}")
SHA256 = re.compile(r"[0-9a-f]{64}")
PART = re.compile(r"-\d{5}-of-\d{5}\.gguf$", re.IGNORECASE)
PREFERRED = ("Q8_0", "Q6_K", "Q5_K_M", "Q4_K_M", "Q4_1", "Q4_0", "F16", "BF16", "F32")
CHUNK = 1 << 16
MARGIN = 200_000_000  # bytes of disk that stay free

BAD_NAME = "A repository is named like owner/name. Copy it from the address of its page."
OFFLINE = (
    "The model hub cannot be reached from this machine. Check the network, or download the file elsewhere and add it "
    "by its path."
)
BROKEN_OFF = "The download broke off. What has arrived is kept, and the next try goes on from there."
NOT_A_HUB = (
    "The model hub answered with something else, such as a sign-in page of your network. Open its page in a browser "
    "on this machine, then try again."
)
NO_REPOSITORY = "The model hub has no public repository of that name. Look at its spelling."
GATED = (
    "The makers of this model want their licence to be accepted first. Accept it on the model's page, download the "
    "file there and add it by its path."
)
BUSY = "The model hub does not take more questions just now. Try again later."
NO_FILE = "This repository has no GGUF file in one piece. Look for one whose name ends in GGUF."
NO_CHECKSUM = "The model hub does not say what the file's content should be, so it cannot be trusted. Choose another."
WRONG_CONTENT = "What arrived is not the file that the model hub announced, so it was thrown away. Try again."
NO_ROOM = "The disk has too little room for this file. Make room, then try again; what has arrived is kept."
SENTENCES = (
    BAD_NAME, OFFLINE, BROKEN_OFF, NOT_A_HUB, NO_REPOSITORY, GATED, BUSY, NO_FILE, NO_CHECKSUM, WRONG_CONTENT, NO_ROOM,
)  # fmt: skip

Received = Callable[[int], None]
"""Called now and then with how many bytes have arrived."""


class HubUnavailable(TrainerFailure):
    """The hub does not answer just now; the same may work later."""

    def __init__(self, sentence: str) -> None:
        super().__init__("base", sentence)


@dataclass(frozen=True)
class HubFile:
    """One GGUF file of a repository. `size` in bytes; `sha256` is empty where the hub gives none."""

    name: str
    size: int
    sha256: str


@dataclass(frozen=True)
class Repository:
    """A repository as it stands at one commit."""

    name: str
    commit: str
    licence: str
    files: tuple[HubFile, ...]


def repository_named(text: str) -> str:
    """Answer `owner/name` from what a person typed or copied, or raise TrainerFailure."""
    text = text.strip()
    path = urlsplit(text).path if "://" in text else text
    name = "/".join(path.strip("/").split("/")[:2])
    if not REPOSITORY.fullmatch(name) or ".." in name:
        raise TrainerFailure("base", BAD_NAME)
    return name


def look(hub: str, repository: str) -> Repository:
    """List a repository's GGUF files; raises TrainerFailure with a sentence."""
    name = repository_named(repository)
    with _told(), net.download(f"{net.checked_url(hub)}/api/models/{name}?blobs=true") as response:
        _check_status(response.status_code)
        body = net.read(response).json()
    if body.get("gated"):
        raise TrainerFailure("base", GATED)
    card, siblings = body.get("cardData"), body.get("siblings")
    if not isinstance(siblings, list):
        raise TrainerFailure("base", NOT_A_HUB)
    licence = card.get("license") if isinstance(card, dict) else ""
    files = [file for sibling in siblings if (file := _file(sibling)) is not None]
    return Repository(name, str(body.get("sha") or "main"), licence if isinstance(licence, str) else "", tuple(files))


def pick(repository: Repository, file: str = "") -> HubFile:
    """Answer the file of that name, else the one that is best to teach: good quality, not needlessly large."""
    if file:
        found = next((one for one in repository.files if one.name == file), None)
        if found is None:
            there = ", ".join(one.name for one in repository.files)
            raise TrainerFailure("base", f"{repository.name} has no file {file[:200]}. There are: {there or 'none'}.")
        return found
    if not repository.files:
        raise TrainerFailure("base", NO_FILE)
    return min(repository.files, key=lambda one: (_preference(one.name), one.size))


def fetch(
    hub: str, repository: Repository, file: HubFile, folder: Path, received: Received, stop: Callable[[], bool]
) -> Path:
    """Download a file into a folder and answer its path; what an earlier try left is gone on with.

    Raises TrainerFailure with a sentence, Cancelled when asked to stop; both keep what has arrived.
    """
    if not SHA256.fullmatch(file.sha256):
        raise TrainerFailure("base", NO_CHECKSUM)
    folder.mkdir(parents=True, exist_ok=True)
    target = folder / f"{Path(file.name).stem}.{file.sha256[:8]}.gguf"
    if target.exists() and digest(target) == file.sha256:
        return target
    part = folder / f".{target.name}.part"
    have = part.stat().st_size if part.exists() else 0
    if have < file.size:
        if shutil.disk_usage(folder).free < file.size - have + MARGIN:
            raise TrainerFailure("base", NO_ROOM)
        address = f"{net.checked_url(hub)}/{repository.name}/resolve/{quote(repository.commit)}/{quote(file.name)}"
        _receive(address, part, have, file.size, received, stop)
    if part.stat().st_size != file.size or digest_of(part, stop) != file.sha256:
        part.unlink()
        raise TrainerFailure("base", WRONG_CONTENT)
    part.replace(target)
    sync_folder(folder)
    digest(target)
    return target


def digest_of(path: Path, stop: Callable[[], bool]) -> str:
    """Answer a file's sha256; Cancelled when asked to stop."""
    found = hashlib.sha256()
    with path.open("rb") as file:
        while piece := file.read(CHUNK):
            if stop():
                raise Cancelled
            found.update(piece)
    return found.hexdigest()


def _receive(address: str, part: Path, have: int, size: int, received: Received, stop: Callable[[], bool]) -> None:
    headers = {"Range": f"bytes={have}-"} if have else {}
    with _told(), net.download(address, headers) as response:
        _check_status(response.status_code)
        goes_on = response.status_code == 206 and response.headers.get("Content-Range", "").startswith(f"bytes {have}-")
        have = have if goes_on else 0  # a server that knows no ranges sends all of it again
        with part.open("ab" if goes_on else "wb") as file:
            for piece in response.iter_raw(CHUNK):
                if have == 0 and not piece.startswith(b"GGUF"):
                    raise TrainerFailure("base", NOT_A_HUB)
                have += len(piece)
                if have > size:
                    break  # the caller sees that it is too much
                file.write(piece)
                received(have)
                if stop():
                    raise Cancelled
            file.flush()
            os.fsync(file.fileno())
    if have < size:
        raise HubUnavailable(BROKEN_OFF)


def _file(sibling: Any) -> HubFile | None:  # Any: JSON from outside
    """Read one entry of a repository; None for what is no whole GGUF model, or has a name that leads elsewhere."""
    if not isinstance(sibling, dict):
        return None
    name, size, lfs = str(sibling.get("rfilename", "")), sibling.get("size"), sibling.get("lfs")
    whole = name.lower().endswith(".gguf") and not PART.search(name) and "mmproj" not in name.lower()
    inside = not name.startswith("/") and ".." not in name.split("/") and name.isprintable() and "\\" not in name
    if not whole or not inside or not isinstance(size, int) or size <= 0:
        return None
    return HubFile(name, size, str(lfs.get("sha256", "")) if isinstance(lfs, dict) else "")


def _preference(name: str) -> int:
    stem = name.upper().removesuffix(".GGUF")
    kinds = enumerate(PREFERRED)
    return next((place for place, kind in kinds if stem.endswith((f"-{kind}", f".{kind}"))), len(PREFERRED))


def _check_status(status: int) -> None:
    """Turn the hub's statuses into sentences; 401 is what it says of a repository that a guest may not know of."""
    if status in (401, 404):
        raise TrainerFailure("base", NO_REPOSITORY)
    if status == 403:
        raise TrainerFailure("base", GATED)
    if status == 429 or status >= 500:
        raise HubUnavailable(BUSY)
    if status not in (200, 206):
        raise TrainerFailure("base", NOT_A_HUB)


@contextmanager
def _told() -> Generator[None]:
    """Raise the sentence for what goes wrong on the wire or on the disk."""
    try:
        yield
    except (httpx.ConnectError, httpx.ConnectTimeout) as error:
        raise HubUnavailable(OFFLINE) from error
    except httpx.TransportError as error:
        raise HubUnavailable(BROKEN_OFF) from error
    except (net.BadAnswer, net.BadUrl) as error:
        raise TrainerFailure("base", NOT_A_HUB) from error
    except OSError as error:
        if error.errno not in DISK_ERRORS:
            raise
        raise TrainerFailure("base", NO_ROOM) from error
