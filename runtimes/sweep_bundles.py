"""Bundles for `make gpu-check`, made and checked by the command line itself: a process with a time limit.

The command line needs libraries that a bare machine may lack; what lacks is named, and nothing is tried then.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np

from pocketgenie.errors import UserError
from pocketgenie.runtimes.sweep_plan import configuration
from pocketgenie.runtimes.sweep_results import Parity

ROOT = Path(__file__).resolve().parent.parent
EXPORT_NEEDS = (
    "pydantic",
    "typer",
    "rich",
    "psutil",
    "PIL",
    "onnx",
    "onnxscript",
    "onnxruntime",
    "safetensors",
)
TARGET_NEEDS = {"onnx": (), "tensorrt": ("tensorrt_rtx",)}
PACKAGES = {"tensorrt_rtx": "tensorrt-rtx", "PIL": "pillow"}
PRECISION = {"float32": "fp32", "float16": "fp16"}
CARDS = {"cuda": ("this", "portable"), "cpu": ("portable",)}
"""Engines to try, by device: for this very card, which may be no RTX card, else portable ones."""


def lacking(names: Sequence[str]) -> str | None:
    """What must be installed first, in words; None when all is there.

    (A stand-in of scripts/stand_ins.py is no installed library: it has no `__path__`.)
    """

    def there(name: str) -> bool:
        if name in sys.modules:
            return (
                hasattr(sys.modules[name], "__path__")
                or getattr(sys.modules[name], "__file__", None) is not None
            )
        return find_spec(name) is not None

    missing = [PACKAGES.get(name, name) for name in names if not there(name)]
    if not missing:
        return None
    what = f"{missing[0]} and others are" if missing[1:] else f"{missing[0]} is"
    return f"{what} not installed (pip install {' '.join(missing)})"


def pocketgenie(arguments: Sequence[str], seconds: float) -> None:
    """Run the command line from the source tree. Raises UserError with its last words, or when time is up."""
    if seconds <= 0:
        raise UserError(f"no time is left for `{arguments[0]}`")
    environment = os.environ | {"PYTHONPATH": os.pathsep.join([str(ROOT), os.environ.get("PYTHONPATH", "")])}
    process = subprocess.Popen(
        [sys.executable, "-m", "pocketgenie", *arguments],
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        start_new_session=True,  # so that its workers end with it
    )
    try:
        told, _ = process.communicate(timeout=seconds)
    except BaseException as error:
        os.killpg(process.pid, signal.SIGKILL)
        process.communicate()
        if isinstance(error, subprocess.TimeoutExpired):
            raise UserError(f"`{arguments[0]}` took more than {seconds:.0f} s") from None
        raise
    if process.returncode not in (0, 1):  # 1: `check` fell short, and its document says how
        words = [line.strip() for line in told.splitlines() if line.strip()] or ["no reason given"]
        raise UserError(f"`{arguments[0]}` ended with {process.returncode}: {words[-1][:200]}")


def random_checkpoint(world: str, steps: int, quick: bool, folder: Path) -> Path:
    """A checkpoint of a sweep's world with random weights and N = `steps`."""
    import torch

    from pocketgenie.genie.checkpoint import Genie, save_config, save_part

    config = configuration(world, quick)
    config = config.model_copy(update={"sampling": config.sampling.model_copy(update={"steps": steps})})
    torch.manual_seed(0)
    genie = Genie(config)
    for weight in genie.parameters():
        if weight.ndim > 1:
            torch.nn.init.normal_(weight, std=0.02)
    save_config(folder, config)
    for name in ("tokenizer", "lam", "dynamics"):
        save_part(folder, name, genie.part(name))
    return folder


def export_random(
    world: str, steps: int, quick: bool, device: str, runtime: str, dtype: str, folder: Path, seconds: float
) -> Path:
    """A bundle of random weights for one runtime of the table. Raises UserError with what is missing."""
    target = "tensorrt" if runtime == "tensorrt" else "onnx"
    if why := lacking((*EXPORT_NEEDS, *TARGET_NEEDS[target])):
        raise UserError(why)
    from pocketgenie.runtimes.doctor import examine
    from pocketgenie.runtimes.table import RUNTIMES

    if not (found := examine(RUNTIMES[runtime])).works:
        raise UserError(f"{found.detail}; {found.mend}")
    made = folder / f"{world}-{steps}-{target}-{dtype}"
    if not made.exists():
        checkpoint = folder / f"{world}-{steps}"
        if not checkpoint.exists():
            random_checkpoint(world, steps, quick, checkpoint)
        _export(checkpoint, target, PRECISION[dtype], made, CARDS[device], seconds, "--no-reference")
    return made


def prove(
    checkpoint: Path,
    target: str,
    precision: str,
    runtimes: Sequence[str],
    *,
    device: str,
    frames: int,
    clips: int,
    folder: Path,
    seconds: float,
) -> Parity:
    """Export the trained world and `check` it in these runtimes, on its first `clips` held-out clips."""
    row: dict[str, Any] = {"target": target, "precision": precision, "runtimes": tuple(runtimes)}
    ends = time.monotonic() + seconds
    if why := lacking((*EXPORT_NEEDS, *TARGET_NEEDS[target])):
        return Parity(**row, status="not run", reason=why)
    bundle, found = (
        folder / f"{checkpoint.name}-{target}-{precision}",
        folder / f"{target}-{precision}.check.json",
    )
    try:
        if not bundle.exists():
            few = folder / "clips.npz"
            np.savez_compressed(few, frames=np.load(checkpoint / "clips.npz")["frames"][:clips])
            _export(checkpoint, target, precision, bundle, CARDS[device], seconds, "--clips", str(few))
        chosen = [word for name in runtimes for word in ("--runtime", name)]
        found.unlink(missing_ok=True)
        options = ["--json", str(found), "--frames", str(frames), "--no-report"]
        try:
            pocketgenie(["check", str(bundle), *chosen, *options], ends - time.monotonic())
        except UserError:
            if not found.exists():  # else: it could not run something, and says so there
                raise
    except UserError as error:
        return Parity(**row, status="not run", reason=str(error))
    return Parity(**row, status="measured", check=json.loads(found.read_text()))


def _export(
    checkpoint: Path,
    target: str,
    precision: str,
    out: Path,
    engines: Sequence[str],
    seconds: float,
    *more: str,
) -> None:
    arguments = [
        "export",
        str(checkpoint),
        "--target",
        target,
        "--precision",
        precision,
        "-o",
        str(out),
        *more,
    ]
    if target != "tensorrt":
        return pocketgenie(arguments, seconds)
    refused, ends = [], time.monotonic() + seconds
    for cards in engines:
        try:
            return pocketgenie([*arguments, "--cards", cards], ends - time.monotonic())
        except UserError as error:
            refused.append(f"--cards {cards}: {error}")
    raise UserError("; ".join(refused))
