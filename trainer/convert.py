"""The convert stage: the adapter becomes adapter.gguf, and with the base model.gguf; both are checked."""

from __future__ import annotations

from trainer.failures import TrainerFailure
from trainer.gguf_check import check
from trainer.lora_gguf import convert_adapter
from trainer.merge_gguf import BASE_KEY, merge
from trainer.peft_files import CannotConvert
from trainer.progress import Journal
from trainer.recipe import TrainSpec
from trainer.rundir import RunDir


def convert(run: RunDir) -> None:
    """Write adapter.gguf and model.gguf unless they are there; raises TrainerFailure with a sentence."""
    if not run.adapter.is_dir():
        raise TrainerFailure("input", "There is no adapter to convert yet. Train first.")
    spec, base_path, journal = run.spec(), run.base_gguf(), Journal(run, "convert")
    journal.stage("Making the files that a runtime loads.")
    names = names_of(spec)
    try:
        if not run.adapter_gguf.exists():
            convert_adapter(run.adapter, check(base_path, whole=True), run.adapter_gguf, metadata=names)
        check(run.adapter_gguf, whole=True, finite=True)
        if not run.model_gguf.exists():
            merge(base_path, run.adapter_gguf, run.model_gguf, spec.merged_type, names)
        check(run.model_gguf, whole=True, finite=True)
    except CannotConvert as error:
        raise TrainerFailure("base", str(error)) from error
    journal.done("The model files are ready.")


def names_of(spec: TrainSpec) -> dict[str, str]:
    """Answer what the files of a run say of where they come from."""
    names = {
        "general.name": spec.run,
        "curator.run": spec.run,
        BASE_KEY: spec.base.sha256,
        "curator.snapshot_sha256": spec.snapshot_sha256,
    }
    return {key: value for key, value in names.items() if value}
