"""The embedded runtime's host: children that start, die, are replaced and end; with a clock of the test's own."""

from __future__ import annotations

import json
import os
import signal
import threading
from collections.abc import Callable
from dataclasses import replace
from importlib.util import find_spec
from pathlib import Path

import pytest

from tests.trainer.tiny_lora import write_adapter
from trainer.runtimes.base import ChatOptions, Publication, RuntimeFailure, RuntimeUnavailable
from trainer.runtimes.embedded import MOST_CRASHES, EmbeddedHost
from trainer.runtimes.home import changing_served, read_actual, read_served, want
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


def step_until(host: EmbeddedHost, done: Callable[[], bool]) -> None:
    pause = threading.Event()
    for _ in range(3000):
        host.step()
        if done():
            return
        pause.wait(0.01)  # a real process starts or ends meanwhile
    raise AssertionError("It did not come to that within 30 seconds.")


def serve_base(host: EmbeddedHost, runtime: LlamaCppRuntime, publication) -> str:
    """Publish while stepping by hand, and answer the base's sha256."""
    thread = threading.Thread(target=runtime.publish, args=[publication, quiet])
    thread.start()
    step_until(host, lambda: not thread.is_alive())
    return read_served(host.home).tags[publication.tag].base


def test_nothing_starts_before_it_is_needed(stepped, home, files):
    runtime = LlamaCppRuntime(home)
    base = serve_base(stepped, runtime, files.base_publication("base"))
    stepped.close()
    again = EmbeddedHost(home, threads=1)

    again.step()
    assert not again.children

    want(home, base)
    again.step()
    assert list(again.children) == [base]
    again.close()


def test_publishing_lets_open_answers_end(stepped, home, slow_base, tmp_path):
    runtime = LlamaCppRuntime(home)
    base = serve_base(stepped, runtime, Publication("base", slow_base, context=1024))
    taught = Publication("v1", slow_base, write_adapter(slow_base, tmp_path / "a.gguf"), context=1024)
    pid = stepped.children[base].process.pid
    answer = runtime.chat("base", STORY, LONG)
    next(answer)
    publishing = threading.Thread(target=runtime.publish, args=[taught, quiet])
    publishing.start()
    step_until(stepped, lambda: stepped.children[base].draining is not None)
    for _ in range(3):
        stepped.step()
    assert stepped.children[base].process.pid == pid

    pieces = list(answer)

    assert pieces[-1].finish in ("stop", "length")
    step_until(stepped, lambda: not publishing.is_alive())
    assert stepped.children[base].process.pid != pid


def test_a_child_that_dies_in_an_answer_is_said_and_started_again(own_runtime, home, slow_base):
    own_runtime.publish(Publication("base", slow_base, context=1024), quiet)
    words = said(own_runtime, "base")
    (loaded,) = read_actual(home).bases.values()
    answer = own_runtime.chat("base", STORY, LONG)
    next(answer)

    os.kill(loaded.pid, signal.SIGKILL)

    with pytest.raises(RuntimeUnavailable, match="stopped in the middle of its answer and is being started again"):
        list(answer)
    assert said(own_runtime, "base") == words
    assert read_actual(home).bases.popitem()[1].pid != loaded.pid


def test_a_child_that_died_unnoticed_is_replaced_before_the_first_word(own_runtime, home, files):
    own_runtime.publish(files.base_publication("base"), quiet)
    words = said(own_runtime, "base")

    os.kill(read_actual(home).bases.popitem()[1].pid, signal.SIGKILL)

    assert said(own_runtime, "base") == words


def test_a_child_that_keeps_dying_is_given_up_with_a_sentence_until_something_changes(stepped, home, files):
    now = 0.0
    stepped.clock = lambda: now
    runtime = LlamaCppRuntime(home)
    base = serve_base(stepped, runtime, files.base_publication("base"))
    for crash in range(1, MOST_CRASHES + 1):
        stepped.children[base].process.kill()
        step_until(stepped, lambda: base not in stepped.children)
        stepped.step()
        assert base not in stepped.children  # not at once
        now += 0.5 * 2 ** (crash - 1)
        stepped.step()
        assert (base in stepped.children) == (crash < MOST_CRASHES)

    with pytest.raises(RuntimeFailure, match="cannot run this model: it ended with code -9, 3 times"):
        said(runtime, "base")

    with changing_served(home):
        pass
    stepped.step()
    assert base in stepped.children


