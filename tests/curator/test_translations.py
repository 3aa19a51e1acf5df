"""Every sentence has its Chinese, with the same placeholders, and what is shipped is compiled from it."""

from __future__ import annotations

import ast
import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import get_args

import pytest
from flask import Flask
from flask.testing import FlaskClient

from curator import filters, told, told_runtimes, words
from curator.importers import chat, fields, files, jsontext
from curator.services import forms, snapshots
from db.models import RecordState, RunState, Snapshot, User, Verdict, VersionState
from tools import translations
from trainer.bases import folder, hub, ollama_store, refusals
from trainer.evaluation import Check
from trainer.runtimes import ollama_answers
from trainer.spec import Stage

PLACEHOLDER = re.compile(r"%\((\w+)\)(?:\.\d)?[sdf]")


@pytest.mark.parametrize("language", translations.LANGUAGES)
def test_no_sentence_is_missing(language: str) -> None:
    catalog = translations.catalogue(language)
    marked = {str(message.id) for message in translations.gather() if message.id}
    known = {str(message.id) for message in catalog if message.id}
    assert marked - known == set(), "run: python tools/translations.py"
    assert translations.untranslated(catalog) == []


@pytest.mark.parametrize("language", translations.LANGUAGES)
def test_placeholders_are_the_same_on_both_sides(language: str) -> None:
    for message in translations.catalogue(language):
        ids = message.id if isinstance(message.id, tuple) else (message.id,)
        strings = message.string if isinstance(message.string, tuple) else (message.string,)
        wanted = set(PLACEHOLDER.findall(ids[-1]))
        for string in strings:
            assert set(PLACEHOLDER.findall(string)) <= wanted | {"num"}, message.id
            assert wanted - {"num"} <= set(PLACEHOLDER.findall(string)), message.id


@pytest.mark.parametrize("language", translations.LANGUAGES)
def test_the_compiled_catalogue_is_that_of_the_source(language: str) -> None:
    shipped = translations.TRANSLATIONS / language / "LC_MESSAGES" / "messages.mo"
    assert shipped.read_bytes() == translations.compiled(translations.catalogue(language))


def test_words_that_pages_translate_by_name_are_marked() -> None:
    states = {word for kind in (RecordState, RunState, VersionState, Verdict, Stage) for word in get_args(kind)}
    checks = get_args(Check.model_fields["name"].annotation)
    empty = Snapshot(project_id=1, name="v1", kind="sft", sha256="", seed=1)
    constants = {files.NOT_TEXT, files.UNKNOWN_ENCODING, *files.KINDS.values(), jsontext.TOO_LONG}
    skips = {chat.NO_ANSWER, chat.NO_QUESTION, chat.HAS_TOOLS}
    of_bases = {*refusals.SENTENCES, *hub.SENTENCES, *ollama_store.PROBLEMS, *folder.SENTENCES}
    shown = {
        *states,
        *checks,
        *fields.FIELDS,
        *snapshots.remarks(empty, control=True),
        *constants,
        *skips,
        *of_bases,
    }
    assert shown - words.WORDS == set()


def test_every_sentence_that_the_trainer_tells_is_known_and_found_again() -> None:
    unknown = [sentence for sentence in _told_by_the_trainer() if told.split(sentence) == (sentence, {})]
    assert [sentence for sentence in unknown if sentence not in told.SENTENCES] == []


def test_every_sentence_that_ollamas_side_tells_is_known_and_found_again(app: Flask) -> None:
    files = (translations.ROOT / "trainer" / "runtimes").glob("ollama*.py")
    told_there = [one for file in files for one in _literals(file, ("RuntimeFailure", "RuntimeUnavailable", "told"))]
    answered = ("no space left", "digest mismatch", "not yet implemented", "process has terminated", "anything")
    told_there += [ollama_answers.words({"error": error}) for error in answered]
    told_there += [forms.FELL_BACK % {"reason": "7"}, forms.OUTDATED % {"ollama": "7"}]
    assert len(told_there) > 25
    assert [one for one in told_there if told.split(one)[0] not in told_runtimes.SENTENCES] == []

    said = forms.FELL_BACK % {"reason": "Ollama 0.35.0 takes no adapters; 0.30.0 to 0.34.0 do."}
    with app.test_request_context(headers={"Accept-Language": "zh-CN"}):
        assert "Ollama 0.35.0 不接受适配器" in filters.said(said)
    with app.test_request_context(headers={"Accept-Language": "en"}):  # unchanged by what another reader read
        assert filters.said(said) == said


def test_a_sentence_of_the_trainer_keeps_its_figures() -> None:
    sentence = "Line 7 of train.jsonl cannot be read (50 %(x)s). Put it right, or start a new run."

    known, figures = told.split(sentence)

    assert figures == {"number": "7", "file": "train.jsonl", "error": "50 %(x)s"}
    assert known % figures == sentence
    assert told.split("Something else.") == ("Something else.", {})


