"""The hub: files are listed, chosen, fetched to the last byte, gone on with, and believed only by their digest."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace

import pytest
from pytest_httpserver import HTTPServer
from werkzeug import Response

from tests.fakes.hub import FakeHub
from tests.trainer.tiny import write_tiny_llama_gguf
from trainer.bases import hub as hubs
from trainer.bases.hub import HubFile, HubUnavailable, Repository, fetch, look, pick, repository_named
from trainer.failures import Cancelled, TrainerFailure

NAME = "owner/tiny-GGUF"


@pytest.fixture
def content(tmp_path: Path) -> bytes:
    return write_tiny_llama_gguf(tmp_path / "tiny.gguf").read_bytes()


@pytest.fixture
def hub(httpserver: HTTPServer) -> FakeHub:
    return FakeHub(httpserver)


def never() -> bool:
    return False


def fetched(hub: FakeHub, folder: Path, stop: Callable[[], bool] = never) -> Path:
    repository = look(hub.url, NAME)
    return fetch(hub.url, repository, pick(repository), folder, lambda _have: None, stop)


def refusal(action: Callable[[], object]) -> str:
    with pytest.raises(TrainerFailure) as failure:
        action()
    return str(failure.value)


def left_in(folder: Path) -> list[str]:
    return sorted(file.name for file in folder.iterdir() if not file.name.endswith(".json"))


def test_a_file_is_fetched_whole_and_only_once(hub: FakeHub, content: bytes, tmp_path: Path) -> None:
    hub.add(NAME, "tiny-Q8_0.gguf", content)
    seen: list[int] = []

    repository = look(hub.url, NAME)
    path = fetch(hub.url, repository, pick(repository), tmp_path / "bases", seen.append, never)
    asked = len(hub.asked)
    again = fetch(hub.url, repository, pick(repository), tmp_path / "bases", seen.append, never)

    assert path == again
    assert path.read_bytes() == content
    assert path.name == f"tiny-Q8_0.{repository.files[0].sha256[:8]}.gguf"
    assert seen[-1] == len(content)
    assert len(hub.asked) == asked
    assert repository.licence == "apache-2.0"


def test_a_broken_download_goes_on_where_it_broke_off(hub: FakeHub, content: bytes, tmp_path: Path) -> None:
    hub.add(NAME, "tiny.gguf", content)
    hub.cut = 300_000

    with pytest.raises(HubUnavailable, match="goes on from there"):
        fetched(hub, tmp_path / "bases")
    (part,) = left_in(tmp_path / "bases")
    have = (tmp_path / "bases" / part).stat().st_size
    hub.cut = None
    path = fetched(hub, tmp_path / "bases")

    assert 0 < have <= 300_000
    assert hub.asked[-1] == (f"/cdn/{NAME}/tiny.gguf", f"bytes={have}-")
    assert path.read_bytes() == content
    assert left_in(tmp_path / "bases") == [path.name]


def test_a_hub_without_ranges_sends_all_of_it_again(hub: FakeHub, content: bytes, tmp_path: Path) -> None:
    hub.add(NAME, "tiny.gguf", content)
    hub.cut = 300_000
    refusal(lambda: fetched(hub, tmp_path / "bases"))
    hub.cut, hub.ranges = None, False

    assert fetched(hub, tmp_path / "bases").read_bytes() == content


def test_a_stopped_download_keeps_what_has_arrived(hub: FakeHub, content: bytes, tmp_path: Path) -> None:
    hub.add(NAME, "tiny.gguf", content)

    with pytest.raises(Cancelled):
        fetched(hub, tmp_path / "bases", stop=lambda: True)

    (part,) = left_in(tmp_path / "bases")
    assert part.endswith(".part")
    assert fetched(hub, tmp_path / "bases").read_bytes() == content


@pytest.mark.parametrize("lie", [{"sha256": "0" * 64}, {"size": 200_000}])
def test_another_content_than_announced_is_thrown_away(
    hub: FakeHub, content: bytes, tmp_path: Path, lie: dict[str, object]
) -> None:
    hub.add(NAME, "tiny.gguf", content, **lie)

    assert refusal(lambda: fetched(hub, tmp_path / "bases")) == hubs.WRONG_CONTENT
    assert left_in(tmp_path / "bases") == []


def test_a_damaged_part_does_not_survive(hub: FakeHub, content: bytes, tmp_path: Path) -> None:
    hub.add(NAME, "tiny.gguf", content)
    hub.cut = 100_000
    refusal(lambda: fetched(hub, tmp_path / "bases"))
    (part,) = (tmp_path / "bases").iterdir()
    part.write_bytes(b"x" * part.stat().st_size)
    hub.cut = None

    assert refusal(lambda: fetched(hub, tmp_path / "bases")) == hubs.WRONG_CONTENT
    assert fetched(hub, tmp_path / "bases").read_bytes() == content


@pytest.mark.parametrize(
    ("answer", "sentence"),
    [
        (Response("<html>Sign in</html>", content_type="text/html"), hubs.NOT_A_HUB),
        (Response("[]", content_type="application/json"), hubs.NOT_A_HUB),
        (Response("{}", content_type="application/json"), hubs.NOT_A_HUB),
        (Response("gone", 410), hubs.NOT_A_HUB),
        (Response('{"error":"x"}', 404), hubs.NO_REPOSITORY),
        (Response('{"error":"x"}', 401), hubs.NO_REPOSITORY),
        (Response('{"error":"x"}', 403), hubs.GATED),
        (Response('{"gated":"manual","siblings":[]}', content_type="application/json"), hubs.GATED),
        (Response("slow down", 429), hubs.BUSY),
        (Response("oops", 503), hubs.BUSY),
        (Response(status=302, headers={"Location": "/api/models/owner/tiny-GGUF?blobs=true"}), hubs.NOT_A_HUB),
    ],
)
def test_every_odd_answer_is_a_sentence(httpserver: HTTPServer, answer: Response, sentence: str) -> None:
    httpserver.expect_request(f"/api/models/{NAME}").respond_with_response(answer)

    assert refusal(lambda: look(httpserver.url_for(""), NAME)) == sentence


def test_a_web_page_in_place_of_the_file_is_not_kept(hub: FakeHub, content: bytes, tmp_path: Path) -> None:
    hub.add(NAME, "tiny.gguf", content)
    hub.files[f"{NAME}/tiny.gguf"] = b"<!doctype html><title>Sign in</title>"

    assert refusal(lambda: fetched(hub, tmp_path / "bases")) == hubs.NOT_A_HUB
    hub.files[f"{NAME}/tiny.gguf"] = content
    assert fetched(hub, tmp_path / "bases").read_bytes() == content


def test_no_network_is_a_sentence_and_may_be_tried_again() -> None:
    with pytest.raises(HubUnavailable, match="cannot be reached from this machine"):
        look("http://127.0.0.1:9", NAME)


def test_a_full_disk_is_seen_beforehand(
    hub: FakeHub, content: bytes, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    hub.add(NAME, "tiny.gguf", content)
    monkeypatch.setattr(hubs.shutil, "disk_usage", lambda _path: SimpleNamespace(free=1000))

    assert refusal(lambda: fetched(hub, tmp_path / "bases")) == hubs.NO_ROOM
    assert len(hub.asked) == 1


def test_a_disk_that_fills_up_meanwhile_is_a_sentence(
    hub: FakeHub, content: bytes, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    hub.add(NAME, "tiny.gguf", content)

    def full(_number: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(hubs.os, "fsync", full)

    assert refusal(lambda: fetched(hub, tmp_path / "bases")) == hubs.NO_ROOM


def test_names_that_lead_elsewhere_parts_and_pictures_are_left_out(hub: FakeHub, content: bytes) -> None:
    for name in (
        "../../evil.gguf", "/etc/evil.gguf", "a/../../evil.gguf", "a\\evil.gguf", "README.md", "mmproj-F16.gguf",
        "big-00001-of-00003.gguf", "model.safetensors", "sub/fine-Q4_0.gguf",
    ):  # fmt: skip
        hub.add(NAME, name, content)

    assert [file.name for file in look(hub.url, NAME).files] == ["sub/fine-Q4_0.gguf"]


def test_without_a_name_the_best_file_for_teaching_is_picked() -> None:
    names = ("m-Q2_K.gguf", "m.Q4_K_M.gguf", "m-bf16.gguf", "m-q8_0.gguf", "m-IQ1_S.gguf")
    files = tuple(HubFile(name, 100 + place, "a" * 64) for place, name in enumerate(names))
    repository = Repository(NAME, "main", "", files)

    assert pick(repository).name == "m-q8_0.gguf"
    assert pick(Repository(NAME, "main", "", files[:2])).name == "m.Q4_K_M.gguf"
    assert pick(Repository(NAME, "main", "", files[:1])).name == "m-Q2_K.gguf"
    assert pick(repository, "m-bf16.gguf").size == 102
    assert "There are: m-Q2_K.gguf, m.Q4_K_M.gguf" in refusal(lambda: pick(repository, "m-Q3_K.gguf"))
    assert refusal(lambda: pick(Repository(NAME, "main", "", ()))) == hubs.NO_FILE


def test_a_file_without_a_checksum_is_not_fetched(hub: FakeHub, content: bytes, tmp_path: Path) -> None:
    hub.add(NAME, "tiny.gguf", content, sha256="")

    assert refusal(lambda: fetched(hub, tmp_path / "bases")) == hubs.NO_CHECKSUM


@pytest.mark.parametrize("text", ["owner/name", " owner/name ", "https://hub.example/owner/name/tree/main"])
def test_a_repository_is_understood_as_people_copy_it(text: str) -> None:
    assert repository_named(text) == "owner/name"


@pytest.mark.parametrize("text", ["", "name", "../../etc", "owner/..", "owner/na me", "owner/name?x", "-o/name"])
def test_another_name_is_refused(text: str) -> None:
    assert refusal(lambda: repository_named(text)) == hubs.BAD_NAME
