"""Ollama: what is sent, and what becomes of everything that a server can do wrong."""

from __future__ import annotations

import hashlib
import threading
import time
from dataclasses import replace

import ollama as ollama_client
import pytest

from tests.fakes.ollama_server import FakeOllama, Model
from trainer.runtimes.base import ChatOptions, RuntimeFailure, RuntimeUnavailable
from trainer.runtimes.ollama import OllamaRuntime
from trainer.spec import Message

HELLO = [Message(role="user", content="Hello there, you")]


def quiet(_status: str, _share: float | None) -> None:
    return


def said(runtime: OllamaRuntime, tag: str, **options) -> str:
    return "".join(chunk.text for chunk in runtime.chat(tag, HELLO, ChatOptions(**options)))


@pytest.fixture
def runtime(ollama):
    return OllamaRuntime(ollama.url)


@pytest.fixture
def model(ollama):
    ollama.models["ferry:v1"] = Model("0" * 64, 1)
    return "ferry:v1"


@pytest.mark.parametrize("version", ["0.24.0", "0.33.0", "0.34.1", "0.35.0"])
def test_what_is_published_is_the_file_with_its_settings(files, version):
    publication = replace(files.publication("ferry:v1"), system="You sell tickets.")
    with FakeOllama(version) as ollama:
        served = OllamaRuntime(ollama.url).publish(publication, quiet)

    sha = hashlib.sha256(files.merged.read_bytes()).hexdigest()
    create = next(request.body for request in ollama.requests if request.path == "/api/create")
    assert create == {
        "model": "ferry:v1",
        "files": {"model.gguf": f"sha256:{sha}"},
        "parameters": {"num_ctx": 512, "num_predict": 1024, "stop": ["<|im_end|>"]},
        "system": "You sell tickets.",
        "stream": True,
    }
    assert ollama.blobs[sha] == files.merged.read_bytes()
    assert served.size == files.merged.stat().st_size
    assert "num_ctx" in served.details["parameters"]


def test_the_base_itself_is_published_from_its_own_file(ollama, runtime, files):
    runtime.publish(files.base_publication("base-1"), quiet)

    assert hashlib.sha256(files.base.read_bytes()).hexdigest() in ollama.blobs
    create = next(request.body for request in ollama.requests if request.path == "/api/create")
    assert "template" not in create
    assert "system" not in create


def test_a_file_is_sent_once(ollama, runtime, files):
    for tag in ("ferry:v1", "ferry:v2"):
        runtime.publish(files.publication(tag), quiet)

    sent = [request for request in ollama.requests if request.path.startswith("/api/blobs/")]
    assert [request.method for request in sent] == ["HEAD", "POST", "HEAD"]


@pytest.mark.parametrize("form", ["merged", "adapter"])
def test_an_upload_that_broke_off_is_sent_again_from_its_beginning_and_only_until_it_is_there(files, monkeypatch, form):
    """Ollama's blobs have no ranges: there is nothing to go on from, and nothing of a half file is kept."""
    monkeypatch.setattr("trainer.runtimes.ollama.PIECE", 1024)
    publication, sent = files.publication("ferry:v1"), files.merged
    with FakeOllama("0.33.0") as ollama:
        runtime = OllamaRuntime(ollama.url)
        if form == "adapter":
            runtime.publish(files.base_publication("base-1"), quiet)
            publication, sent = files.on_base("ferry:v1"), files.adapter
        shares: list[float | None] = []
        ollama.misbehave = "blob_cut"
        with pytest.raises(RuntimeUnavailable, match="broke off"):
            runtime.publish(publication, lambda word, share: shares.append(share) if word == "uploading" else None)
        assert ollama.blobs.keys() <= {model.weights for model in ollama.models.values()} | {files.sha256}

        ollama.misbehave, ollama.requests = "", []
        shares.clear()
        runtime.publish(publication, lambda word, share: shares.append(share) if word == "uploading" else None)
        runtime.publish(publication, quiet)

    asked = [request for request in ollama.requests if request.path.startswith("/api/blobs/")]
    assert [request.method for request in asked] == ["HEAD", "POST", "HEAD"]
    assert int(asked[1].headers["Content-Length"]) == sent.stat().st_size
    assert not any("range" in name.lower() for name in asked[1].headers)
    assert shares == sorted(shares) and shares[0] < 0.2 and shares[-1] == 1.0


