"""The command line: quick help, one sentence per mistake."""

from __future__ import annotations

import errno
import re
import subprocess
import sys
from pathlib import Path

import click
import pytest
from click.testing import CliRunner
from pytest_httpserver import HTTPServer
from sqlalchemy import Engine
from sqlalchemy.exc import DatabaseError, NoSuchModuleError, OperationalError

from curator.cli import COMMANDS, LazyGroup, main
from curator.launchers.environment import ROOT
from curator.services import accounts, backup
from curator.settings import Settings
from db.session import open_session
from tests.trainer.tiny import write_tiny_llama_gguf
from tests.trainer.tiny_lora import write_adapter


def run(*arguments: object, code: int = 0, **environment: str) -> str:
    result = CliRunner().invoke(main, [str(argument) for argument in arguments], env=environment)
    assert result.exit_code == code, result.output + repr(result.exception)
    return result.output


def test_help_names_every_command_and_loads_none():
    code = (
        "import sys; from click.testing import CliRunner; from curator.cli import main\n"
        "print(CliRunner().invoke(main, ['--help']).output)\n"
        "print([name for name in sys.modules if name in ('torch', 'flask', 'sqlalchemy', 'curator.worker')])"
    )
    said = subprocess.run(  # noqa: S603
        [sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True
    ).stdout

    assert [name for name in COMMANDS if not re.search(rf"^  {name} ", said, re.MULTILINE)] == []
    assert said.strip().endswith("[]")


@pytest.mark.parametrize("name", COMMANDS)
def test_every_command_can_be_loaded_and_explains_itself(name: str):
    assert "Usage: main " + name in run(name, "--help")


@pytest.mark.parametrize("name", ["up", "import", "export", "backup", "loop", "worker", "doctor", "init"])
def test_every_command_that_works_on_a_home_can_be_told_which(name: str):
    assert "--home" in run(name, "--help")


def test_a_mistake_is_one_sentence_and_code_2(tmp_path: Path):
    result = CliRunner().invoke(main, ["backup", "--home", str(tmp_path)])

    assert result.exit_code == 2
    assert result.output == f"There is no Curator in {tmp_path} yet. Make one: curator init\n"


def test_init_makes_a_home_and_doing_it_again_changes_nothing(tmp_path: Path):
    base = write_tiny_llama_gguf(tmp_path / "tiny.gguf")
    home = tmp_path / "home"

    first = run("init", "--home", home, "--base", base, "--sample")
    key = (home / "secret.key").read_text()
    again = run("init", "--home", home, "--base", base, "--sample")

    assert first == again
    assert "Sample project: Brindle Sound Ferries" in first
    assert (home / "secret.key").read_text() == key
    assert (home / "secret.key").stat().st_mode & 0o077 == 0


def test_init_refuses_what_is_no_model(tmp_path: Path):
    file = tmp_path / "letter.gguf"
    file.write_text("Dear Sir")

    assert "letter.gguf" in run("init", "--home", tmp_path / "home", "--base", file, code=2)


def test_a_new_person_gets_a_link_that_works(settings: Settings, engine: Engine):
    address = run("user", "add", "noor", "--name", "Noor", "--admin", "--home", settings.home).strip()

    token = address.removeprefix("http://127.0.0.1:8700/link/")
    with open_session(engine) as session:
        assert accounts.link_is_good(session, token, "sign-in")
        assert accounts.by_login(session, "noor").is_admin
    assert run("user", "link", "noor", "--home", settings.home).strip() != address
    assert "nobody" in run("user", "link", "nemo", "--home", settings.home, code=2)


def test_backup_says_where_it_is(settings: Settings, engine: Engine):
    said = run("backup", "--home", settings.home)

    assert said == f"Backed up to {backup.every(settings)[0]}\n"


def test_a_worker_with_nothing_to_do_ends_when_asked_to(settings: Settings, engine: Engine):
    assert run("worker", "light", "--until-idle", "--home", settings.home) == ""


def test_doctor_names_what_is_missing(tmp_path: Path):
    said = run("doctor", "--home", tmp_path, code=1)

    assert re.search(r"^ok +Python", said, re.MULTILINE)
    assert re.search(r"^MISSING +Base model: curator init", said, re.MULTILINE)


def doctor_on(httpserver: HTTPServer, tmp_path: Path, version: str, **has: float) -> str:
    """What doctor says of a cluster with one such node."""
    node = {"state": "ALIVE", "resources_total": has}
    httpserver.expect_request("/api/version").respond_with_json({"ray_version": version})
    httpserver.expect_request("/api/v0/nodes").respond_with_json({"data": {"result": {"result": [node]}}})
    address = httpserver.url_for("/").rstrip("/")
    return run("doctor", "--home", tmp_path, code=1, CURATOR_LAUNCHER="ray", CURATOR_RAY_ADDRESS=address)


def test_doctor_looks_at_the_cluster_that_teaches(httpserver: HTTPServer, tmp_path: Path):
    said = doctor_on(httpserver, tmp_path, "2.61.3", CPU=8)

    assert re.search(r"^ok +Ray 2\.61\.3 at http://", said, re.MULTILINE)
    assert re.search(r"^ok +1 of 1 nodes of the cluster have 1 processors for a stage$", said, re.MULTILINE)


def test_doctor_names_a_cluster_that_is_too_old_or_too_small(httpserver: HTTPServer, tmp_path: Path):
    said = doctor_on(httpserver, tmp_path, "2.9.1", CPU=0.5)

    assert re.search(r"^MISSING +Ray 2\.9\.1 at .* \(2\.60 or newer\)", said, re.MULTILINE)
    assert re.search(r"^MISSING +0 of 1 nodes .*; add one, or ask for less: CURATOR_RAY_CPUS", said, re.MULTILINE)


def test_doctor_names_a_cluster_that_does_not_answer(tmp_path: Path):
    away = {"CURATOR_LAUNCHER": "ray", "CURATOR_RAY_ADDRESS": "http://127.0.0.1:9"}

    assert "http://127.0.0.1:9 does not answer. Start it" in run("doctor", "--home", tmp_path, code=1, **away)
    assert "CURATOR_RAY_ADDRESS is no address" in run("doctor", "--home", tmp_path, code=1, CURATOR_LAUNCHER="ray")


@pytest.mark.slow
def test_the_whole_loop_teaches_the_sample_to_a_real_model(real_base: Path, tmp_path: Path):
    said = run("loop", "--home", tmp_path / "home", "--base", real_base)

    assert "old: " in said and "new: " in said
    assert re.search(r"Learnt from \d{3} approved answers", said) and "FAILED" not in said


@pytest.mark.slow
def test_a_loop_that_taught_nothing_ends_with_code_1(tmp_path: Path):
    base = write_tiny_llama_gguf(tmp_path / "tiny.gguf")

    said = run("loop", "--home", tmp_path / "home", "--base", base, code=1)

    assert re.search(r"FAILED +stops", said)
    assert re.search(r"Pinned questions right: [0-7] of 12", said)


def failing(error: Exception) -> str:
    """What a command says that meets this mishap."""

    @click.command()
    def meets() -> None:
        raise error

    group = LazyGroup(name="curator")
    group.get_command = lambda _context, _name: meets
    result = CliRunner().invoke(group, ["meets"])
    assert result.exit_code == 2, repr(result.exception)
    return result.output


@pytest.mark.parametrize(
    ("error", "said"),
    [
        (OSError(errno.ENOSPC, "No space left on device", "x"), "The disk is full."),
        (PermissionError(errno.EACCES, "Permission denied", "/srv/x"), "/srv/x: Permission denied."),
        (OperationalError("", {}, Exception("database or disk is full")), "The disk is full."),
        (DatabaseError("", {}, Exception("file is not a database")), "The database file is damaged"),
        (OperationalError("", {}, Exception("database is locked")), "The database is busy"),
        (OperationalError("", {}, Exception("connection refused")), "The database server does not answer."),
        (NoSuchModuleError("foo"), "CURATOR_DATABASE_URL is no address of a database"),
        (ModuleNotFoundError("No module named 'psycopg'", name="psycopg"), "PostgreSQL needs its driver"),
    ],
)
def test_a_mishap_outside_is_a_sentence_and_never_a_traceback(error: Exception, said: str):
    assert failing(error).startswith(said)


def test_a_mistake_of_ours_keeps_its_traceback():
    with pytest.raises(AssertionError, match="KeyError"):
        failing(KeyError("ours"))


def test_a_setting_that_cannot_be_is_named(monkeypatch: pytest.MonkeyPatch, tmp_path: Path):
    monkeypatch.setenv("CURATOR_PORT", "abc")
    assert "The setting CURATOR_PORT cannot be 'abc'" in run("doctor", "--home", tmp_path, code=2)


def test_a_damaged_database_is_named_with_the_way_out(tmp_path: Path):
    (tmp_path / "curator.db").write_bytes(b"no database " * 500)
    said = run("backup", "--home", tmp_path, code=2)
    assert "damaged" in said
    assert "backups/" in said


@pytest.mark.parametrize("content", [b"", b"hello", b"GGUF\x03\x00\x00\x00", b"GGUF" + b"\xff" * 60])
def test_a_base_that_is_no_model_is_refused_in_a_sentence(tmp_path: Path, content: bytes):
    base = tmp_path / "base.gguf"
    base.write_bytes(content)
    said = run("init", "--home", tmp_path / "home", "--base", base, code=2)
    assert said.startswith("base.gguf")
    assert len(said.splitlines()) == 1


def test_a_cut_off_base_is_refused(tmp_path: Path):
    whole = write_tiny_llama_gguf(tmp_path / "whole.gguf").read_bytes()
    (tmp_path / "cut.gguf").write_bytes(whole[: len(whole) // 2])
    assert "cut short" in run("init", "--home", tmp_path / "home", "--base", tmp_path / "cut.gguf", code=2)


def test_an_adapter_is_no_base(tmp_path: Path):
    adapter = write_adapter(write_tiny_llama_gguf(tmp_path / "tiny.gguf"), tmp_path / "adapter.gguf")
    assert "is an adapter" in run("init", "--home", tmp_path / "home", "--base", adapter, code=2)


def test_a_new_home_is_its_owners_alone(tmp_path: Path):
    base = write_tiny_llama_gguf(tmp_path / "tiny.gguf")
    run("init", "--home", tmp_path / "a" / "home", "--base", base)
    assert (tmp_path / "a" / "home").stat().st_mode & 0o077 == 0
