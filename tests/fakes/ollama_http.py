"""The wire of the fake Ollama: routes, statuses, streams, and the ways in which they go wrong."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Iterator
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from tests.fakes.ollama_server import FakeOllama

Json = dict[str, Any]  # Any: JSON

PART = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.-]{0,79}")
DIGEST = re.compile(r"sha256[:-]([0-9a-f]{64})")


@dataclass
class Request:
    """What came in."""

    method: str
    path: str
    headers: dict[str, str]
    body: Json


class Refused(Exception):  # noqa: N818 - it is an answer
    """A call that is answered with an error."""

    def __init__(self, status: int, message: str) -> None:
        super().__init__(message)
        self.status = status


def full(name: str) -> str:
    return name if ":" in name else f"{name}:latest"


def valid(name: str) -> bool:
    parts = name.split(":")
    return len(parts) <= 2 and all(PART.fullmatch(part) for part in parts)


def says(text: str) -> Json:
    return {"role": "assistant", "content": text}


def handler(ollama: FakeOllama) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def log_message(self, *_: object) -> None:
            return

        def do_HEAD(self) -> None:
            self.handle_call()

        def do_GET(self) -> None:
            self.handle_call()

        def do_POST(self) -> None:
            self.handle_call()

        def do_DELETE(self) -> None:
            self.handle_call()

        def handle_call(self) -> None:
            size = int(self.headers.get("Content-Length") or 0)
            raw = self.rfile.read(size // 2 if ollama.misbehave == "blob_cut" else size)
            body: Json = {}
            if len(raw) < size:  # whoever sent it is gone, and a part of a file is kept nowhere
                self.close_connection = True
                return None
            if not self.path.startswith(ollama.prefix):
                return self.send_bytes(404, b"nothing here but a proxy", "text/plain")
            self.path = self.path.removeprefix(ollama.prefix)
            is_blob = self.path.startswith("/api/blobs/")
            try:
                if raw and not is_blob:
                    body = json.loads(raw)
                ollama.requests.append(Request(self.command, self.path, dict(self.headers), body))
                if not self.wrong_at_once():
                    self.answer(body, raw)
            except json.JSONDecodeError:
                self.send_json(400, {"error": "invalid character looking for beginning of value"})
            except Refused as refused:
                self.send_json(refused.status, {"error": str(refused)})
            except (BrokenPipeError, ConnectionResetError):
                ollama.gone.set()
                self.close_connection = True

        def wrong_at_once(self) -> bool:
            if ollama.token and self.headers.get("Authorization") != f"Bearer {ollama.token}":
                self.send_json(401, {"error": "unauthorized"})
            elif ollama.misbehave == "status_500":
                self.send_json(500, {"error": "\x1b[31mllama-server process has terminated: exit status 1\n"})
            elif ollama.misbehave == "busy":
                self.send_json(503, {"error": "server busy, please try again.  maximum pending requests exceeded"})
            elif ollama.misbehave == "redirect":
                self.send_response(302)
                self.send_header("Location", "http://169.254.169.254/latest/meta-data/")
                self.send_header("Content-Length", "0")
                self.end_headers()
            elif ollama.misbehave == "not_ollama":
                self.send_bytes(404, b"<html>secret page</html>", "text/html")
            else:
                return False
            return True

        def answer(self, body: Json, raw: bytes) -> None:
            match self.command, self.path:
                case ("HEAD" | "POST", path) if path.startswith("/api/blobs/"):
                    self.answer_blob(path.removeprefix("/api/blobs/"), raw)
                case "GET", "/api/version":
                    self.send_json(200, {"version": ollama.version_text})
                case "GET", "/api/tags":
                    self.send_json(200, {"models": ollama.listed()})
                case "GET", "/api/ps":
                    running = [{"name": full(name), "size": 1, "size_vram": 0} for name in ollama.loaded.values()]
                    self.send_json(200, {"models": running})
                case "POST", "/api/show":
                    self.send_json(200, ollama.show(str(body.get("model") or body.get("name") or "")))
                case "POST", "/api/create":
                    self.send_parts(ollama.create(body), stream=body.get("stream", True))
                case "POST", "/api/chat":
                    self.send_parts(ollama.chat(body), stream=body.get("stream", True))
                case "POST", "/api/copy":
                    source, destination = str(body.get("source")), str(body.get("destination"))
                    if not valid(destination):
                        raise Refused(400, f'destination "{destination}" is invalid')
                    ollama.models[full(destination)] = ollama.get(source)
                    self.send_bytes(200, b"", "text/plain")
                case "DELETE", "/api/delete":
                    ollama.drop(str(body.get("model") or body.get("name")))
                    self.send_bytes(200, b"", "text/plain")
                case _:
                    self.send_bytes(404, b"404 page not found", "text/plain")

        def answer_blob(self, name: str, raw: bytes) -> None:
            found = DIGEST.fullmatch(name)
            if not found:
                raise Refused(400, "invalid digest format")
            if self.command == "HEAD" or found[1] in ollama.blobs:
                self.send_bytes(200 if found[1] in ollama.blobs else 404, b"", "text/plain")
                return
            if ollama.misbehave == "blob_disk_full":
                raise Refused(500, "write /models/blobs/sha256-1-partial: no space left on device")
            if ollama.misbehave == "blob_damaged":
                raw = raw[:-1] + bytes([raw[-1] ^ 1])
            true = hashlib.sha256(raw).hexdigest()
            ollama.blobs[true] = raw
            if true != found[1]:
                raise Refused(400, f'digest mismatch, expected "sha256:{found[1]}", got "sha256:{true}"')
            self.send_bytes(201, b"", "text/plain")

        def send_parts(self, parts: Iterator[Json], *, stream: bool) -> None:
            if not stream:
                every = list(parts)
                for part in every:
                    if "error" in part:
                        raise Refused(500, part["error"])
                last = every[-1]
                if "message" in last:
                    last["message"] = says("".join(part["message"]["content"] for part in every))
                self.send_json(200, last)
                return
            self.send_response(200)
            self.send_header("Content-Type", "application/x-ndjson")
            self.send_header("Transfer-Encoding", "chunked")
            self.end_headers()
            for place, part in enumerate(parts):
                line = json.dumps(part, ensure_ascii=False).encode() + b"\n"
                if place == 1:
                    line = self.spoilt(line)
                self.send_piece(line)
            self.wfile.write(b"0\r\n\r\n")

        def spoilt(self, line: bytes) -> bytes:
            match ollama.misbehave:
                case "half_json":
                    return line[: len(line) // 2] + b"\n"
                case "bad_utf8":
                    return line.replace(b" says:", b" \xff\xfe:")
                case "event_line":
                    return b"event: execute\ndata: {}\n" + line
                case "huge_line":
                    for _ in range(64):
                        self.send_piece(b"x" * (1 << 20))
                case "hang":
                    ollama.release.wait()
                case "cut_mid_stream":
                    raise ConnectionResetError
                case _:
                    pass
            return line

        def send_piece(self, piece: bytes) -> None:
            self.wfile.write(b"%x\r\n%s\r\n" % (len(piece), piece))

        def send_json(self, status: int, value: Json) -> None:
            self.send_bytes(status, json.dumps(value).encode(), "application/json; charset=utf-8")

        def send_bytes(self, status: int, value: bytes, kind: str) -> None:
            self.send_response(status)
            self.send_header("Content-Type", kind)
            if ollama.misbehave == "cookie":
                self.send_header("Set-Cookie", "session=stolen; Path=/")
            self.send_header("Content-Length", str(len(value)))
            self.end_headers()
            if self.command != "HEAD":
                self.wfile.write(value)

    return Handler