def test_a_damaged_file_is_never_sent(ollama, runtime, files, tmp_path):
    damaged = tmp_path / "damaged.gguf"
    damaged.write_bytes(files.merged.read_bytes()[:-1000])

    with pytest.raises(RuntimeFailure, match=r"damaged\.gguf"):
        runtime.publish(replace(files.publication("ferry:v1"), merged=damaged), quiet)

    assert not ollama.blobs


def test_an_unsafe_version_is_refused_and_an_old_one_warned_of(files):
    with FakeOllama("0.17.0") as ollama:
        runtime = OllamaRuntime(ollama.url)
        for call in (runtime.version, lambda: runtime.publish(files.publication("ferry:v1"), quiet)):
            with pytest.raises(RuntimeFailure, match=r"too old to be safe.*Update Ollama"):
                call()
        assert not ollama.blobs
    with FakeOllama("0.34.1") as ollama:
        assert "CVE-2026-103663" in OllamaRuntime(ollama.url).warnings()[0]
    with FakeOllama("0.35.0") as ollama:
        assert OllamaRuntime(ollama.url).warnings() == []


def test_an_answer_is_asked_for_with_everything_that_changes_it(ollama, runtime, model):
    said(runtime, model, seed=5, temperature=0.5, max_tokens=9, stop=("END",), context=1024)

    chat = ollama.requests[-1].body
    assert chat["options"] == {
        "seed": 5, "temperature": 0.5, "num_predict": 9, "num_ctx": 1024, "stop": ["END"],
        "top_k": 40, "top_p": 0.95, "min_p": 0.05, "repeat_penalty": 1.0,
    }  # fmt: skip
    assert "think" not in chat


def test_a_model_that_could_think_aloud_is_told_not_to(ollama, runtime, model):
    ollama.models[model].capabilities.append("thinking")

    said(runtime, model)

    assert ollama.requests[-1].body["think"] is False


def test_nothing_but_our_own_headers_goes_to_the_server(ollama, model):
    said(OllamaRuntime(ollama.url, "s3cret"), model)

    known = {
        "Host",
        "Accept",
        "Accept-Encoding",
        "Connection",
        "User-Agent",
        "Authorization",
        "Content-Length",
        "Content-Type",
    }
    for request in ollama.requests:
        assert set(request.headers) <= {name.lower() for name in known} | known


def test_a_proxys_path_stands_before_every_call_and_its_token_goes_with_each(ollama, files):
    ollama.prefix, ollama.token = "/models/ollama", "s3cret"
    runtime = OllamaRuntime(f"{ollama.url}/", "s3cret")

    runtime.publish(files.publication("ferry:v1"), quiet)
    runtime.copy("ferry:v1", "ferry:current")
    runtime.remove("ferry:v1")

    assert said(runtime, "ferry:current") == "ferry:current says: Hello there, you"
    assert {request.headers["Authorization"] for request in ollama.requests} == {"Bearer s3cret"}
    assert {request.path.split("/")[1] for request in ollama.requests} == {"api"}


def test_a_create_that_hangs_is_given_up_after_the_time_its_size_may_take(ollama, runtime, files):
    ollama.misbehave, runtime.idle_seconds = "hang", 0.2
    begun = time.monotonic()

    with pytest.raises(RuntimeUnavailable, match="gone silent"):
        runtime.publish(files.publication("ferry:v1"), quiet)

    assert time.monotonic() - begun < 5


def test_a_server_that_is_down_is_said_in_a_sentence(ollama, runtime, files, model):
    ollama.__exit__()

    for call in (runtime.version, lambda: runtime.publish(files.publication("v"), quiet), lambda: said(runtime, model)):
        with pytest.raises(RuntimeUnavailable, match=r"does not answer at http://127.*Start it.*nothing is lost"):
            call()


