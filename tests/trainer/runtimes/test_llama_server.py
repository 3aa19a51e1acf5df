"""A llama-server that somebody else started: recognised, asked, and told what can be told; real ones throughout."""

from __future__ import annotations

import itertools
import shlex
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from curator import told
from tests.fakes.llama_router import LlamaRouter
from tests.fakes.openai_server import FakeOpenAI
from tests.trainer.llama_servers import llama_server
from tests.trainer.runtimes.conftest import Files, write_adapter
from tests.trainer.tiny import CHATML, write_tiny_llama_gguf
from trainer.runtimes.base import (
    ChatOptions,
    ModelMissing,
    Publication,
    Remembered,
    RuntimeFailure,
    RuntimeUnavailable,
    Taught,
)
from trainer.runtimes.llama_server import LlamaServerRuntime, _octets
from trainer.runtimes.modelfile import by_hand
from trainer.spec import Message

STORY = [Message(role="user", content="Tell a story")]
V1, V2 = "ferry:v1-abcd", "ferry:v2-abcd"


def quiet(_status: str, _share: float | None) -> None:
    return


def said(runtime: LlamaServerRuntime, tag: str, tokens: int = 12, question: str = "Tell a story") -> str:
    asked = [Message(role="user", content=question)]
    return "".join(chunk.text for chunk in runtime.chat(tag, asked, ChatOptions(max_tokens=tokens)))


@pytest.fixture(scope="module")
def served(files: Files) -> Iterator[LlamaServerRuntime]:
    """A server that was started with version 1's whole model, as the command on its page says."""
    with llama_server(files.merged, alias=f"{V1},ferry:now", key="k") as running:
        yield LlamaServerRuntime(running.url, "k")


@pytest.fixture(scope="module")
def adapters(files: Files, tmp_path_factory: pytest.TempPathFactory) -> Iterator[LlamaServerRuntime]:
    """A server that was started with the base and two versions' adapters, one known by its folder, one by its name."""
    folder = tmp_path_factory.mktemp("adapters")
    (folder / "ferry-v1-abcd").mkdir()
    first = folder / "ferry-v1-abcd" / "adapter.gguf"
    first.write_bytes(files.adapter.read_bytes())
    second = write_adapter(files.base, folder / "ferry-v2-abcd.gguf", seed=5)
    with llama_server(files.base, adapters=[first, second], alias="base-1") as running:
        yield LlamaServerRuntime(running.url)


@pytest.fixture
def router(tmp_path: Path) -> Iterator[LlamaRouter]:
    folder = tmp_path / "models"
    folder.mkdir()
    with LlamaRouter(folder) as router:
        yield router


@pytest.fixture
def routed_here(router: LlamaRouter) -> LlamaServerRuntime:
    runtime = LlamaServerRuntime(router.url, folder=router.folder)
    runtime.router.poll_seconds = 0.02
    return runtime


# --- one model, started by hand ---------------------------------------------------------------------


def test_a_model_that_was_started_by_hand_is_recognised_and_answers(served, files):
    shown = served.publish(files.publication(V1), quiet)

    assert (shown.tag, shown.details["format"]) == (V1, "gguf")
    assert [model.tag for model in served.models()] == ["ferry:now", V1]
    assert said(served, V1)


def test_it_says_what_it_serves_instead(served, files):
    with pytest.raises(ModelMissing, match=r"serves (ferry:now, )?ferry:v1-abcd.*not 'ferry:v2-abcd'.*command on the"):
        served.publish(files.publication(V2), quiet)
    with pytest.raises(ModelMissing, match="'ferry:v2-abcd'"):
        said(served, V2)  # llama-server itself answers to any name
    with pytest.raises(ModelMissing, match="'base-1'"):
        served.publish(files.base_publication("base-1"), quiet)


def test_the_command_on_the_page_starts_what_is_recognised(files):
    command = by_hand(files.publication(V1), "", server="http://127.0.0.1:8123", base_tag="base-1").llama_server
    words = shlex.split(command)
    asked = dict(itertools.pairwise(words))
    assert words[0] == "llama-server" and asked["-m"] == "model.gguf" and asked["--port"] == "8123"

    with llama_server(files.merged, alias=asked["--alias"], context=int(asked["-c"])) as running:
        assert LlamaServerRuntime(running.url).publish(files.publication(V1), quiet).tag == V1


