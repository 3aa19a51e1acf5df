"""A model is asked as it was taught, or not published at all."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from tests.fakes.ollama_prompt import _go, turn_by_turn
from tests.fakes.ollama_server import FakeOllama
from trainer.runtimes.base import Publication, RuntimeFailure
from trainer.runtimes.ollama import OllamaRuntime
from trainer.runtimes.prompt import for_every_ollama, go_template, rendered
from trainer.spec import Message

CHATML = (
    "{% for m in messages %}<|im_start|>{{ m.role }}\n{{ m.content }}<|im_end|>\n{% endfor %}"
    "{{ '<|im_start|>assistant\n' }}"
)
TEMPLATES = {
    "chatml": (CHATML, "<|im_end|>"),
    "smollm2, with a system prompt of its own": (
        "{% if messages[0].role != 'system' %}{{ '<|im_start|>system\nYou are SmolLM.<|im_end|>\n' }}{% endif %}"
        + CHATML,
        "<|im_end|>",
    ),
    "gemma, which knows no system": (
        "{{ bos_token }}{% for m in messages %}{% if m.role == 'system' %}{{ raise_exception('no system') }}{% endif %}"
        "<start_of_turn>{{ 'model' if m.role == 'assistant' else m.role }}\n{{ m.content }}<end_of_turn>\n"
        "{% endfor %}{{ '<start_of_turn>model\n' }}",
        "<end_of_turn>",
    ),
    "gemma 3, which puts the system before the question": (
        "{% set s = messages[0].content + '\n\n' if messages[0].role == 'system' else '' %}"
        "{% for m in (messages[1:] if s else messages) %}<start_of_turn>"
        "{{ 'model' if m.role == 'assistant' else m.role }}\n"
        "{{ s if loop.first }}{{ m.content }}<end_of_turn>\n{% endfor %}{{ '<start_of_turn>model\n' }}",
        "<end_of_turn>",
    ),
    "llama 3": (
        "{% for m in messages %}<|start_header_id|>{{ m.role }}<|end_header_id|>\n\n{{ m.content }}<|eot_id|>"
        "{% endfor %}{{ '<|start_header_id|>assistant<|end_header_id|>\n\n' }}",
        "<|eot_id|>",
    ),
    "mistral, whose answers end with the text's end": (
        "{{ bos_token }}{% for m in messages %}{% if m.role == 'user' %}[INST] {{ m.content }} [/INST]"
        "{% elif m.role == 'system' %}{{ m.content }}\n\n{% else %}{{ m.content }}{{ eos_token }}{% endif %}"
        "{% endfor %}",
        "</s>",
    ),
}


def talk(*words: str, system: str = "") -> list[Message]:
    roles = ("user", "assistant")
    turns = [Message(role=roles[place % 2], content=word) for place, word in enumerate(words)]  # pyright: ignore
    return [*([Message(role="system", content=system)] if system else []), *turns]


@pytest.mark.parametrize("name", TEMPLATES)
def test_a_template_in_gos_language_gives_the_same_prompts(name: str):
    jinja, end = TEMPLATES[name]
    go = go_template(jinja, end)
    assert go is not None
    for system in ("", *([] if "no system" in name else ["Be brief. 简洁"])):
        for words in (("Hi",), ("Hi", "Hello.", "And 狗?"), ("a", "b", "c", "d", 'e "quoted"\n')):
            messages = talk(*words, system=system)
            assert _go(go, [one.model_dump() for one in messages]) == rendered(jinja, messages, end)


@pytest.mark.parametrize("name", TEMPLATES)
@pytest.mark.parametrize("system", [None, "Be brief. 简洁"])
def test_a_template_that_the_oldest_ollama_knows_gives_the_same_prompts(name: str, system: str | None):
    jinja, end = TEMPLATES[name]
    if system and "no system" in name:
        pytest.skip("it takes none")
    told = for_every_ollama(Publication("v1", Path("base.gguf"), system=system, stop=(end,)), jinja)
    if name in UNSAID and not system:
        assert told.template is None, "what cannot be said is left to Ollama"
        return
    assert told.template is not None and ".Messages" not in told.template
    for words in (("Hi",), ("Hi", "Hello.", "And 狗?"), ("a", "b", "c", "d", 'e "quoted"\n')):
        asked = [one.model_dump() for one in talk(*words)]
        expected = rendered(jinja, talk(*words, system=system or ""), end)
        assert turn_by_turn(told.template, asked, told.system or "") == expected


UNSAID = {"gemma 3, which puts the system before the question"}


def test_a_system_prompt_that_a_template_takes_for_granted_is_spelt_out():
    jinja, end = TEMPLATES["smollm2, with a system prompt of its own"]
    publication = Publication("v1", Path("base.gguf"), stop=(end,))

    assert for_every_ollama(publication, jinja).system == "You are SmolLM."
    assert for_every_ollama(replace(publication, system="Be brief."), jinja).system == "Be brief."


def test_a_template_that_no_rule_of_ours_gives_is_left_alone():
    numbered = "{% for m in messages %}{{ loop.index }}: {{ m.content }}\n{% endfor %}"
    assert go_template(numbered, "\n") is None


@pytest.mark.parametrize("version", ["0.24.0", "0.33.0", "0.35.0"])
def test_an_ollama_that_reads_templates_or_knows_this_one_is_told_none(files, version):
    with FakeOllama(version) as ollama:
        OllamaRuntime(ollama.url).publish(files.publication("v1"), lambda _word, _share: None)
        creates = [request.body for request in ollama.requests if request.path == "/api/create"]

    assert ["template" in body for body in creates] == [False]


def test_an_ollama_that_would_ask_otherwise_is_told_the_template(files):
    with FakeOllama("0.24.0") as ollama:
        ollama.stranger = True  # without a template of its own it would send the bare question
        runtime = OllamaRuntime(ollama.url)
        runtime.publish(files.publication("v1"), lambda _word, _share: None)
        creates = [request.body for request in ollama.requests if request.path == "/api/create"]
        prompt = runtime._prompt("v1", talk("Are dogs free?"))

    assert ["template" in body for body in creates] == [False, True]
    assert prompt == "<|im_start|>user\nAre dogs free?<|im_end|>\n<|im_start|>assistant\n"


def test_a_model_that_cannot_be_asked_as_it_was_taught_is_not_published(files, monkeypatch):
    monkeypatch.setattr("trainer.runtimes.prompt.go_template", lambda _template, _end: None)
    with FakeOllama("0.24.0") as ollama:
        ollama.stranger = True
        with pytest.raises(RuntimeFailure, match="otherwise than it was taught"):
            OllamaRuntime(ollama.url).publish(files.publication("v1"), lambda _word, _share: None)

        assert ollama.models == {}
