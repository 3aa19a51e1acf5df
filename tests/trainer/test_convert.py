"""The files of a run say which run, which answers and which base they came from, and nothing about the machine."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.trainer.folders import make_run
from tests.trainer.test_sft import teach
from trainer.convert import convert
from trainer.gguf_check import check

pytestmark = [
    pytest.mark.filterwarnings(
        "ignore:builtin type .* has no __module__ attribute:DeprecationWarning"  # SWIG types of sentencepiece
    ),
    pytest.mark.filterwarnings(
        "ignore:`is_gradient_checkpointing` is deprecated:FutureWarning"  # PEFT asks transformers by an old name
    ),
]


def test_both_files_carry_run_snapshot_and_base_and_no_path(tmp_path: Path) -> None:
    run = make_run(tmp_path, max_steps=1, snapshot_sha256="cd" * 32)
    teach(run)

    convert(run)

    for file in (run.adapter_gguf, run.model_gguf):
        found = check(file)
        assert found.text("curator.run") == "try"
        assert found.text("curator.snapshot_sha256") == "cd" * 32
        assert found.text("curator.base_sha256") == run.spec().base.sha256
        assert str(tmp_path).encode() not in file.read_bytes()
