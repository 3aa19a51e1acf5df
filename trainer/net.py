"""The one place that makes an HTTP client, and the only way anything leaves this process.

No redirects (but for public downloads), no proxies or keys from the environment, no cookies, no compression, a limit
on every wait and on every byte count. A server that was configured may still be broken or taken over.
"""

from __future__ import annotations

import ipaddress
import json
from collections.abc import Generator, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from http.cookiejar import CookieJar, DefaultCookiePolicy
from typing import Any

import httpx

CONNECT_SECONDS = 5.0
FIRST_SECONDS = 300.0
"""Until an answer begins: a large model is loaded and a long prompt is read before the first word."""
IDLE_SECONDS = 30.0
"""Between two pieces of an answer."""
MAX_LINE = 1 << 20
MAX_BODY = 16 << 20
MAX_STREAM = 256 << 20
MAX_REDIRECTS = 5

Json = dict[str, Any]  # Any: a JSON object from outside; readers check what they take


class BadUrl(ValueError):  # noqa: N818 - named as people say it, like curator.errors
    """An address that must not be asked; the text is a sentence for people."""


class BadAnswer(Exception):  # noqa: N818 - named as people say it, like curator.errors
    """A server sent something that is not what it promised; the text is a sentence for people."""


@dataclass(frozen=True)
class Answer:
    """A whole, bounded answer."""

    status: int
    body: bytes

    @property
    def ok(self) -> bool:
        return 200 <= self.status < 300

    def json(self) -> Json:
        """Read the body as one JSON object, or raise BadAnswer."""
        return _object(self.body.decode("utf-8", "replace"))

    def any_json(self) -> Any:  # Any: JSON from outside, of whatever kind
        """Read the body as JSON, or raise BadAnswer."""
        return _read(self.body.decode("utf-8", "replace"))


def checked_url(url: str) -> str:
    """Answer a server's address without its last slash, or raise BadUrl."""
    try:
        parsed = httpx.URL(url.strip())
    except httpx.InvalidURL:
        raise BadUrl("This is not an address. Write one like http://127.0.0.1:11434.") from None
    if parsed.scheme not in ("http", "https") or not parsed.host:
        raise BadUrl("An address starts with http:// or https://. Write one like http://127.0.0.1:11434.")
    if parsed.userinfo:
        raise BadUrl("An address must not hold a name or password. Give the token by itself.")
    if parsed.query or parsed.fragment:
        raise BadUrl("An address ends before any ? or #. Write one like http://127.0.0.1:11434.")
    return str(parsed).rstrip("/")


def is_local(url: str) -> bool:
    """Tell whether an address means this machine, so that what is sent there does not leave it."""
    host = httpx.URL(url).host
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def client(base_url: str, *, token: str | None = None, timeout: float = FIRST_SECONDS) -> httpx.Client:
    """Make a client for one server. `timeout` is the longest silence, in seconds.

    A connection is used once: an old one may be closed by the server just as it is used again.
    """
    url = checked_url(base_url)
    headers = {"Accept-Encoding": "identity", "User-Agent": "curator"}
    if token:
        headers["Authorization"] = f"Bearer {token}"
    return httpx.Client(
        base_url=url,
        headers=headers,
        cookies=CookieJar(DefaultCookiePolicy(allowed_domains=[])),
        follow_redirects=False,
        trust_env=False,
        timeout=httpx.Timeout(timeout, connect=CONNECT_SECONDS),
        limits=httpx.Limits(max_connections=4, max_keepalive_connections=0),
        verify=url.startswith("https:"),  # plain http needs no certificates, and loading them takes 20 ms
    )


def fetch(http: httpx.Client, method: str, path: str, body: object = None) -> Answer:
    """Send JSON, or nothing, and read a whole answer of at most 16 MB. Raises httpx.TransportError, BadAnswer."""
    request = http.build_request(method, path, json=body)
    response = http.send(request, stream=True)
    try:
        return read(response)
    finally:
        response.close()


