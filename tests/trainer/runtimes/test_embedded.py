"""The embedded runtime: which model answers, with real children of a tiny model."""

from __future__ import annotations

import stat
import subprocess
import sys
import threading
from dataclasses import replace
from importlib.util import find_spec
from pathlib import Path

import pytest

from tests.trainer.tiny import write_tiny_llama_gguf
from tests.trainer.tiny_lora import write_adapter
from trainer.runtimes.base import ChatOptions, RuntimeFailure, RuntimeUnavailable
from trainer.runtimes.home import changing_served, read_actual, read_served, runtime_folder
from trainer.runtimes.llamacpp import LlamaCppRuntime
from trainer.spec import Message

pytestmark = pytest.mark.skipif(find_spec("xllamacpp") is None, reason="xllamacpp is not installed")

ROOT = Path(__file__).parents[3]
STORY = [Message(role="user", content="Tell a story")]
LONG = ChatOptions(max_tokens=900)


def quiet(_status: str, _share: float | None) -> None:
    return


def said(runtime: LlamaCppRuntime, tag: str, tokens: int = 12, side: int = 0) -> str:
    return "".join(chunk.text for chunk in runtime.chat(tag, STORY, ChatOptions(max_tokens=tokens), side))


def test_the_key_is_for_this_user_only(own_runtime, home, files):
    own_runtime.publish(files.base_publication("base"), quiet)

    assert stat.S_IMODE((home / "runtime.json").stat().st_mode) == 0o600
    assert stat.S_IMODE(runtime_folder(home).stat().st_mode) == 0o700
    for config in runtime_folder(home).glob("*.config.json"):
        assert stat.S_IMODE(config.stat().st_mode) == 0o600
    assert read_actual(home).bases[read_served(home).tags["base"].base].key not in (home / "served.json").read_text()


def test_an_adapter_is_chosen_per_question_and_scale_0_is_the_base(own_runtime, files):
    own_runtime.publish(files.base_publication("base"), quiet)
    alone = own_runtime.next_token_logprobs("base", "What is", top=20)
    words = said(own_runtime, "base")

    own_runtime.publish(files.publication("v1"), quiet)

    assert own_runtime.next_token_logprobs("base", "What is", top=20) == pytest.approx(alone, abs=1e-5)
    assert own_runtime.next_token_logprobs("v1", "What is", top=20) != pytest.approx(alone, abs=1e-2)
    taught = said(own_runtime, "v1", side=1)
    assert taught != words
    for _ in range(2):  # the same place in turn: nothing computed under one scale is used under the other
        assert said(own_runtime, "base") == words
        assert said(own_runtime, "v1") == taught


def test_several_versions_are_loaded_beside_each_other(own_runtime, home, files, tmp_path):
    other = write_adapter(files.base, tmp_path / "other.gguf", seed=5)
    own_runtime.publish(files.publication("v1"), quiet)
    first = said(own_runtime, "v1")

    own_runtime.publish(replace(files.publication("v2"), adapter=other), quiet)

    assert said(own_runtime, "v1") == first
    assert said(own_runtime, "v2") != first
    (loaded,) = read_actual(home).bases.values()
    assert len(loaded.adapters) == 2


def test_a_version_without_an_adapter_file_is_served_from_its_merged_file(own_runtime, home, files):
    own_runtime.publish(files.base_publication("base"), quiet)
    own_runtime.publish(replace(files.publication("v1"), adapter=None), quiet)

    assert len(read_actual(home).bases) == 2
    assert said(own_runtime, "v1") != said(own_runtime, "base")


def test_a_system_prompt_and_stops_come_with_the_name(own_runtime, files):
    own_runtime.publish(replace(files.publication("v1"), system="You sell tickets."), quiet)

    assert own_runtime.apply_template("v1", STORY).startswith("<|im_start|>system\nYou sell tickets.<|im_end|>")
    own = [Message(role="system", content="Be brief."), *STORY]
    assert "tickets" not in own_runtime.apply_template("v1", own)


def test_a_prompt_is_tokenized_with_its_special_tokens(own_runtime, files):
    own_runtime.publish(files.base_publication("base"), quiet)

    assert own_runtime.tokenize("base", "<|im_start|><|im_end|>") == [1, 2]


