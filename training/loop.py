"""One training loop for all three parts, on accelerate: one process, or many under `accelerate launch`.

A run can be killed at any moment. Every batch is a pure function of (seed, step, process), the state is
written whole or not at all, and a run that is started again goes on from the last one.
"""

from __future__ import annotations

import json
import math
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from accelerate import Accelerator
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    TextColumn,
    TimeRemainingColumn,
)
from rich.table import Column
from safetensors import safe_open
from torch import Tensor, nn
from torch.utils.tensorboard import SummaryWriter

from pocketgenie.errors import UserError
from pocketgenie.genie.checkpoint import save_tensors

Batch = Callable[[np.random.Generator], tuple[Tensor, ...]]


@dataclass(frozen=True, kw_only=True)
class TrainOptions:
    """Learning rate: linear warm-up over `warmup` steps, then linearly to zero at `steps`."""

    steps: int
    batch: int
    learning_rate: float = 2e-3
    warmup: int = 50
    weight_decay: float = 0.01
    optimizer: str = "muon"
    """`muon` (torch.optim.Muon on the transformers' matrices, AdamW on the rest) or `adamw` (the paper's)."""
    seed: int = 0
    save_every: int = 100
    log_every: int = 20
    mixed_precision: str = "auto"
    """`auto`, `no`, `bf16` or `fp16`."""


def learning_rate_factor(step: int, options: TrainOptions) -> float:
    """Multiplier in [0, 1] at a step."""
    return min((step + 1) / options.warmup, max(0.0, 1 - step / options.steps))


def make_optimizers(model: nn.Module, options: TrainOptions) -> list[torch.optim.Optimizer]:
    """Muon for the 2-D weights inside transformers, AdamW for everything else."""
    matrices: list[nn.Parameter] = []
    rest: list[nn.Parameter] = []
    for name, weight in model.named_parameters():
        hidden = "blocks." in name and weight.ndim == 2 and name.endswith(".weight")
        (matrices if hidden and options.optimizer == "muon" else rest).append(weight)
    optimizers: list[torch.optim.Optimizer] = [
        torch.optim.AdamW(
            rest, lr=options.learning_rate, betas=(0.9, 0.95), weight_decay=options.weight_decay
        )
    ]
    if matrices:
        optimizers.append(
            torch.optim.Muon(
                matrices,
                lr=options.learning_rate,
                weight_decay=options.weight_decay,
                adjust_lr_fn="match_rms_adamw",
            )
        )
    return optimizers


def default_precision() -> str:
    """bf16 where the device computes in it, else no mixed precision."""
    if torch.cuda.is_available():
        return "bf16" if torch.cuda.is_bf16_supported() else "fp16"
    return (
        "bf16"
        if torch.ops.mkldnn._is_mkldnn_bf16_supported() and torch.cpu._is_avx512_bf16_supported()
        else "no"
    )


def make_accelerator(options: TrainOptions) -> Accelerator:
    """The processes and devices of this run, and its precision."""
    precision = default_precision() if options.mixed_precision == "auto" else options.mixed_precision
    return Accelerator(mixed_precision=precision)


def fit(
    accelerator: Accelerator,
    loss: nn.Module,
    batch: Batch,
    options: TrainOptions,
    folder: Path,
    on_save: Callable[[nn.Module], None],
    title: str,
) -> None:
    """Train `loss` (of training.losses) for `options.steps` steps; `folder` keeps state, metrics and logs."""
    try:
        _fit(accelerator, loss, batch, options, folder, on_save, title)
    finally:
        accelerator.free_memory()  # or its wrapped models outlive the process group and crash the exit