def test_a_second_name_needs_nothing_where_one_model_answers_to_all(served):
    served.copy(V1, "ferry:current")

    with pytest.raises(ModelMissing, match=r"serves .*not 'ferry:v2-abcd'"):
        served.copy(V2, "ferry:current")


def test_what_was_started_by_hand_is_served_until_it_is_stopped(served):
    served.remove(V1)
    assert served.show(V1)
    with pytest.raises(ModelMissing):
        served.remove(V2)


def test_another_file_under_the_right_name_is_found_out_by_its_size(files, tmp_path):
    other = write_tiny_llama_gguf(tmp_path / "other.gguf", hidden=128)
    sentence = r"serves another model under the name .*weights in .*m\.gguf has"
    with llama_server(other, alias=V1) as running, pytest.raises(RuntimeFailure, match=sentence):
        LlamaServerRuntime(running.url).publish(files.publication(V1), quiet)


def test_a_template_of_its_own_is_found_out_by_its_prompts(files):
    template, sentence = CHATML.replace("<|im_start|>", "##"), r"put questions to 'ferry:v1-abcd' otherwise than it was"
    with llama_server(files.merged, alias=V1, template=template) as running:
        runtime = LlamaServerRuntime(running.url)
        with pytest.raises(RuntimeFailure, match=sentence):
            runtime.publish(files.publication(V1), quiet)


def test_its_tokens_are_compared_with_those_of_a_lesson(served, files):
    spelled = ("<|im_start|>", "u", "se", "r", "\n", "H", "é", " ", "保", "修", "?", "<|im_end|>")
    served.publish(replace(files.publication(V1), taught=Taught(spelled)), quiet)

    otherwise = ("<|im_start|>", "us", "er", *spelled[4:])
    with pytest.raises(RuntimeFailure, match="splits text into other tokens"):
        served.publish(replace(files.publication(V1), taught=Taught(otherwise)), quiet)


def test_a_model_of_the_same_size_is_found_out_by_its_answers(served, files):
    """Base and merged file have the same shapes, so only what they say tells them apart."""
    with llama_server(files.base, alias=f"{V1},base") as running:
        base = LlamaServerRuntime(running.url)
        questions = [f"Question {number}?" for number in range(4)]
        remembered = tuple(
            Remembered(
                (Message(role="user", content=question),),
                said(base, "base", 40, question).strip(),
                said(served, V1, 40, question).strip(),
            )
            for question in questions
        )
        known = replace(files.publication(V1), taught=Taught(answers=remembered))

        served.publish(known, quiet)
        with pytest.raises(RuntimeFailure, match=r"does not answer as 'ferry:v1-abcd' did.*: 0 of 4 answers"):
            base.publish(known, quiet)


def test_a_system_prompt_is_part_of_what_is_compared(served, files):
    served.publish(replace(files.publication(V1), system="You sell tickets."), quiet)


# --- a base with adapters ---------------------------------------------------------------------------


def test_versions_are_chosen_by_adapter_and_the_base_by_none(adapters, files):
    for publication in (files.base_publication("base-1"), files.publication(V1), files.publication(V2)):
        assert adapters.publish(publication, quiet).tag == publication.tag

    answers = [said(adapters, tag) for tag in ("base-1", V1, V2)]

    assert len(set(answers)) == 3
    assert [said(adapters, tag) for tag in ("base-1", V1, V2)] == answers, "nothing computed under other scales is used"
    with llama_server(files.base, alias="base") as running:
        assert said(LlamaServerRuntime(running.url), "base") == answers[0]
    with pytest.raises(ModelMissing, match=r"serves base-1, .*not 'ferry:v3-abcd'"):
        adapters.publish(files.publication("ferry:v3-abcd"), quiet)


