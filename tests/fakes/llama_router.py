"""llama-server's router mode in front of real llama.cpp servers, one a model, as llama.cpp's server-models.cpp does it.

    with LlamaRouter(folder, key="secret") as router: router.url

xllamacpp cannot be the router itself, because that one starts its own program again. `old`: from before `?reload=1`.
`refuses` names a model whose child ends with code 1. `requests` holds what came in.
"""

from __future__ import annotations

import json
import threading
from contextlib import ExitStack
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any, Self
from urllib.parse import parse_qs, urlsplit

import httpx

from tests.trainer.llama_servers import llama_server

Json = dict[str, Any]  # Any: JSON


class Model:
    """One file of the folder, and its child while it has one."""

    def __init__(self, file: Path) -> None:
        self.file = file
        self.state = "unloaded"
        self.exit_code = 0
        self.child = ExitStack()
        self.http: httpx.Client | None = None


class LlamaRouter:
    """A router over a folder."""

    def __init__(self, folder: Path, key: str = "", template: str = "") -> None:
        self.folder, self.key, self.template = folder, key, template
        self.old, self.refuses = False, ""
        self.requests: list[str] = []
        self.lock = threading.RLock()
        self.models: dict[str, Model] = {}
        self.scan()
        self.server = ThreadingHTTPServer(("127.0.0.1", 0), _handler(self))
        self.server.daemon_threads = True

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server.server_address[1]}"

    def __enter__(self) -> Self:
        threading.Thread(target=self.server.serve_forever, args=[0.01], daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        self.server.shutdown()
        self.server.server_close()
        for model in self.models.values():
            model.child.close()

    def scan(self) -> None:
        """Look into the folder: what is gone is ended, what is new is listed; a running model is left as it is."""
        with self.lock:
            found = {file.name.replace(".gguf", ""): file for file in self.folder.iterdir() if file.suffix == ".gguf"}
            for name in set(self.models) - set(found):
                self.models.pop(name).child.close()
            for name in set(found) - set(self.models):
                self.models[name] = Model(found[name])

    def load(self, name: str) -> None:
        with self.lock:
            model = self.models[name]
            if model.state != "unloaded":
                return
            model.state, model.exit_code = "loading", 0
        threading.Thread(target=self._start, args=[name, model]).start()

    def _start(self, name: str, model: Model) -> None:
        if name == self.refuses:
            model.exit_code, model.state = 1, "unloaded"
            return
        running = model.child.enter_context(llama_server(model.file, alias=name, template=self.template))
        model.http = model.child.enter_context(httpx.Client(base_url=running.url, timeout=60))
        model.state = "loaded"

    def unload(self, model: Model) -> None:
        model.child.close()
        model.child, model.state, model.http = ExitStack(), "unloaded", None

    def listed(self, name: str, model: Model) -> Json:
        status: Json = {"value": model.state, "args": ["llama-server"]}
        if model.exit_code:
            status |= {"failed": True, "exit_code": model.exit_code}
        told = model.http.get("/v1/models").json()["data"][0] if model.http else {}
        meta = {"meta": told["meta"]} if told else {}
        return {"id": name, "aliases": [], "object": "model", "owned_by": "llamacpp", "status": status, **meta}


def _handler(router: LlamaRouter) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        def log_message(self, *_: object) -> None:
            return

        def do_GET(self) -> None:
            asked = urlsplit(self.path)
            if self.refused():
                return
            if asked.path == "/props" and not asked.query:
                self.send(200, {"role": "router", "build_info": "b11434-c0ffee", "model_path": "none"})
            elif asked.path in ("/models", "/v1/models"):
                if "reload" in parse_qs(asked.query) and not router.old:
                    router.scan()
                with router.lock:
                    self.send(200, {"data": [router.listed(*one) for one in router.models.items()], "object": "list"})
            else:
                self.send(400, error("model name is missing from the request", 400))

        def do_POST(self) -> None:
            body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
            if self.refused():
                return
            name = str(body.get("model", ""))
            model = router.models.get(name)
            if self.path == "/models/load":
                if model and model.state == "unloaded":
                    router.load(name)
                    self.send(200, {"success": True})
                else:
                    self.send(400 if model else 404, error("model is already running or not found", 400))
            elif self.path == "/models/unload":
                if model and model.state == "loaded":
                    router.unload(model)
                    self.send(200, {"success": True})
                else:
                    self.send(400, error("model is not running", 400))
            elif model is None or model.http is None:
                self.send(400, error(f"model '{name}' not found", 400))
            else:
                self.proxy(model.http, body)

        def proxy(self, http: httpx.Client, body: Json) -> None:
            with http.stream("POST", self.path, json=body) as answer:
                self.send_response(answer.status_code)
                self.send_header("Content-Type", answer.headers["Content-Type"])
                self.end_headers()
                try:
                    for piece in answer.iter_raw():
                        self.wfile.write(piece)
                        self.wfile.flush()
                except (BrokenPipeError, ConnectionResetError):
                    return

        def refused(self) -> bool:
            router.requests.append(f"{self.command} {self.path}")
            if router.key and self.headers.get("Authorization") != f"Bearer {router.key}":
                self.send(401, error("Invalid API Key", 401))
                return True
            return False

        def send(self, status: int, body: Json) -> None:
            self.send_response(status)
            self.send_header("Content-Type", "application/json")
            self.end_headers()
            self.wfile.write(json.dumps(body).encode())

    return Handler


def error(message: str, code: int) -> Json:
    return {"error": {"code": code, "message": message, "type": "invalid_request_error"}}
