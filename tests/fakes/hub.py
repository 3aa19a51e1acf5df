"""A model hub like Hugging Face's: the list of a repository's files, and their bytes behind a redirect, by ranges.

    hub = FakeHub(httpserver)
    hub.add("owner/name", "model.gguf", content)

Written from huggingface_hub's hf_api.py and file_download.py: `siblings` with `lfs.sha256`, 302 to another path that
serves ranges. `cut` breaks each download off after so many bytes; `ranges` off sends everything each time.
"""

from __future__ import annotations

import hashlib
import json
import re
from dataclasses import dataclass, field
from typing import Any

from pytest_httpserver import HTTPServer
from werkzeug import Request, Response

Json = dict[str, Any]
COMMIT = "0123456789abcdef0123456789abcdef01234567"


@dataclass
class FakeHub:
    """Serves what was added to it; `asked` holds what came in, as (path, Range)."""

    server: HTTPServer
    repositories: dict[str, Json] = field(default_factory=dict)
    files: dict[str, bytes] = field(default_factory=dict)
    asked: list[tuple[str, str]] = field(default_factory=list)
    cut: int | None = None
    ranges: bool = True

    def __post_init__(self) -> None:
        for path in (r"/api/models/(.+)", r"/(.+)/resolve/(.+)", r"/cdn/(.+)"):
            self.server.expect_request(re.compile(path)).respond_with_handler(self._answer)

    @property
    def url(self) -> str:
        return self.server.url_for("").rstrip("/")

    def add(self, repository: str, name: str, content: bytes, **lfs: Any) -> None:
        """Add a file; `lfs` overrides what the hub says of it."""
        info = self.repositories.setdefault(
            repository,
            {"id": repository, "sha": COMMIT, "gated": False, "cardData": {"license": "apache-2.0"}, "siblings": []},
        )
        said = {"sha256": hashlib.sha256(content).hexdigest(), "size": len(content), "pointerSize": 134, **lfs}
        info["siblings"].append({"rfilename": name, "size": said["size"], "lfs": said})
        self.files[f"{repository}/{name}"] = content

    def _answer(self, request: Request) -> Response:
        self.asked.append((request.path, request.headers.get("Range", "")))
        if found := re.fullmatch(r"/api/models/(.+)", request.path):
            info = self.repositories.get(found[1])
            if info is None or request.args.get("blobs") != "true":
                return Response('{"error":"Invalid username or password."}', 401, content_type="application/json")
            return Response(json.dumps(info), content_type="application/json")
        if found := re.fullmatch(rf"/(.+)/resolve/{COMMIT}/(.+)", request.path):
            return Response(status=302, headers={"Location": f"/cdn/{found[1]}/{found[2]}?Signature=x%2By"})
        return self._bytes(self.files[request.path.removeprefix("/cdn/")], request)

    def _bytes(self, content: bytes, request: Request) -> Response:
        start, headers = 0, {"Content-Type": "application/octet-stream"}
        asked = re.fullmatch(r"bytes=(\d+)-", request.headers.get("Range", ""))
        if asked and self.ranges:
            start = int(asked[1])
            headers["Content-Range"] = f"bytes {start}-{len(content) - 1}/{len(content)}"
        rest = content[start:]
        headers["Content-Length"] = str(len(rest))
        return Response(rest[: self.cut], 206 if "Content-Range" in headers else 200, headers)