def test_who_names_no_adapter_gets_what_was_put_into_service(adapters):
    body = {"prompt": "Tell a story", "n_predict": 1, "n_probs": 9, "logit_bias": [["a", 1000]], "cache_prompt": False}

    def likely(scales: dict[str, Any]) -> dict[int, float]:
        found = adapters.http.ask("/completion", {**body, **scales})["completion_probabilities"][0]["top_logprobs"]
        return {one["id"]: one["logprob"] for one in found}

    expected = {tag: likely({"lora": adapters._offer().lora(tag)}) for tag in (V1, V2, "base-1")}
    assert len({tuple(one) for one in expected.values()}) == 3
    for tag, found in expected.items():
        adapters.copy(tag, "ferry:current")
        assert likely({}) == pytest.approx(found, abs=1e-4)


# --- a router whose folder may be written -----------------------------------------------------------


def test_a_version_is_put_into_the_folder_and_loaded(routed_here, router, files):
    seen: list[str] = []
    routed_here.publish(files.publication(V1), lambda status, _share: seen.append(status))

    assert (router.folder / f"{V1}.gguf").samefile(files.merged)
    assert [file.name for file in router.folder.iterdir()] == [f"{V1}.gguf"]
    assert list(dict.fromkeys(seen)) == ["reading", "loading", "checking", "success"]
    assert said(routed_here, V1)


def test_the_current_name_follows_and_goes_back(routed_here, router, files):
    routed_here.publish(files.base_publication("base-1"), quiet)
    routed_here.publish(files.publication(V1), quiet)
    current = router.folder / "ferry:current.gguf"

    for tag, file in (("base-1", files.base), (V1, files.merged), ("base-1", files.base)):
        routed_here.copy(tag, "ferry:current")
        assert current.samefile(file)
        assert said(routed_here, "ferry:current") == said(routed_here, tag)


def test_what_is_retired_leaves_folder_and_list_and_the_rest_stays(routed_here, router, files):
    routed_here.publish(files.publication(V1), quiet)
    routed_here.copy(V1, "ferry:current")

    routed_here.remove(V1)

    assert [file.name for file in router.folder.iterdir()] == ["ferry:current.gguf"]
    assert said(routed_here, "ferry:current")
    with pytest.raises(ModelMissing):
        routed_here.show(V1)


def test_a_version_that_is_served_otherwise_is_taken_away_again(tmp_path, files):
    with LlamaRouter(tmp_path, template=CHATML.replace("<|im_start|>", "##")) as router:
        runtime = LlamaServerRuntime(router.url, folder=tmp_path)
        with pytest.raises(RuntimeFailure, match="otherwise than it was taught"):
            runtime.publish(files.publication(V1), quiet)
        assert (list(tmp_path.iterdir()), router.models) == ([], {})


def test_a_router_that_cannot_load_it_says_so(routed_here, router, files):
    router.refuses = V1

    with pytest.raises(RuntimeFailure, match=r"could not load 'ferry:v1-abcd' \(code 1\)"):
        routed_here.publish(files.publication(V1), quiet)

    assert list(router.folder.iterdir()) == []


def test_a_router_that_does_not_look_again_says_what_to_do(routed_here, router, files):
    router.old = True
    with pytest.raises(RuntimeFailure, match=r"does not see ferry:v1-abcd\.gguf in .*before May 2026"):
        routed_here.publish(files.publication(V1), quiet)


def test_a_folder_that_cannot_be_written_and_a_server_that_is_no_router_are_said(router, files, served, tmp_path):
    nowhere = LlamaServerRuntime(router.url, folder=tmp_path / "nowhere")
    with pytest.raises(RuntimeFailure, match=r"nowhere cannot be written \(No such file or directory\)"):
        nowhere.publish(files.publication(V1), quiet)
    by_itself = LlamaServerRuntime(served.url, "k", tmp_path)
    with pytest.raises(RuntimeFailure, match="was started with one model, so it looks into no folder"):
        by_itself.publish(files.publication(V1), quiet)
    assert list(tmp_path.glob("*.gguf")) == []


