"""trl's trainer with our batches, loss, measurements and checkpoints.

trl's SFTTrainer gives the loop, the schedule, the optimiser and resuming; ours are the batches, the loss of answers
only, the checkpoints that can be trusted and the events. docs/decisions/0007-trl.md says what is used and what is not.
"""
# ruff: noqa: ARG002 - trl and transformers call these methods with more than is needed

from __future__ import annotations

import math
import shutil
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from random import Random
from typing import Any, TypeVar, cast

import torch
from datasets import Dataset
from peft import LoraConfig, PeftModel
from torch.optim.lr_scheduler import LambdaLR
from torch.utils.data import Sampler
from transformers import PrinterCallback
from transformers.pytorch_utils import Conv1D
from trl.trainer.sft_config import SFTConfig
from trl.trainer.sft_trainer import SFTTrainer

from trainer import checkpoints
from trainer.batches import Micro, epoch_order, micro_batches, parts
from trainer.data import Encoded
from trainer.encoded import EncodedRun
from trainer.failures import TrainerFailure
from trainer.fast_layers import speed_up
from trainer.hardware import detect
from trainer.loading import Base
from trainer.loss import answer_losses, example_losses, filler, mean_loss
from trainer.recipe import Precision, TrainSpec
from trainer.spec import Limits
from trainer.team import Team

T = TypeVar("T")


def rate_share(step: int, steps: int, warmup: int) -> float:
    """Answer which share of the peak rate a step (from 0) gets."""
    if step < warmup:
        return (step + 1) / warmup
    return 0.5 * (1 + math.cos(math.pi * min(1.0, (step - warmup) / max(1, steps - warmup))))


class Order(Sampler[int]):
    """The examples' order, a function of seed and epoch alone, so that a resumed run meets the same batches."""

    def __init__(self, count: int, seed: int) -> None:
        self.count = count
        self.seed = seed
        self.epoch = 0

    def set_epoch(self, epoch: int) -> None:
        self.epoch = epoch

    def __len__(self) -> int:
        return self.count

    def __iter__(self) -> Iterator[int]:
        return iter(epoch_order(self.count, self.seed, self.epoch))


