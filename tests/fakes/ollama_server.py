"""An Ollama that never runs a model: its HTTP interface, its answers and its errors, version by version.

    with FakeOllama("0.35.0") as ollama:
        OllamaRuntime(ollama.url)

Written from server/routes.go, server/create.go and server/images.go of Ollama 0.24 to 0.35, condensed in the
project's facts. A chat answers "<model> says: <last message>", a word a frame. `misbehave` makes it do one
thing wrong; `release` lets a hanging answer go.
"""

from __future__ import annotations

import hashlib
import json
import re
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from http.server import ThreadingHTTPServer
from typing import Literal, Self

from tests.fakes.ollama_blobs import read, refused_by_engine
from tests.fakes.ollama_http import Json, Refused, Request, full, handler, says, valid
from tests.fakes.ollama_prompt import chat_template, prompt_of

Version = Literal["0.17.0", "0.24.0", "0.30.0", "0.33.0", "0.34.1", "0.35.0"]
Misbehaviour = Literal[
    "",
    "status_500",  # every call
    "busy",  # every call
    "redirect",
    "not_ollama",
    "cookie",
    "error_in_stream",  # create and chat: HTTP 200, then an error line
    "stop_mid_stream",  # the stream ends in order, too early
    "cut_mid_stream",  # the connection is cut
    "half_json",
    "bad_utf8",
    "huge_line",
    "event_line",
    "hang",
    "blob_disk_full",
    "blob_cut",  # the connection ends in the middle of a file
    "blob_damaged",  # on its way here
    "wrong_file",  # create: another file than the one that was sent
    "adapter_ignored",  # chat: as if there were none
    "extra_adapter",  # create: twice what was asked for
]
CHATML = "<|im_start|>"


@dataclass
class Model:
    """A manifest: its layers and what it was created with."""

    weights: str
    size: int
    adapters: list[str] = field(default_factory=list)
    template: str = ""  # Go's; "chatml" is the known one of that name
    jinja: str = ""  # the GGUF's own
    system: str = ""
    renderer: str = ""  # one of Ollama's own, before which no template counts; who is made from it has it for ever
    parameters: Json = field(default_factory=dict)
    capabilities: list[str] = field(default_factory=lambda: ["completion"])

    @property
    def digest(self) -> str:
        return hashlib.sha256(repr(self).encode()).hexdigest()


