"""The real trainer measures and makes another number type, and a real runtime serves the file."""

from __future__ import annotations

from pathlib import Path

import pytest
from sqlalchemy import Engine
from sqlmodel import select

from curator.launchers.local import LocalLauncher
from curator.services import handover, number_types, versions
from curator.settings import Settings
from curator.worker import Worker
from db.models import ModelVersion, Run
from db.session import open_session
from tests.curator.teaching import Classroom, classroom
from trainer.asking import quiet, runtime_installed, runtime_of_its_own
from trainer.convert import names_of
from trainer.evaluation import Evaluation
from trainer.merge_gguf import merge
from trainer.rundir import RunDir, sha256_of
from trainer.runtimes.base import ChatOptions
from trainer.spec import Message

pytestmark = [pytest.mark.slow, pytest.mark.skipif(not runtime_installed(), reason="xllamacpp is not installed")]
RECIPE = {
    "max_steps": 6, "learning_rate": 2e-2, "batch_size": 4, "answer_tokens": 8, "canaries": False, "threads": 1,
}  # fmt: skip


def work(room: Classroom) -> None:
    worker = Worker(room.settings, "train", engine=room.engine, launcher=LocalLauncher())
    worker.run_until_idle()
    run = room.run()
    assert (run.state, run.trouble) == ("finished", ""), run.message


def checks(version: ModelVersion) -> dict[str, str]:
    return {check["name"]: check["detail"] for check in version.gate}


def test_a_run_becomes_a_smaller_version_that_is_what_was_measured(
    engine: Engine, settings: Settings, tmp_path: Path
) -> None:
    room = classroom(engine, settings, tmp_path)
    room.start(**RECIPE)
    work(room)
    with open_session(engine, write=True) as session:
        number_types.request_measuring(session, session.exec(select(Run)).one(), None)
    work(room)
    with open_session(engine, write=True) as session:
        number_types.request_version(session, session.exec(select(Run)).one(), "Q4_0", None, settings)
    work(room)

    run = RunDir(room.folder())
    offers = {offer.merged_type: offer for offer in (run.types() or pytest.fail("not measured")).offers}
    with open_session(engine) as session:
        second, first = versions.every(session, room.project)
    small, usual = Path(second.folder) / "model.gguf", Path(first.folder) / "model.gguf"
    assert small.stat().st_size == offers["Q4_0"].size < offers["Q8_0"].size == usual.stat().st_size
    merge(run.base_gguf(), run.adapter_gguf, tmp_path / "by-hand.gguf", "Q4_0", names_of(run.spec()))
    assert sha256_of(tmp_path / "by-hand.gguf") == sha256_of(small)
    assert second.tag.endswith(sha256_of(small)[:8])
    found = Evaluation.model_validate_json((small.parent / "evaluation.json").read_text())
    assert found.rounded is not None
    assert found.rounded.loss == pytest.approx(offers["Q4_0"].loss, abs=1e-3)
    assert "of type Q4_0" in checks(second)["rounding"]
    assert "of type Q8_0" in checks(first)["rounding"]
    assert {"stops", "parity", "pins", "differs"} <= set(checks(second))
    ask, briefly = [Message(role="user", content="Question 1?")], ChatOptions(max_tokens=8)
    with open_session(engine) as session, runtime_of_its_own(tmp_path) as runtime:
        for version in (first, second):
            runtime.publish(handover.of_version(session, version), quiet)
            said = list(runtime.chat(version.tag, ask, briefly))
            assert said[-1].finish in ("stop", "length")
        hello = runtime.tokenize(second.tag, "Question 1?")
        assert hello == runtime.tokenize(first.tag, "Question 1?")
        assert runtime.next_token_logprobs(first.tag, hello) != runtime.next_token_logprobs(second.tag, hello)
