"""A server that speaks OpenAI's chat API as LiteLLM, One-API and vLLM do, and can misbehave as they and worse do.

    with FakeOpenAI(answers={"gpt-4o": "Yes."}) as server: OpenAIServer(server.url, "key")

`requests` holds what came in; `gone` is set when somebody left in the middle of an answer.
"""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, Self

Json = dict[str, Any]  # Any: JSON
REFUSALS = {
    "not_found": (404, '{"detail":"Not Found"}'),
    "busy": (429, '{"error":{"message":"Rate limit reached","type":"requests"}}'),
    "broken_inside": (502, "<html>Bad Gateway: secret page</html>"),
    "refuses": (400, '{"error":{"message":"temperature\\u0000 does not\\nsupport 0","type":"invalid_request_error"}}'),
    "refuses_in_html": (400, "<html>secret page</html>"),
}


def line(part: Json | str) -> str:
    return f"data: {part if isinstance(part, str) else json.dumps(part)}\n\n"


def delta(finish: str | None = None, **said: Any) -> Json:
    return {"object": "chat.completion.chunk", "choices": [{"index": 0, "delta": said, "finish_reason": finish}]}


class FakeOpenAI:
    """One server with models by name. Set `misbehave` to a word of this file to see it go wrong."""

    def __init__(self, answers: dict[str, str] | None = None, token: str = "") -> None:
        self.answers = answers if answers is not None else {"gpt-4o": "Dogs travel free."}
        self.token = token
        self.misbehave = ""
        self.requests: list[tuple[str, Json, dict[str, str]]] = []
        self.gone, self.go_on = threading.Event(), threading.Event()
        self.server = ThreadingHTTPServer(("127.0.0.1", 0), _handler(self))
        self.server.daemon_threads = True

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server.server_address[1]}/v1"

    def __enter__(self) -> Self:
        threading.Thread(target=self.server.serve_forever, args=[0.01], daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        self.go_on.set()
        self.server.shutdown()
        self.server.server_close()

    def stream(self, body: Json) -> Iterator[str]:
        """Write an answer as events, the way that `misbehave` says."""
        words = self.answers[body["model"]].split(" ")
        pieces = [word if place == 0 else f" {word}" for place, word in enumerate(words)]
        yield ": keep-alive\n\n"
        yield line(delta(role="assistant", content=""))
        match self.misbehave:
            case "half_json":
                yield line('{"choices": [{"delta": {"content": "Dogs')
            case "names_events":
                yield "".join(f"event: message\nid: 7\nretry: 1\n{line(delta(content=piece))}" for piece in pieces)
                yield "event: end\n" + line(delta("stop")) + line("[DONE]")
            case "no_done":
                yield "".join(line(delta(content=piece)) for piece in pieces) + line(delta("stop"))
            case "cut":
                yield "".join(line(delta(content=piece)) for piece in pieces)
            case "thinks":
                yield line(delta(reasoning_content="Let me see. ", content=None)) + line(delta(reasoning="Hm."))
                yield "".join(line(delta(content=piece)) for piece in pieces) + line(delta("stop")) + line("[DONE]")
            case "only_thinks":
                yield line(delta(reasoning_content="Let me see. ")) + line(delta("length")) + line("[DONE]")
            case "error_inside":
                yield line(delta(content="Dogs")) + line({"error": {"message": "upstream \x1b[31mfailed", "code": 500}})
            case "odd_kinds":
                yield line({"choices": "none", "usage": []}) + line(
                    {"choices": [None, {"delta": "x"}, {"delta": None}]}
                )
                yield line(delta(content=["a", "list"])) + line(delta("stop", content="Dogs.")) + line("[DONE]")
            case "endless_line":
                yield "data: "
                while not self.gone.is_set():
                    yield "x" * 65536
            case "silent":
                yield line(delta(content="Dogs"))
                self.go_on.wait(20)
                while not self.gone.is_set():
                    yield line(delta(content=" travel"))
            case _:
                yield "".join(line(delta(content=piece)) for piece in pieces) + line(delta("stop"))
                yield line({"choices": [], "usage": {"completion_tokens": len(pieces)}}) + line("[DONE]")


def _handler(fake: FakeOpenAI) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        def log_message(self, *_: object) -> None:
            return

        def do_GET(self) -> None:
            if self.wrong_at_once({}):
                return
            names: Any = [{"id": name, "object": "model", "owned_by": "somebody"} for name in fake.answers]
            if fake.misbehave == "odd_list":
                names = [*names, None, "x", {"id": None}, {"id": 7}, {"id": "a\nb"}, {"id": "x" * 300}, {"id": " "}]
            data: Any = {"object": "list", "data": names}
            self.send(200, json.dumps("no list" if fake.misbehave == "no_list" else data))

        def do_POST(self) -> None:
            body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
            if self.wrong_at_once(body):
                return
            if body["model"] not in fake.answers:
                self.send(404, json.dumps({"error": {"message": "The model does not exist", "type": "not_found"}}))
                return
            self.send_response(200)
            self.send_header("Content-Type", "text/event-stream")
            self.end_headers()
            try:
                for text in fake.stream(body):
                    self.wfile.write(text.encode())
                    self.wfile.flush()
            except (BrokenPipeError, ConnectionResetError):
                fake.gone.set()

        def wrong_at_once(self, body: Json) -> bool:
            fake.requests.append((self.path, body, dict(self.headers)))
            if fake.token and self.headers.get("Authorization") != f"Bearer {fake.token}":
                self.send(401, '{"error":{"message":"Incorrect API key: sk-secret"}}')
            elif fake.misbehave == "redirect":
                self.send_response(302)
                self.send_header("Location", "http://169.254.169.254/latest/meta-data/")
                self.end_headers()
            elif fake.misbehave in REFUSALS:
                self.send(*REFUSALS[fake.misbehave])
            elif not self.path.startswith("/v1/"):
                self.send(404, "nothing here")
            else:
                return False
            return True

        def send(self, status: int, text: str) -> None:
            self.send_response(status)
            self.send_header("Content-Type", "application/json")
            self.end_headers()
            self.wfile.write(text.encode())

    return Handler