class FakeOllama:
    """The server and all it knows; use it in a `with`."""

    def __init__(self, version: Version = "0.35.0") -> None:
        self.version = version
        self.told_version: str | None = None  # what it calls itself, if that is something else
        self.blobs: dict[str, bytes] = {}
        self.models: dict[str, Model] = {}
        self.loaded: dict[str, str] = {}  # the weights' digest → the model that has its one runner
        self.loads = 0
        self.requests: list[Request] = []
        self.pulls: list[str] = []  # names that it had to fetch from outside
        self.misbehave: Misbehaviour = ""
        self.release = threading.Event()
        self.gone = threading.Event()  # set when a client left in the middle of a stream
        self.endless = False
        self.token = ""
        self.stranger = False  # takes no template for one it knows
        self.prefix = ""  # a proxy's path in front of everything
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), handler(self))
        self._server.daemon_threads = True
        self._thread = threading.Thread(target=self._server.serve_forever, args=[0.01], daemon=True)

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self._server.server_address[1]}{self.prefix}"

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.release.set()
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()

    @property
    def version_text(self) -> str:
        return self.version if self.told_version is None else self.told_version

    @property
    def numbers(self) -> tuple[int, ...]:
        return tuple(int(part) for part in self.version.split("."))

    @property
    def takes_adapters(self) -> bool:
        return self.numbers < (0, 34, 1)

    def get(self, name: str) -> Model:
        found = self.models.get(full(name))
        if found is None:
            raise Refused(404, f'model "{name}" not found')
        return found

    def drop(self, name: str) -> None:
        """Forget a name, and the files that no other one has."""
        gone = self.get(name)
        del self.models[full(name)]
        held = {layer for model in self.models.values() for layer in (model.weights, *model.adapters)}
        for layer in {gone.weights, *gone.adapters} - held:
            self.blobs.pop(layer, None)

    def create(self, body: Json) -> Iterator[Json]:
        """Check the request at once, then answer the status lines."""
        if not body:
            raise Refused(400, "missing request body")
        name = str(body.get("model") or body.get("name") or "")
        if not valid(name):
            raise Refused(400, "invalid model name")
        files, adapters = body.get("files") or {}, body.get("adapters") or {}
        for key in (*files, *adapters):
            if key.startswith("/") or ".." in key.split("/") or (not self.takes_adapters and set(key) & set("\\:")):
                raise Refused(400, "file path must be relative")
        parameters = dict(body.get("parameters") or {})
        if not self.takes_adapters:
            if adapters:
                raise Refused(400, "LoRA adapters are no longer supported")
            if body.get("quantize") and not any(key.endswith(".safetensors") for key in files):
                raise Refused(
                    400,
                    "create-time quantization is only supported for safetensors imports; "
                    "quantize GGUF models with llama.cpp tools before importing",
                )
            if "typical_p" in parameters:
                raise Refused(400, 'unknown parameter "typical_p"')
        if source := body.get("from"):
            if full(source) not in self.models:
                self.pulls.append(source)
                raise Refused(500, "pull model manifest: file does not exist")
            base = self.get(source)
            model = replace(base, adapters=[*base.adapters], parameters=dict(base.parameters))
        elif files:
            model = self._from_files(files)
        else:
            raise Refused(400, "neither 'from' or 'files' was specified")
        if len(adapters) > 1:
            raise Refused(400, "only one adapter is currently supported")
        for digest in adapters.values():
            self._add(model, self._sent(digest, 400))
        if self.misbehave == "extra_adapter":
            model.adapters *= 2
        model.parameters |= parameters
        model.template = body.get("template") or model.template
        model.system = body.get("system") or model.system
        return self._statuses(name, model, from_files=bool(files and not body.get("from")))

    def chat(self, body: Json) -> Iterator[Json]:
        """Answer a chat's frames."""
        name = str(body.get("model", ""))
        model = self.get(name)
        if body.get("think") and "thinking" not in model.capabilities:
            raise Refused(400, f'"{name}" does not support thinking')
        messages, options = body.get("messages") or [], body.get("options") or {}
        adapters = [self.blobs.get(adapter, b"") for adapter in model.adapters]
        if refusal := refused_by_engine(self.blobs.get(model.weights, b""), adapters, self.numbers):
            raise Refused(500, refusal)
        frame = {"model": name, "created_at": "2026-10-01T00:00:00Z"}
        if not messages:
            unload = body.get("keep_alive") == 0
            reason = "unload" if unload else "load"
            self.loaded.pop(model.weights, None) if unload else self._load(name, model)
            return iter([{**frame, "message": says(""), "done": True, "done_reason": reason}])
        self._load(name, model)
        if body.get("_debug_render_only"):
            rendered = {"rendered_template": prompt_of(model, messages, reads_jinja=self.numbers >= (0, 30, 0))}
            return iter([{**frame, "message": says(""), "done": True, "_debug_info": rendered}])
        speaker = model.weights[:8] if self.misbehave == "adapter_ignored" else name
        return self._answer(frame, speaker, str(messages[-1]["content"]), options)

    def show(self, name: str) -> Json:
        model = self.get(name)
        lines = [
            f"{key:<30} {json.dumps(item) if isinstance(item, str) else item}"
            for key, value in model.parameters.items()
            for item in (value if isinstance(value, list) else [value])
        ]
        weights = read(self.blobs.get(model.weights, b""))
        store = "/usr/share/ollama/.ollama/models/blobs/sha256-"
        adapters = "".join(f"ADAPTER {store}{adapter}\n" for adapter in model.adapters)
        adapters += f"RENDERER {model.renderer}\n" * bool(model.renderer)
        return {
            "modelfile": f'# Modelfile generated by "ollama show"\n\nFROM {store}{model.weights}\n{adapters}',
            "parameters": "\n".join(lines),
            "template": model.template or "{{ .Prompt }}",
            "system": model.system,
            "details": _details(),
            "model_info": weights.model_info(),
            "tensors": weights.listed(),
            "capabilities": model.capabilities,
            "modified_at": "2026-10-01T00:00:00Z",
        }

    def listed(self) -> list[Json]:
        return [
            {"name": name, "model": name, "size": model.size, "digest": model.digest, "details": _details()}
            for name, model in self.models.items()
        ]

    def _from_files(self, files: Json) -> Model:
        model = Model("", 0)
        for digest in files.values():
            self._add(model, self._sent(digest, 500))
        content = self.blobs.get(model.weights, b"")
        model.jinja = chat_template(content)
        if model.jinja and not self.stranger and CHATML in model.jinja:
            model.template = "chatml"
        if (0, 30, 0) <= self.numbers < (0, 34, 1):  # llama-quantize COPY writes another file
            model.weights = hashlib.sha256(b"copy of " + model.weights.encode()).hexdigest()
            self.blobs[model.weights] = content
        if self.misbehave == "wrong_file":
            model.weights = "0" * 64
        return model

    def _sent(self, digest: str, status: int) -> str:
        """Answer the hex of a file that was uploaded before."""
        found = self.blobs.get(digest.removeprefix("sha256:"))
        if found is None:
            raise Refused(status, f"open /models/blobs/{digest.replace(':', '-')}: no such file or directory")
        if not found.startswith(b"GGUF"):
            raise Refused(400, "supplied file was not in GGUF format" if status == 400 else "unknown type")
        return digest.removeprefix("sha256:")

    def _add(self, model: Model, sha: str) -> None:
        """Add a file to a model. What kind of layer it is says the file; nothing else about it is looked at."""
        model.size += len(self.blobs[sha])
        if not read(self.blobs[sha]).is_adapter:
            model.weights = sha
        elif self.takes_adapters:
            model.adapters.append(sha)
        else:
            raise Refused(400, "LoRA adapters are no longer supported")

    def _statuses(self, name: str, model: Model, *, from_files: bool) -> Iterator[Json]:
        yield {"status": "parsing GGUF"}
        if self.misbehave == "error_in_stream":
            yield {"error": "write /models/blobs/sha256-1: no space left on device"}
            return
        if from_files and self.takes_adapters:
            if model.template:
                yield {"status": f"using autodetected template {model.template}"}
            if self.numbers >= (0, 30, 0):
                for done in (0, model.size):
                    digest = f"sha256:{'0' * 64}"
                    yield {"status": "validating GGUF model", "digest": digest, "total": model.size, "completed": done}
                yield {"status": "verifying conversion"}
            yield {"status": f"using existing layer sha256:{model.weights}"}
        yield {"status": "writing manifest"}
        if self.misbehave == "stop_mid_stream":
            return
        self.models[full(name)] = model
        yield {"status": "success"}

    def _answer(self, frame: Json, name: str, question: str, options: Json) -> Iterator[Json]:
        words = re.findall(r"\s*\S+", f"{name} says: {question}")
        limit = options.get("num_predict", -1)
        reason = "stop" if limit < 0 or len(words) <= limit else "length"
        words = words if limit < 0 else words[:limit]
        for place, word in enumerate(words):
            if self.misbehave in ("error_in_stream", "stop_mid_stream") and place == 2:
                if self.misbehave == "error_in_stream":
                    yield {"error": "llama-server process has terminated: exit status 1"}
                return
            yield {**frame, "message": says(word), "done": False}
        while self.endless:
            yield {**frame, "message": says(" and so on"), "done": False}
        times = {"total_duration": 3_000_000, "load_duration": 1_000_000, "prompt_eval_duration": 1_000_000}
        counts = {"prompt_eval_count": 9, "eval_count": len(words), "eval_duration": 1_000_000 * len(words)}
        yield {**frame, "message": says(""), "done": True, "done_reason": reason, **times, **counts}

    def _load(self, name: str, model: Model) -> None:
        """Keep one runner per weights file, whatever the adapters: base and tuned model take turns."""
        if self.loaded.get(model.weights) != name:
            self.loads += 1
            self.loaded[model.weights] = name
            while len(self.loaded) > 3:
                self.loaded.pop(next(iter(self.loaded)))


def _details() -> Json:
    return {
        "parent_model": "",
        "format": "gguf",
        "family": "llama",
        "families": ["llama"],
        "parameter_size": "134.52M",
        "quantization_level": "Q8_0",
    }
