"""A runtime that writes another prompt than was taught is found out, by the first character that differs."""

from __future__ import annotations

import pytest

from tests.fakes.ollama_server import FakeOllama, Model
from trainer.runtimes.base import RuntimeFailure
from trainer.runtimes.fake import FakeRuntime
from trainer.runtimes.ollama import OllamaRuntime
from trainer.runtimes.rendering import first_difference
from trainer.spec import Message, Prompt

ASKED = [Message(role="system", content="You sell tickets."), Message(role="user", content="Are dogs free?")]
TURNS = "<|im_start|>system\nYou sell tickets.<|im_end|>\n<|im_start|>user\nAre dogs free?<|im_end|>\n"
TEXT = TURNS + "<|im_start|>assistant\n"


def prompt(text: str = TEXT, bos: str = "") -> Prompt:
    return Prompt(messages=ASKED, text=text, bos=bos)


@pytest.fixture
def runtime(ollama: FakeOllama) -> OllamaRuntime:
    ollama.models["ferry:v1"] = Model("0" * 64, 1)
    return OllamaRuntime(ollama.url)


def test_the_same_prompt_is_no_difference_with_or_without_the_token_that_begins_texts(runtime: OllamaRuntime) -> None:
    assert first_difference(runtime, "ferry:v1", [prompt(), prompt("<s>" + TEXT, bos="<s>")]) is None


def test_another_template_is_found_where_it_parts(runtime: OllamaRuntime) -> None:
    taught = TEXT.replace("<|im_start|>user\n", "<|im_start|>user:")

    found = first_difference(runtime, "ferry:v1", [prompt(), prompt(taught)])

    assert found is not None
    assert found.question == "Are dogs free?"
    assert (found.taught[:9], found.served[:9]) == (":Are dogs", "\nAre dogs")
    assert taught[: found.place] == TEXT[: found.place]


def test_a_prompt_that_goes_on_longer_is_another(runtime: OllamaRuntime) -> None:
    found = first_difference(runtime, "ferry:v1", [prompt(TEXT + "<think>")])

    assert found is not None
    assert (found.place, found.taught, found.served) == (len(TEXT), "<think>", "")


def test_only_the_prompt_is_asked_for(runtime: OllamaRuntime, ollama: FakeOllama) -> None:
    first_difference(runtime, "ferry:v1", [prompt()])

    assert ollama.requests[-1].body["_debug_render_only"] is True
    assert ollama.requests[-1].body["options"] == {"num_predict": 1}


def test_a_runtime_that_does_not_tell_is_not_judged() -> None:
    assert first_difference(FakeRuntime(), "ferry:v1", [prompt(), prompt("other")]) is None


def test_a_server_that_is_gone_is_a_failure_with_a_sentence(runtime: OllamaRuntime) -> None:
    runtime.url = "http://127.0.0.1:9"

    with pytest.raises(RuntimeFailure, match=r"did not show the prompt.*Publish the version again\.$"):
        first_difference(runtime, "ferry:v1", [prompt()])
