"""What holds for every runtime."""

from __future__ import annotations

import itertools
import threading
from dataclasses import replace

import pytest

from trainer.runtimes.base import ChatOptions, ModelMissing, Publication, Runtime, RuntimeFailure
from trainer.spec import Message

SHORT = ChatOptions(max_tokens=8)


def ask(runtime: Runtime, tag: str, *turns: str, options: ChatOptions = SHORT, side: int = 0) -> str:
    roles = itertools.cycle(("user", "assistant"))
    messages = [Message(role=role, content=turn) for role, turn in zip(roles, turns, strict=False)]
    return "".join(chunk.text for chunk in runtime.chat(tag, messages, options, side))


def tags(runtime: Runtime) -> list[str]:
    return [model.tag for model in runtime.models()]


def test_it_tells_its_version(runtime):
    assert runtime.version()[0].isdigit()


def test_a_published_version_is_listed_and_shown(runtime, published):
    assert published.tag in tags(runtime)
    shown = runtime.show(published.tag)
    assert shown.tag == published.tag
    assert shown.size > 0
    assert shown.digest or runtime.name == "llama-server"  # it tells none
    assert shown.details["format"] == "gguf"


def test_publishing_twice_changes_nothing(runtime, published):
    before = runtime.models()

    again = runtime.publish(published, lambda _status, _share: None)

    assert again == runtime.show(published.tag)
    assert runtime.models() == before


def test_publishing_tells_how_far_it_is(runtime, published):
    seen: list[tuple[str, float | None]] = []

    runtime.publish(published, lambda status, share: seen.append((status, share)))

    assert seen[-1][0] == "success"
    assert all(share is None or 0 <= share <= 1 for _, share in seen)


def test_a_copy_outlives_what_it_was_copied_from(runtime, published):
    name = f"{published.tag}:current"

    runtime.copy(published.tag, name)
    runtime.copy(published.tag, name)
    runtime.remove(published.tag)

    assert name in tags(runtime)
    assert published.tag not in tags(runtime)
    assert ask(runtime, name, "What is the return policy?")


def test_what_is_missing_is_said_by_name(runtime):
    for call in (
        lambda: runtime.show("nobody"),
        lambda: runtime.remove("nobody"),
        lambda: runtime.copy("nobody", "somebody"),
        lambda: ask(runtime, "nobody", "Hello"),
    ):
        with pytest.raises(ModelMissing, match="'nobody'"):
            call()


def test_a_name_that_would_be_unsafe_in_a_path_is_refused(runtime, published):
    for name in ("", "a/b", "../x", "a..b", "a:b:c", "-x", "x" * 81, "a b", "é", "a\n", "a:"):
        with pytest.raises(RuntimeFailure, match="cannot be a model's name"):
            runtime.publish(Publication(name, published.base), lambda _status, _share: None)
        with pytest.raises(RuntimeFailure, match="cannot be a model's name"):
            runtime.copy(published.tag, name)


def test_an_answer_comes_in_pieces_and_the_last_one_says_why_it_ended(runtime, published):
    chunks = list(runtime.chat(published.tag, [Message(role="user", content="one two three four five")], SHORT))

    assert len(chunks) > 2
    assert all(chunk.finish is None for chunk in chunks[:-1])
    assert chunks[-1].finish in ("stop", "length")
    assert chunks[-1].tokens is not None
    assert chunks[-1].seconds is not None


def test_an_answer_that_was_cut_says_so(runtime, published):
    *_, last = runtime.chat(
        published.tag, [Message(role="user", content="one two three four")], ChatOptions(max_tokens=2)
    )

    assert last.finish == "length"
    assert last.tokens == 2


def test_a_temperature_of_zero_answers_the_same_twice(runtime, published):
    assert ask(runtime, published.tag, "How?", side=0) == ask(runtime, published.tag, "How?", side=1)


def test_a_conversation_has_several_turns_and_any_letters(runtime, published):
    assert ask(runtime, published.tag, "保修期多久? 🐕", "两年。\n\n**12** \u202e", "Und für Köln?")


def test_closing_an_answer_early_leaves_the_model_free_for_the_next(runtime, published):
    answer = runtime.chat(published.tag, [Message(role="user", content="one two three")], ChatOptions(max_tokens=400))
    next(answer)
    answer.close()

    assert ask(runtime, published.tag, "And now?")


def test_two_answers_side_by_side_both_come_to_an_end(runtime, published):
    sides = [runtime.chat(published.tag, [Message(role="user", content="a b c")], SHORT, side) for side in (0, 1)]

    pairs = list(itertools.zip_longest(*sides))

    assert [chunk.text for chunk, _ in pairs if chunk] == [chunk.text for _, chunk in pairs if chunk]


def test_two_publishers_at_once_leave_whole_models(runtime, published):
    other = replace(published, tag=f"{published.tag}-b")
    failures: list[Exception] = []

    def publish(publication: Publication) -> None:
        try:
            runtime.publish(publication, lambda _status, _share: None)
        except Exception as error:
            failures.append(error)

    threads = [threading.Thread(target=publish, args=[one]) for one in (published, other, published, other)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert not failures
    assert sorted(name for name in tags(runtime) if name.startswith(published.tag)) == [published.tag, other.tag]
    assert ask(runtime, published.tag, "Hello") and ask(runtime, other.tag, "Hello")