def test_a_question_that_is_too_long_is_said_in_tokens(own_runtime, files):
    own_runtime.publish(files.base_publication("base"), quiet)

    with pytest.raises(RuntimeFailure, match=r"too long: .* tokens, and the model was loaded for 512"):
        list(own_runtime.chat("base", [Message(role="user", content="x y " * 2000)], LONG))


def test_an_adapter_of_another_model_is_refused_before_llama_sees_it(own_runtime, home, files, tmp_path):
    own_runtime.publish(files.publication("v1"), quiet)
    pids = [loaded.pid for loaded in read_actual(home).bases.values()]
    other = write_tiny_llama_gguf(tmp_path / "big.gguf", hidden=128)
    stranger = write_adapter(other, tmp_path / "stranger.gguf")

    with pytest.raises(RuntimeFailure, match="trained on another base"):
        own_runtime.publish(replace(files.publication("v2"), adapter=stranger), quiet)

    assert said(own_runtime, "v1")
    assert [loaded.pid for loaded in read_actual(home).bases.values()] == pids


@pytest.mark.parametrize("broken", ["base", "adapter"])
def test_a_damaged_file_is_never_opened_by_llama(own_runtime, home, files, tmp_path, broken):
    damaged = tmp_path / "damaged.gguf"
    damaged.write_bytes(getattr(files, broken).read_bytes()[:-64])

    with pytest.raises(RuntimeFailure, match=r"damaged\.gguf"):
        own_runtime.publish(replace(files.publication("v1"), **{broken: damaged}), quiet)

    assert not list(runtime_folder(home).glob("*.log"))


@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
def test_children_do_not_outlive_a_host_that_was_killed(home, files):
    program = (
        "import sys, threading; from pathlib import Path; from trainer.runtimes.embedded import EmbeddedHost; "
        "host = EmbeddedHost(Path(sys.argv[1]), threads=1); print('here', flush=True); host.run(threading.Event())"
    )
    with subprocess.Popen([sys.executable, "-c", program, str(home)], stdout=subprocess.PIPE, cwd=ROOT) as process:  # noqa: S603 - our own code
        assert process.stdout.readline() == b"here\n"
        LlamaCppRuntime(home).publish(files.base_publication("base"), quiet)
        (loaded,) = read_actual(home).bases.values()
        process.kill()

    state = Path(f"/proc/{loaded.pid}/stat")
    pause = threading.Event()
    for _ in range(500):
        if not state.exists() or state.read_text().rpartition(")")[2].split()[0] == "Z":
            break
        pause.wait(0.01)
    else:
        raise AssertionError("The child lives on without its host.")
    with pytest.raises(RuntimeUnavailable, match="not running"):
        said(LlamaCppRuntime(home), "base")


def test_names_changed_by_many_processes_at_once_are_all_kept(home):
    from trainer.runtimes.home import ServedTag

    def add(number: int) -> None:
        with changing_served(home) as served:
            served.tags[f"v{number}"] = ServedTag(base="0" * 64)

    threads = [threading.Thread(target=add, args=[number]) for number in range(12)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert len(read_served(home).tags) == 12
    assert read_served(home).revision == 12


@pytest.mark.slow
def test_a_real_model_answers_as_its_base_at_scale_0_and_otherwise_at_1(own_runtime, real_files):
    own_runtime.publish(replace(real_files.base_publication("base"), context=1024), quiet)
    prompt = own_runtime.apply_template("base", STORY)
    alone, words = own_runtime.next_token_logprobs("base", prompt), said(own_runtime, "base")

    own_runtime.publish(replace(real_files.publication("v1"), context=1024), quiet)

    assert own_runtime.next_token_logprobs("base", prompt) == pytest.approx(alone, abs=1e-5)
    assert own_runtime.next_token_logprobs("v1", prompt) != pytest.approx(alone, abs=1e-2)
    assert [said(own_runtime, tag) == words for tag in ("base", "v1", "base")] == [True, False, True]


@pytest.mark.slow
def test_the_end_of_a_turn_has_a_likelihood_too(own_runtime, real_files):
    own_runtime.publish(replace(real_files.base_publication("base"), context=1024), quiet)
    said_so = "<|im_start|>user\nSay only: Yes.<|im_end|>\n<|im_start|>assistant\nYes."

    (end,) = own_runtime.tokenize("base", "<|im_end|>")

    assert end in own_runtime.next_token_logprobs("base", said_so, top=5)
    assert own_runtime.next_token_logprobs("base", own_runtime.tokenize("base", said_so), top=5)[end] < 0