def test_what_the_trainer_tells_is_read_in_the_readers_language(app: Flask) -> None:
    sentence = (
        "Learning went out of control at step 7: the loss is no longer a number. "
        "Nothing was published. Start a new run with a lower learning rate than 0.01."
    )
    with app.test_request_context(headers={"Accept-Language": "en"}):
        assert filters.said(sentence) == sentence
    with app.test_request_context(headers={"Accept-Language": "zh-CN"}):
        assert "学习在第 7 步失控" in filters.said(sentence)


def test_the_details_of_checks_are_read_in_the_readers_language(app: Flask) -> None:
    detail = (
        "3 of 3 prompts become the same tokens in training and in use. It was not compared with no weight rounded. "
        "As it is served, rounding included, it differs by 0.012 (0.05 is allowed), for the likeliest word alone by "
        "0.031. The merged file differs by 0.044."
    )
    unknown = "The embedded runtime could not be asked. 100 %(x)s of it burnt."
    with app.test_request_context(headers={"Accept-Language": "en"}):
        assert filters.said(detail) == detail
        assert filters.said(unknown) == unknown
    with app.test_request_context(headers={"Accept-Language": "zh-CN"}):
        said = filters.said(detail)
        assert all(figure in said for figure in ("3", "0.012", "0.05", "0.031", "0.044"))
        assert not re.search("[a-z]{3}", said)
        assert filters.said(unknown).endswith("100 %(x)s of it burnt.")


@pytest.mark.parametrize("sentence", [one for one in told.SENTENCES if not one.endswith(")s")])
def test_sentences_in_a_row_are_found_again(sentence: str) -> None:
    filled = told.PLACE.sub("7", sentence)

    found = told.sentences(f"The merged file differs by 0.044. {filled} No past correction is pinned yet.")

    assert [known for known, _ in found] == [
        "The merged file differs by %(nats)s.",
        sentence,
        "No past correction is pinned yet.",
    ]


def _told_by_the_trainer() -> Iterator[str]:
    """Yield what the trainer's own modules raise, warn of and say of a version, with some figure in each place."""
    trainer = translations.ROOT / "trainer"
    for file in [*trainer.glob("*.py"), *(trainer / "runtimes").glob("*.py")]:
        yield from (sentence for sentence in _literals(file, TELLING) if re.search("[a-z] ", sentence))
        if file.stem in VERDICTS:
            of_a_verdict = _of_a_verdict(ast.parse(file.read_text(encoding="utf-8")))
            yield from (sentence for node in of_a_verdict for sentence in _figured(node) if _is_one(sentence))


def _literals(file: Path, callers: tuple[str, ...]) -> Iterator[str]:
    """Yield the sentences that a module gives to some functions, as last argument or by name, with 7 for figures."""
    for call in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
        if isinstance(call, ast.Call) and ast.unparse(call.func).endswith(callers):
            for said in (*call.args[-1:], *(keyword.value for keyword in call.keywords)):
                yield from _figured(said)


TELLING = (
    "TrainerFailure", ".warn", "told", "RuntimeFailure", "RuntimeUnavailable", "ModelMissing", "CannotConvert",
    "CannotEncode", "BadGguf",
)  # fmt: skip
VERDICTS = ("verdict", "parity", "rounded", "canaries", "evaluate", "number_types", "result")
ASIDE = (".stage", ".done", ".say", ".ask", "Canary")  # for the terminal, and what a model is told


def _of_a_verdict(tree: ast.AST) -> Iterator[ast.AST]:
    """Yield the texts in a module but for its docstrings, and but for what is said on the way."""
    for node in ast.iter_child_nodes(tree):
        if isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant):
            continue
        if isinstance(node, ast.Call) and ast.unparse(node.func).endswith(ASIDE):
            continue
        yield node
        if not isinstance(node, ast.JoinedStr):
            yield from _of_a_verdict(node)


def _figured(words: ast.AST) -> Iterator[str]:
    parts = words.values if isinstance(words, ast.JoinedStr) else [words]
    if all(isinstance(part, ast.FormattedValue) or _is_text(part) for part in parts):
        yield "".join(str(part.value) if isinstance(part, ast.Constant) else "7" for part in parts)


def _is_text(node: ast.AST) -> bool:
    return isinstance(node, ast.Constant) and isinstance(node.value, str)


def _is_one(text: str) -> bool:
    return text.endswith(".") and text.count(" ") > 3 and "Answer in one or two words." not in text


def test_a_page_speaks_the_language_of_its_reader(
    make_user: Callable[..., User], sign_in: Callable[[User], FlaskClient]
) -> None:
    client = sign_in(make_user())
    assert "今日" in client.get("/p/ferry/", headers={"Accept-Language": "zh-CN,zh;q=0.9"}).text
    client.set_cookie("language", "en")
    assert "Today" in client.get("/p/ferry/", headers={"Accept-Language": "zh-CN,zh;q=0.9"}).text
