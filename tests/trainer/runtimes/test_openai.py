"""A server that is only compared with: what is sent, what is read, and every way in which it goes wrong."""

from __future__ import annotations

import itertools
from collections.abc import Iterator

import pytest

from tests.fakes.openai_server import FakeOpenAI
from tests.trainer.llama_servers import llama_server
from trainer.runtimes.base import ChatOptions, ModelMissing, RuntimeFailure, RuntimeUnavailable
from trainer.runtimes.openai import OpenAIServer
from trainer.spec import Message

ASKED = [Message(role="system", content="Be brief."), Message(role="user", content="Are dogs free?")]
OPTIONS = ChatOptions(seed=5, max_tokens=40)


@pytest.fixture
def fake() -> Iterator[FakeOpenAI]:
    with FakeOpenAI() as fake:
        yield fake


def said(server: OpenAIServer, name: str = "gpt-4o") -> str:
    return "".join(chunk.text for chunk in server.chat(name, ASKED, OPTIONS))


def test_it_lists_names_and_streams_an_answer(fake):
    server = OpenAIServer(fake.url)

    assert server.models() == ["gpt-4o"]
    chunks = list(server.chat("gpt-4o", ASKED, OPTIONS))

    assert [chunk.text for chunk in chunks] == ["Dogs", " travel", " free.", ""]
    assert (chunks[-1].finish, chunks[-1].tokens) == ("stop", 3)


def test_what_decides_an_answer_is_sent_and_the_key_with_it(fake):
    fake.token = "sk-1"

    said(OpenAIServer(f"{fake.url}/", "sk-1"))

    path, body, headers = fake.requests[-1]
    assert path == "/v1/chat/completions"
    assert headers["Authorization"] == "Bearer sk-1"
    assert [turn["role"] for turn in body["messages"]] == ["system", "user"]
    assert (body["temperature"], body["seed"], body["max_tokens"], body["stream"]) == (0.0, 5, 40, True)


@pytest.mark.parametrize("word", ["names_events", "no_done", "thinks"])
def test_streams_of_other_makes_are_read(fake, word):
    fake.misbehave = word

    assert said(OpenAIServer(fake.url)) == "Dogs travel free."


def test_parts_of_odd_kinds_are_read_over(fake):
    fake.misbehave = "odd_kinds"

    assert said(OpenAIServer(fake.url)) == "Dogs."


@pytest.mark.parametrize(
    ("word", "kind", "sentence"),
    [
        ("half_json", RuntimeUnavailable, "broke off.*not JSON"),
        ("cut", RuntimeUnavailable, "broke off.*before its end"),
        ("endless_line", RuntimeUnavailable, "broke off.*line of more than 1024 kB"),
        ("error_inside", RuntimeFailure, r"It says: upstream \[31mfailed$"),
        ("only_thinks", RuntimeFailure, "answered with nothing.*40 tokens"),
        ("busy", RuntimeUnavailable, "no more questions just now"),
        ("broken_inside", RuntimeUnavailable, r"problem of its own \(status 502\)"),
        ("refuses", RuntimeFailure, "It says: temperature does not support 0$"),
        ("refuses_in_html", RuntimeFailure, "does not speak OpenAI's language"),
        ("redirect", RuntimeFailure, r"does not speak OpenAI's language \(status 302\)"),
    ],
)
def test_what_goes_wrong_is_a_sentence_without_the_servers_page(fake, word, kind, sentence):
    fake.misbehave = word

    with pytest.raises(kind, match=sentence) as caught:
        said(OpenAIServer(fake.url))

    assert "secret" not in str(caught.value)


def test_a_server_that_goes_silent_is_left(fake):
    fake.misbehave = "silent"
    server = OpenAIServer(fake.url)
    server.idle_seconds = 0.2

    with pytest.raises(RuntimeUnavailable, match="gone silent"):
        said(server)


def test_closing_an_answer_ends_the_request(fake):
    fake.misbehave = "silent"
    answer = OpenAIServer(fake.url).chat("gpt-4o", ASKED, OPTIONS)
    next(answer)

    answer.close()
    fake.go_on.set()

    assert fake.gone.wait(10)


def test_a_refused_key_a_missing_model_and_a_wrong_address_are_told_apart(fake):
    fake.token = "sk-1"
    for call in (OpenAIServer(fake.url, "sk-2").models, lambda: said(OpenAIServer(fake.url))):
        with pytest.raises(RuntimeFailure, match=r"refuses the token\. Check CURATOR_COMPARE_TOKEN") as caught:
            call()
        assert "sk-" not in str(caught.value)
    with pytest.raises(ModelMissing, match="no model 'gpt-9'"):
        said(OpenAIServer(fake.url, "sk-1"), "gpt-9")
    with pytest.raises(RuntimeFailure, match=r"mostly ends in /v1; check CURATOR_COMPARE_URL"):
        OpenAIServer(fake.url.removesuffix("/v1"), "sk-1").models()
    with pytest.raises(RuntimeFailure, match=r"address to compare with cannot be used"):
        OpenAIServer("gpt.example")
    with pytest.raises(RuntimeUnavailable, match=r"does not answer\. Check CURATOR_COMPARE_URL"):
        OpenAIServer("http://127.0.0.1:9/v1").models()


def test_a_list_keeps_only_what_can_be_shown_and_asked_for(fake):
    fake.misbehave = "odd_list"
    assert OpenAIServer(fake.url).models() == ["7", "gpt-4o"]
    fake.misbehave, fake.answers = "", {f"m{number:04}": "" for number in range(900)}
    assert len(OpenAIServer(fake.url).models()) == 500
    fake.misbehave = "no_list"
    with pytest.raises(RuntimeUnavailable, match="unexpected kind"):
        OpenAIServer(fake.url).models()


def test_whether_questions_stay_here_is_read_off_the_address():
    for url, local in (
        ("http://127.0.0.1:4000/v1", True), ("http://localhost/v1", True), ("http://[::1]:1/v1", True),
        ("http://10.0.0.5/v1", False), ("https://api.example/v1", False), ("http://localhost.example/v1", False),
    ):  # fmt: skip
        assert OpenAIServer(url).is_local is local


def test_a_real_llama_server_is_compared_with(files):
    with llama_server(files.base, alias="theirs", key="k") as running:
        server = OpenAIServer(f"{running.url}/v1", "k")

        assert server.models() == ["theirs"]
        first, again = ([*server.chat("theirs", ASKED, OPTIONS)] for _ in range(2))

    assert first == again or [chunk.text for chunk in first] == [chunk.text for chunk in again]
    assert "".join(chunk.text for chunk in first).strip()
    assert first[-1].finish in ("stop", "length")
    assert all(chunk.finish is None for chunk, _ in itertools.pairwise(first))