class Teacher(SFTTrainer):
    """trl's trainer with our batches, loss, evaluation and checkpoints."""

    def __init__(
        self,
        base: Base,
        spec: TrainSpec,
        data: EncodedRun,
        output: Path,
        limits: Limits,
        start: Path | None,
        team: Team | None = None,
        **options: Any,
    ) -> None:  # Any: passed on to trl
        self.team = team or Team()
        self.shards = base.shards
        self.spec = spec
        self.limits = limits
        self.data = data
        self.tokens_seen = 0
        base.model.name_or_path = spec.base.name  # PEFT writes it down; a folder of this machine says nothing
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", FutureWarning)  # trl and transformers rename things under each other
            model = PeftModel.from_pretrained(base.model, str(start), is_trainable=True) if start else base.model
            super().__init__(
                model=model,
                args=_config(spec, len(data.train), base.precision, output),
                train_dataset=Dataset.from_dict({"at": list(range(len(data.train)))}),
                data_collator=self._collate,
                processing_class=base.tokenizer,
                peft_config=None if start else lora_config(spec, base.model),
                **options,
            )
        self.remove_callback(PrinterCallback)
        for weight in cast(PeftModel, self.model).parameters():
            if weight.requires_grad:  # trl makes them bfloat16 over a 4-bit base, which loses the last small steps
                weight.data = weight.data.float()
        if limits.checkpointing:
            cast(Any, self.model).enable_input_require_grads()  # Any: a method that PEFT passes on to the base
            base.model.activation_checkpointing_enable({"use_reentrant": False})
        if base.model.device.type == "cpu":
            speed_up(cast(PeftModel, self.model))

    def begin(self) -> None:
        """Meet the other processes for the first time, with the same adapter."""
        self.team.begin_alike(cast(PeftModel, self.model))

    def _send_telemetry(self) -> None:
        """Say nothing to anybody."""

    def _collate(self, rows: list[dict[str, int]]) -> dict[str, Any]:  # Any: numbers and parts
        """Cut this process's share of a batch into parts; `counted` is what the mean of the whole batch divides by."""
        batch = sorted((self.data.train[row["at"]] for row in rows), key=self.data.length, reverse=True)
        return {
            "micros": list(self._parts(self.team.share(batch))),
            "counted": sum(map(self._counted, batch)),
            "tokens": sum(map(self.data.length, batch)),
        }

    def _parts(self, examples: list[Encoded]) -> Iterator[Any]:  # Any: parts that `_sum` understands
        return micro_batches(examples, self.limits.micro_tokens, filler(cast(PeftModel, self.model), self.data.pad))

    def _counted(self, example: Encoded) -> int:
        """Answer for how much an example counts in the mean: each of its answer tokens for one."""
        return example.answer_tokens

    def _get_train_sampler(self, train_dataset: Any = None) -> Order:  # Any: trl's own signature
        return Order(len(self.data.train), self.spec.seed)

    def create_scheduler(self, num_training_steps: int, optimizer: Any = None) -> LambdaLR:  # Any: as above
        """Rise in a line, fall in a cosine. transformers' own begins at a rate of zero, which wastes the first step."""
        warmup = math.ceil(self.spec.warmup_ratio * num_training_steps)
        self.lr_scheduler = LambdaLR(
            cast(torch.optim.Optimizer, optimizer or self.optimizer),
            lambda step: rate_share(step, num_training_steps, warmup),
        )
        self._created_lr_scheduler = True
        return self.lr_scheduler

    def floating_point_ops(self, inputs: Any) -> int:  # Any: as above
        return 0

    def training_step(
        self, model: Any, inputs: dict[str, Any], num_items_in_batch: Any = None
    ) -> torch.Tensor:  # Any: as above
        """Take one batch through the model part by part, and with the other processes, as if at once."""
        model.train()
        self.tokens_seen += inputs["tokens"]
        losses = self._each("step", len(inputs["micros"]), lambda: self._learn(model, inputs), back=True)
        total = torch.tensor(sum(losses), device=self.args.device)
        self._check_finite(total)
        self.team.add_up_gradients(model)
        return total

    def _each(self, meeting: str, parts: int, work: Callable[[], T], *, back: bool = False) -> list[T]:
        """Do work in every process that takes so many parts through the model, forth and perhaps back."""
        if not (shards := self.shards):
            return self.team.each(meeting, work)
        most = max(self.team.each(f"parts of {meeting}", lambda: parts))
        return self.team.each(meeting, lambda: shards.walked(work, most, back=back))

    def _learn(self, model: Any, inputs: dict[str, Any]) -> float:  # Any: a model, wrapped or not
        """Answer what this process's parts add to the step's loss, and leave their gradients."""
        total = torch.zeros((), device=self.args.device)
        for number, part in enumerate(inputs["micros"]):
            # of step and part alone, so that a resumed run drops the same columns, in however many processes
            draw = Random(f"{self.spec.seed}/{self.state.global_step}/{self.team.rank.number}/{number}")  # noqa: S311 - no secret
            torch.manual_seed(draw.getrandbits(63))
            with self.compute_loss_context_manager():
                loss = self._sum(model, part) / inputs["counted"]
            self.accelerator.backward(loss)
            total += loss.detach()
        return total.item()

    def _sum(self, model: Any, part: Micro) -> torch.Tensor:  # Any: as above
        """Answer a part's loss summed over all that counts."""
        losses, _ = answer_losses(model, part)
        return losses.sum()

    def _clip_grad_norm(self, model: Any) -> torch.Tensor:  # Any: as above
        norm = cast(torch.Tensor, super()._clip_grad_norm(model))
        self._check_finite(norm)
        return norm

    def _check_finite(self, value: torch.Tensor) -> None:
        if not bool(torch.isfinite(value)):
            raise TrainerFailure(
                "diverged",
                f"Learning went out of control at step {self.state.global_step + 1}: the loss is no longer a number. "
                f"Nothing was published. Start a new run with a lower learning rate than {self.spec.learning_rate:g}.",
            )

    def evaluate(self, *_args: Any, **_kwargs: Any) -> dict[str, float]:  # Any: as above
        """Measure what chooses the best moment, on examples that are not learnt from."""
        metrics = {"eval_loss": self.held_out_loss()}
        self.log(dict(metrics))
        self.control = self.callback_handler.on_evaluate(self.args, self.state, self.control, metrics)
        return metrics

    def held_out_loss(self) -> float:
        """Answer the loss on the val split in nats per answer token."""
        held_out, model = self.data.splits["val"], cast(PeftModel, self.model)
        mine = self.team.share(sorted(held_out, key=self.data.length, reverse=True))
        pad, limit = filler(model, self.data.pad), self.limits.micro_tokens
        count = len(parts(mine, limit, padded=pad is not None))
        found = self._each("held out", count, lambda: example_losses(model, mine, pad, limit=limit))
        return mean_loss({key: loss for losses in found for key, loss in losses.items()}, held_out)

    def _save(self, output_dir: str | None = None, state_dict: Any = None) -> None:  # Any: as above
        save_adapter(cast(PeftModel, self.model), Path(output_dir or str(self.args.output_dir)))

    def _save_checkpoint(self, model: Any, trial: Any) -> None:  # Any: as above
        self.team.lead("save", lambda: self._write_checkpoint(model, trial))

    def _write_checkpoint(self, model: Any, trial: Any) -> None:  # Any: as above
        folder = Path(str(self.args.output_dir)) / f"checkpoint-{self.state.global_step}"
        if folder.exists():
            shutil.rmtree(folder)
        super(SFTTrainer, self)._save_checkpoint(model, trial)  # past trl's, which writes a model card
        checkpoints.seal(folder)
        checkpoints.rotate(folder.parent, self.state.best_global_step)