@pytest.mark.parametrize(
    ("misbehaviour", "sentence"),
    [
        ("status_500", "It says:.*exit status 1"),
        ("error_in_stream", "no space left on device"),
        ("stop_mid_stream", "'writing manifest' without an error.*Publish it again"),
        ("cut_mid_stream", "broke off"),
        ("half_json", "not JSON"),
        ("huge_line", "line of more than"),
        ("event_line", "not JSON"),
        ("redirect", "another address"),
        ("not_ollama", "is not Ollama"),
        ("wrong_file", "not from the file that was sent"),
        ("busy", "Ollama is busy"),
        ("blob_disk_full", "Ollama's disk is full. Make room"),
        ("blob_damaged", "damaged on its way.*again"),
    ],
)
def test_a_publication_that_goes_wrong_is_a_failure_in_plain_words(ollama, runtime, files, misbehaviour, sentence):
    ollama.misbehave = misbehaviour

    with pytest.raises(RuntimeFailure, match=sentence) as failure:
        runtime.publish(files.publication("ferry:v1"), quiet)

    assert "secret page" not in str(failure.value)
    assert "\x1b" not in str(failure.value)


@pytest.mark.parametrize(
    ("misbehaviour", "sentence"),
    [
        ("error_in_stream", "exit status 1"),
        ("stop_mid_stream", "broke the answer off"),
        ("cut_mid_stream", "broke off"),
        ("half_json", "not JSON"),
        ("huge_line", "line of more than"),
        ("event_line", "not JSON"),
        ("hang", "gone silent"),
    ],
)
def test_an_answer_that_goes_wrong_fails_after_what_was_said(ollama, runtime, model, misbehaviour, sentence):
    ollama.misbehave = misbehaviour
    runtime.idle_seconds = 0.2
    heard: list[str] = []

    with pytest.raises(RuntimeFailure, match=sentence):
        for chunk in runtime.chat(model, HELLO, ChatOptions()):
            heard.append(chunk.text)  # noqa: PERF401 - a comprehension would lose what came before the failure

    assert heard[0] == "ferry:v1"


def test_letters_that_are_no_utf8_do_not_stop_an_answer(ollama, runtime, model):
    ollama.misbehave = "bad_utf8"

    assert said(runtime, model) == "ferry:v1 ��: Hello there, you"


def test_closing_an_answer_closes_the_connection(ollama, runtime, model):
    ollama.endless = True

    answer = runtime.chat(model, HELLO, ChatOptions())
    next(answer)
    answer.close()

    assert ollama.gone.wait(2)


def test_a_wrong_token_is_said(ollama, runtime):
    ollama.token = "right"

    with pytest.raises(RuntimeFailure, match="refuses the token"):
        runtime.version()
    assert OllamaRuntime(ollama.url, "right").version() == "0.35.0"


@pytest.mark.parametrize("url", ["ollama", "ftp://ollama", "http://me:secret@ollama"])
def test_an_address_that_cannot_be_used_is_refused_without_repeating_it(url):
    with pytest.raises(RuntimeFailure, match="Ollama's address cannot be used") as failure:
        OllamaRuntime(url)
    assert "secret" not in str(failure.value)


def test_the_fake_speaks_with_ollamas_own_client(ollama, files):
    client = ollama_client.Client(ollama.url)

    digest = client.create_blob(files.merged)
    last = [part.status for part in client.create("m", files={"model.gguf": digest}, stream=True)][-1]

    assert last == "success"
    assert client.list().models[0].model == "m:latest"
    assert client.chat("m", [{"role": "user", "content": "hi"}]).message.content == "m says: hi"
    assert client.show("m").details.format == "gguf"
    with pytest.raises(ollama_client.ResponseError, match="no longer supported"):
        client.create("n", from_="m", adapters={"a.gguf": digest})
    client._client.close()


def test_two_answers_at_once_do_not_mix(ollama, runtime, model):
    answers: dict[int, str] = {}

    def one(number: int) -> None:
        turn = [Message(role="user", content=f"number {number}")]
        answers[number] = "".join(chunk.text for chunk in runtime.chat(model, turn, ChatOptions()))

    threads = [threading.Thread(target=one, args=[number]) for number in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert answers == {number: f"ferry:v1 says: number {number}" for number in range(8)}