def test_a_router_without_a_folder_of_ours_serves_what_was_put_there_by_hand(router, files):
    runtime = LlamaServerRuntime(router.url)
    runtime.router.poll_seconds = 0.02
    with pytest.raises(ModelMissing, match=r"has no 'ferry:v1-abcd'.*as ferry:v1-abcd\.gguf"):
        runtime.publish(files.publication(V1), quiet)

    (router.folder / f"{V1}.gguf").write_bytes(files.merged.read_bytes())
    router.scan()

    assert runtime.publish(files.publication(V1), quiet).tag == V1
    with pytest.raises(RuntimeFailure, match="cannot give 'ferry:v1-abcd' a second name"):
        runtime.copy(V1, "ferry:current")


# --- what goes wrong ---------------------------------------------------------------------------------


def test_a_server_that_is_away_a_wrong_key_and_a_wrong_address_are_told_apart(served, files, monkeypatch):
    away = LlamaServerRuntime("http://127.0.0.1:9")
    publication = files.publication(V1)
    for call in (away.version, away.models, lambda: away.publish(publication, quiet), lambda: said(away, V1)):
        with pytest.raises(
            RuntimeUnavailable, match=r"does not answer\. Start it, or correct CURATOR_LLAMA_SERVER_URL"
        ):
            call()
    with pytest.raises(RuntimeFailure, match=r"refuses the key\. Check CURATOR_LLAMA_SERVER_TOKEN"):
        LlamaServerRuntime(served.url, "wrong").version()
    with pytest.raises(RuntimeFailure, match="address cannot be used"):
        LlamaServerRuntime("llama")


@pytest.mark.parametrize("word", ["", "not_found", "broken_inside", "redirect", "no_list"])
def test_what_is_no_llama_server_is_found_out(word):
    with FakeOpenAI() as fake:
        fake.misbehave = word
        with pytest.raises(RuntimeFailure) as caught:
            LlamaServerRuntime(fake.url).version()
    assert "llama-server" in str(caught.value) and "secret" not in str(caught.value)


def test_a_damaged_file_is_refused_before_anybody_is_asked(served, files, tmp_path):
    damaged = tmp_path / "damaged.gguf"
    damaged.write_bytes(files.merged.read_bytes()[:-64])

    with pytest.raises(RuntimeFailure, match=r"damaged\.gguf"):
        served.publish(replace(files.publication(V1), merged=damaged), quiet)


def test_a_server_that_was_restarted_with_another_version_is_noticed_at_the_next_question(files):
    with llama_server(files.merged, alias=V1) as running:
        runtime = LlamaServerRuntime(running.url)
        assert said(runtime, V1)
    port = int(running.url.rsplit(":", 1)[1])
    with llama_server(files.base, alias=V2, port=port), pytest.raises(ModelMissing, match="'ferry:v1-abcd'"):
        said(runtime, V1)


def test_it_warns_of_another_machine_and_of_a_missing_key():
    assert LlamaServerRuntime("http://localhost:8080").warnings() == []
    warned = LlamaServerRuntime("http://10.0.0.5:8080").warnings()
    assert ["leave this one" in warned[0], "asks nobody for a key" in warned[1]] == [True, True]
    assert len(LlamaServerRuntime("http://10.0.0.5:8080", "k").warnings()) == 1


@pytest.mark.parametrize("piece", [None, 7, 10**12, [256], [-1], ["x"], {"a": 1}, [0.5]])
def test_a_token_of_an_odd_kind_is_like_none(piece):
    assert _octets(piece) == b"\xff"


def test_every_sentence_that_a_version_keeps_is_translated(served, files, router, tmp_path):
    """The page of a version shows what `publish` raised, in the reader's language."""
    by_itself = LlamaServerRuntime(served.url, "k", tmp_path)
    sentences = [
        _refused(runtime, files.publication(V2)) for runtime in (served, LlamaServerRuntime(router.url), by_itself)
    ]
    otherwise = replace(files.publication(V1), taught=Taught(("<|im_start|>", "us", "er")))
    sentences.append(_refused(served, otherwise))

    assert [told.split(sentence)[1] != {} for sentence in sentences] == [True] * 4


def _refused(runtime: LlamaServerRuntime, publication: Publication) -> str:
    with pytest.raises(RuntimeFailure) as caught:
        runtime.publish(publication, quiet)
    return str(caught.value)