def _fit(
    accelerator: Accelerator,
    loss: nn.Module,
    batch: Batch,
    options: TrainOptions,
    folder: Path,
    on_save: Callable[[nn.Module], None],
    title: str,
) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    optimizers = make_optimizers(loss, options)
    base = [[group["lr"] for group in optimizer.param_groups] for optimizer in optimizers]
    start = _load_state(folder / "state.safetensors", loss, optimizers)
    model, *prepared = accelerator.prepare(loss, *optimizers)
    main = accelerator.is_main_process
    writer = SummaryWriter(str(folder / "tensorboard")) if main else None
    columns = (
        TextColumn("{task.description}", table_column=Column(no_wrap=True)),
        BarColumn(12),
        MofNCompleteColumn(table_column=Column(no_wrap=True)),
        TimeRemainingColumn(table_column=Column(no_wrap=True)),
        TextColumn("{task.fields[figures]}", table_column=Column(no_wrap=True, overflow="ellipsis", ratio=1)),
    )
    with Progress(*columns, disable=not main, expand=True) as progress:
        task = progress.add_task(title, total=options.steps, completed=start, figures="")
        clock, model_ready = time.perf_counter(), model.train()
        for step in range(start, options.steps):
            seed = [options.seed, step, accelerator.process_index]
            rng = np.random.default_rng(seed)
            torch.manual_seed(int(rng.integers(2**31)))
            factor = learning_rate_factor(step, options)
            for optimizer, rates in zip(prepared, base, strict=True):
                for group, rate in zip(optimizer.param_groups, rates, strict=True):
                    group["lr"] = rate * factor
            tensors = (tensor.to(accelerator.device) for tensor in batch(rng))
            with accelerator.autocast():
                value, figures = model_ready(*tensors)
            if not torch.isfinite(value):
                raise UserError(f"{title}: the loss is {value.item()} at step {step}; lower --learning-rate")
            accelerator.backward(value)
            accelerator.clip_grad_norm_(model.parameters(), 1.0)
            for optimizer in prepared:
                optimizer.step()
                optimizer.zero_grad()
            done = step + 1
            if main and (done % options.log_every == 0 or done == options.steps):
                row = {"step": done, "loss": value.item(), "lr_factor": factor}
                row |= {"seconds": round(time.perf_counter() - clock, 2)}
                row |= {key: round(figure.item(), 4) for key, figure in figures.items()}
                _log(folder / "metrics.jsonl", row, writer)
                shown = "  ".join(f"{key} {row[key]:.2f}" for key in figures)
                progress.update(task, figures=shown)
                if not progress.console.is_terminal:
                    line = f"{title} {done}/{options.steps}  loss {row['loss']:.4f}  {shown}"
                    progress.console.print(line, soft_wrap=True)
            if main and (done % options.save_every == 0 or done == options.steps):
                trained = accelerator.unwrap_model(model)
                on_save(trained)
                _save_state(folder / "state.safetensors", trained, optimizers, done)
            progress.update(task, completed=done)
    accelerator.wait_for_everyone()
    if writer:
        writer.close()


def _log(path: Path, row: dict[str, Any], writer: SummaryWriter | None) -> None:
    with path.open("a") as file:
        file.write(json.dumps(row) + "\n")
    if writer:
        for key, value in row.items():
            if key != "step" and math.isfinite(value):
                writer.add_scalar(key, value, row["step"])


def _save_state(path: Path, model: nn.Module, optimizers: list[torch.optim.Optimizer], step: int) -> None:
    tensors = {f"model.{key}": value for key, value in model.state_dict().items()}
    for number, optimizer in enumerate(optimizers):
        for index, state in optimizer.state_dict()["state"].items():
            for key, value in state.items():
                tensors[f"optimizer.{number}.{index}.{key}"] = torch.as_tensor(value)
    save_tensors(path, tensors, {"step": str(step)})


def _load_state(path: Path, model: nn.Module, optimizers: list[torch.optim.Optimizer]) -> int:
    """-> the number of steps already done; 0 when there is no state"""
    if not path.exists():
        return 0
    try:
        with safe_open(path, "pt") as file:
            tensors = {key: file.get_tensor(key) for key in file.keys()}  # noqa: SIM118 (not a dict)
            step = int(file.metadata()["step"])
        model.load_state_dict(
            {k.removeprefix("model."): v for k, v in tensors.items() if k.startswith("model.")}
        )
        for number, optimizer in enumerate(optimizers):
            states: dict[int, dict[str, Tensor]] = {}
            prefix = f"optimizer.{number}."
            for key in (key for key in tensors if key.startswith(prefix)):
                number_text, name = key.removeprefix(prefix).split(".", 1)
                states.setdefault(int(number_text), {})[name] = tensors[key]
            weights = [weight for group in optimizer.param_groups for weight in group["params"]]
            for index, state in states.items():
                if any(value.ndim and value.shape != weights[index].shape for value in state.values()):
                    raise ValueError("it is of another optimizer")
            optimizer.load_state_dict(
                {"state": states, "param_groups": optimizer.state_dict()["param_groups"]}
            )
    except Exception as error:
        reason = " ".join(str(error).split())[:120]
        raise UserError(f"{path} cannot be resumed ({reason}); remove it to start again") from error
    return step