def test_a_long_good_life_makes_up_for_crashes(stepped, home, files):
    now = 0.0
    stepped.clock = lambda: now
    base = serve_base(stepped, LlamaCppRuntime(home), files.base_publication("base"))
    for _ in range(MOST_CRASHES + 2):
        stepped.children[base].process.kill()
        step_until(stepped, lambda: base not in stepped.children)
        now += 100
        step_until(stepped, lambda: base in stepped.children and bool(stepped.children[base].address))
        now += 100
        stepped.step()


def test_a_model_that_llama_cannot_load_leaves_everything_as_it_was(own_runtime, home, files, tmp_path):
    own_runtime.publish(files.publication("v1"), quiet)
    before = json.loads((home / "served.json").read_text())
    strange = tmp_path / "strange.gguf"
    strange.write_bytes(files.base.read_bytes().replace(b"tokenizer.ggml.model", b"tokenizer.ggml.modex"))

    with pytest.raises(RuntimeFailure, match="cannot run this model: it ended with code"):
        own_runtime.publish(Publication("v1", strange), quiet)

    after = json.loads((home / "served.json").read_text())
    assert {**after, "revision": 0} == {**before, "revision": 0}
    assert said(own_runtime, "v1")


def test_a_file_that_is_gone_is_said_by_name(stepped, home, files, tmp_path):
    own = tmp_path / "own.gguf"
    own.write_bytes(files.base.read_bytes())
    runtime = LlamaCppRuntime(home)
    base = serve_base(stepped, runtime, replace(files.base_publication("base"), base=own))
    stepped.children[base].process.kill()
    own.unlink()
    want(home, base)
    stepped.clock = lambda: float("inf")
    step_until(stepped, lambda: bool(read_actual(home).bases[base].error))

    with pytest.raises(RuntimeFailure, match=r"own\.gguf"):
        said(runtime, "base")


def test_a_home_can_be_moved(stepped, home, files, tmp_path):
    home.mkdir(exist_ok=True)
    (home / "bases").mkdir()
    own = home / "bases" / "own.gguf"
    own.write_bytes(files.base.read_bytes())
    runtime = LlamaCppRuntime(home)
    serve_base(stepped, runtime, replace(files.base_publication("base"), base=own))
    stepped.close()

    home.rename(tmp_path / "moved")

    with EmbeddedHost(tmp_path / "moved", threads=1):
        assert said(LlamaCppRuntime(tmp_path / "moved"), "base")


def test_without_a_host_the_sentence_says_what_to_start(home, files):
    runtime = LlamaCppRuntime(home)

    for call in (runtime.version, lambda: runtime.publish(files.base_publication("base"), quiet)):
        with pytest.raises(RuntimeUnavailable, match="`curator up` running"):
            call()
    assert runtime.models() == []


def test_one_host_serves_a_home_and_the_next_takes_over(home, files):
    first, second = EmbeddedHost(home, threads=1), EmbeddedHost(home, threads=1)
    base = serve_base(first, LlamaCppRuntime(home), files.base_publication("base"))

    second.step()
    assert not second.children

    first.close()
    want(home, base)
    second.step()
    second.step()
    assert not second.children  # what the first one was asked for is forgotten
    want(home, base)
    second.step()
    assert list(second.children) == [base]
    second.close()


def test_children_end_with_their_host(host, own_runtime, files):
    own_runtime.publish(files.base_publication("base"), quiet)
    (child,) = host.children.values()

    host.__exit__()

    assert child.process.returncode is not None
    assert read_actual(host.home).bases == {}


def test_a_base_that_nobody_needs_any_more_is_unloaded(own_runtime, host, files):
    own_runtime.publish(files.base_publication("base"), quiet)
    (child,) = host.children.values()

    own_runtime.remove("base")

    assert child.process.wait(10) is not None