def lora_config(spec: TrainSpec, model: torch.nn.Module) -> LoraConfig:
    """Answer PEFT's settings for a spec and the model that is taught."""
    return LoraConfig(
        r=spec.lora.rank,
        lora_alpha=spec.lora.alpha,
        lora_dropout=spec.lora.dropout,
        target_modules=list(spec.lora.target_modules),
        task_type="CAUSAL_LM",
        fan_in_fan_out=any(isinstance(layer, Conv1D) for layer in model.modules()),  # GPT-2 holds weights across
    )


def _config(spec: TrainSpec, examples: int, precision: Precision, output: Path) -> SFTConfig:
    hardware = detect(spec.threads)
    config = SFTConfig(
        output_dir=str(output),
        per_device_train_batch_size=spec.batch_size,
        num_train_epochs=spec.epochs,
        max_steps=spec.steps(examples),
        learning_rate=spec.learning_rate,
        weight_decay=0.0,
        max_grad_norm=1.0,
        optim="adamw_torch_fused",
        logging_steps=1,
        logging_nan_inf_filter=False,
        eval_strategy="no",  # Guide decides
        save_strategy="no",  # Guide decides
        seed=spec.seed,
        data_seed=spec.seed,
        bf16=hardware.device != "cpu" and precision == "bfloat16",  # a CPU's fast layers round by themselves
        use_cpu=hardware.device == "cpu",
        gradient_checkpointing=False,
        dataloader_pin_memory=hardware.device != "cpu",
        dataset_kwargs={"skip_prepare_dataset": True},
        router_aux_loss_coef=0.0,  # else trl asks dense models of a family with experts for what these chose
        max_length=None,
        remove_unused_columns=False,
        report_to="none",
        disable_tqdm=True,
    )
    # other cards are other processes'; left alone, transformers would copy the model to each of them
    config._n_gpu = min(1, config.n_gpu)  # pyright: ignore[reportPrivateUsage] - its own Trainer does the same
    return config


def save_adapter(model: PeftModel, folder: Path) -> None:
    """Write the adapter in PEFT's format, without a model card."""
    model.create_or_update_model_card = lambda _folder: None  # type: ignore[method-assign]
    model.save_pretrained(str(folder), safe_serialization=True, save_embedding_layers=False)
