"""The outbound client: what it refuses to follow, send, keep and hold."""

from __future__ import annotations

import tracemalloc

import httpx
import pytest

from tests.fakes.ollama_server import FakeOllama
from trainer import net


@pytest.fixture
def server():
    with FakeOllama() as server:
        yield server


def answered(*pieces: bytes) -> httpx.Response:
    return httpx.Response(200, content=iter(pieces))


@pytest.mark.parametrize(
    "url",
    ["", "127.0.0.1:11434", "ftp://host", "file:///etc/passwd", "http://", "http://user@host", "http://a:b@host",
     "http://host/?x=1", "http://host/#x", "javascript:alert(1)", "http://[::1"],
)  # fmt: skip
def test_an_address_that_must_not_be_asked_is_refused(url):
    with pytest.raises(net.BadUrl, match=r"ddress"):
        net.client(url)


def test_a_redirect_is_not_followed(server):
    server.misbehave = "redirect"

    with net.client(server.url) as http:
        answer = net.fetch(http, "GET", "/api/version")

    assert answer.status == 302
    assert len(server.requests) == 1


def test_the_environment_has_no_say(server, monkeypatch, tmp_path):
    for name in ("HTTP_PROXY", "http_proxy", "ALL_PROXY"):
        monkeypatch.setenv(name, "http://127.0.0.1:9")
    (tmp_path / ".netrc").write_text("machine 127.0.0.1 login somebody password secret\n")
    monkeypatch.setenv("NETRC", str(tmp_path / ".netrc"))

    with net.client(server.url) as http:
        assert net.fetch(http, "GET", "/api/version").json() == {"version": "0.35.0"}

    assert "Authorization" not in server.requests[0].headers


def test_cookies_are_neither_kept_nor_sent(server):
    server.misbehave = "cookie"

    with net.client(server.url) as http:
        for _ in range(2):
            net.fetch(http, "GET", "/api/version")
        assert not list(http.cookies.jar)

    assert all("Cookie" not in request.headers for request in server.requests)


def test_a_token_goes_into_its_header_alone(server):
    with net.client(server.url, token="s3cret") as http:
        net.fetch(http, "GET", "/api/version")

    assert server.requests[0].headers["Authorization"] == "Bearer s3cret"
    assert "s3cret" not in server.requests[0].path


def test_lines_are_put_together_from_any_pieces():
    text = "eins\nzwei 两年\r\n\ndrei".encode()

    for size in (1, 2, 3, 7, 100):
        pieces = [text[at : at + size] for at in range(0, len(text), size)]
        assert list(net.lines(answered(*pieces))) == ["eins", "zwei 两年", "", "drei"]


def test_a_line_without_end_is_not_held_in_memory():
    endless = httpx.Response(200, content=(b"x" * 65536 for _ in range(1 << 14)))  # 1 GB
    tracemalloc.start()

    with pytest.raises(net.BadAnswer, match="line of more than 1024 kB"):
        list(net.lines(endless))

    assert tracemalloc.get_traced_memory()[1] < 8 << 20
    tracemalloc.stop()


def test_a_stream_without_end_is_cut():
    with pytest.raises(net.BadAnswer, match="did not come to an end"):
        for _ in net.lines(httpx.Response(200, content=(b"x" * 65535 + b"\n" for _ in range(1 << 20)))):
            pass


def test_a_body_without_end_is_cut():
    with pytest.raises(net.BadAnswer, match="more than 16 MB"):
        net.read(httpx.Response(200, content=(b"x" * 65536 for _ in range(1 << 20))))


def test_letters_that_are_no_utf8_are_replaced():
    assert list(net.ndjson(answered(b'{"a": "\xff\xfe!"}\n'))) == [{"a": "��!"}]


@pytest.mark.parametrize("line", [b"{", b"[]", b"1", b"[" * 100_000, b"data: {}", b'{"a": NaN}x'])
def test_lines_that_are_no_json_object_are_refused(line):
    with pytest.raises(net.BadAnswer):
        list(net.ndjson(answered(line + b"\n")))


def test_a_number_of_5000_digits_is_refused():
    with pytest.raises(net.BadAnswer, match="not JSON"):
        list(net.ndjson(answered(b'{"a": ' + b"9" * 5000 + b"}\n")))


def test_events_are_read_over_and_the_end_is_awaited():
    stream = (
        b'event: execute\nid: 1\n: ping\ndata: {"a": 1}\n\nerror: {"code": 500}\n\ndata: [DONE]\n\ndata: {"b": 2}\n\n'
    )

    assert list(net.sse(answered(stream))) == [{"a": 1}, {"error": {"code": 500}}]
    with pytest.raises(net.BadAnswer, match="broke off"):
        list(net.sse(answered(b'data: {"a": 1}\n\n')))


def test_silence_in_the_middle_ends_the_wait_though_the_first_word_may_take_longer(server):
    server.models["m:latest"] = _model()
    server.misbehave = "hang"
    body = {"model": "m", "messages": [{"role": "user", "content": "one two"}]}

    with net.client(server.url) as http, net.stream(http, "/api/chat", body, first=30, idle=0.05) as response:
        parts = net.ndjson(response)
        assert next(parts)["message"]["content"] == "m"
        with pytest.raises(httpx.ReadTimeout):
            next(parts)


def _model():
    from tests.fakes.ollama_server import Model

    return Model("0" * 64, 1)