def read(response: httpx.Response, limit: int = MAX_BODY) -> Answer:
    """Read the rest of an answer, or raise BadAnswer when it is larger than `limit` bytes."""
    pieces: list[bytes] = []
    size = 0
    for piece in response.iter_raw():
        size += len(piece)
        if size > limit:
            raise BadAnswer(f"The server sent more than {limit >> 20} MB where a short answer was due.")
        pieces.append(piece)
    return Answer(response.status_code, b"".join(pieces))


@contextmanager
def stream(
    http: httpx.Client, path: str, body: object, *, first: float = FIRST_SECONDS, idle: float = IDLE_SECONDS
) -> Generator[httpx.Response]:
    """Post JSON and yield the answer while it comes; leaving the block ends it at the server too.

    `first` seconds may pass until it begins, `idle` between two pieces.
    """
    request = http.build_request("POST", path, json=body)
    waits: dict[str, float | None] = request.extensions["timeout"]
    waits["read"] = first
    response = http.send(request, stream=True)
    waits["read"] = idle  # httpcore looks it up again when the body begins
    try:
        yield response
    finally:
        response.close()


@contextmanager
def download(url: str, headers: Mapping[str, str] | None = None) -> Generator[httpx.Response]:
    """Yield the answer to a GET while it comes, after at most five redirects, never from https to http.

    For public files alone: nothing secret is sent, so whoever is named in between may see the question. How much
    may come is for the caller to say, who knows the file's size.
    """
    asked = httpx.URL(url)
    for _ in range(MAX_REDIRECTS):
        with client(f"{asked.scheme}://{asked.netloc.decode()}", timeout=IDLE_SECONDS) as http:
            response = http.send(http.build_request("GET", asked, headers=dict(headers or {})), stream=True)
            try:
                if not response.has_redirect_location:
                    yield response
                    return
            finally:
                response.close()
        further = asked.join(response.headers["Location"])
        if asked.scheme == "https" and further.scheme != "https":
            raise BadAnswer("The server sends us on to an address without encryption.")
        asked = further
    raise BadAnswer("The server sends us from one address to the next without end.")


def lines(response: httpx.Response, limit: int = MAX_LINE) -> Iterator[str]:
    """Yield an answer's lines as they come, without their ends; bytes that are no UTF-8 become U+FFFD.

    Raises BadAnswer for a line over `limit` bytes, of which no more than that is ever held.
    """
    rest = bytearray()
    total = 0
    for piece in response.iter_raw():
        total += len(piece)
        start = 0
        while (end := piece.find(b"\n", start)) >= 0:
            rest += piece[start:end]
            _check_size(len(rest), total, limit)
            yield rest.decode("utf-8", "replace").removesuffix("\r")
            rest.clear()
            start = end + 1
        rest += piece[start:]
        _check_size(len(rest), total, limit)
    if rest:
        yield rest.decode("utf-8", "replace").removesuffix("\r")


def ndjson(response: httpx.Response) -> Iterator[Json]:
    """Yield the JSON objects of a stream with one a line."""
    for line in lines(response):
        if line.strip():
            yield _object(line)


def sse(response: httpx.Response) -> Iterator[Json]:
    """Yield the JSON objects of an event stream's `data:` lines until `[DONE]`, or raise BadAnswer if that is missing.

    Names of events are read over: no server decides what happens here. OpenAI's and llama.cpp's streams put
    one object on one line; llama.cpp reports failures as `error:` lines.
    """
    for line in lines(response):
        name, _, value = line.partition(":")
        value = value.strip()
        if name == "data" and value == "[DONE]":
            return
        if name == "data":
            yield _object(value)
        elif name == "error":
            yield {"error": _object(value)}
    raise BadAnswer("The server's answer broke off before its end.")


def _read(text: str) -> Any:  # Any: as any_json()
    try:
        return json.loads(text)
    except (ValueError, RecursionError):
        raise BadAnswer("The server sent something that is not JSON.") from None


def _object(text: str) -> Json:
    value = _read(text)
    if not isinstance(value, dict):
        raise BadAnswer("The server sent JSON of an unexpected kind.")
    return value


def _check_size(line: int, total: int, limit: int) -> None:
    if line > limit:
        raise BadAnswer(f"The server sent a line of more than {limit >> 10} kB.")
    if total > MAX_STREAM:
        raise BadAnswer(f"The server sent more than {MAX_STREAM >> 20} MB and did not come to an end.")
