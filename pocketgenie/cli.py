"""The command line: thin commands over the library. Errors a user can cause are one line and exit code 2."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import Annotated, Literal

import typer
from rich.console import Console

from pocketgenie import __version__
from pocketgenie.errors import UserError

app = typer.Typer(
    name="pocketgenie",
    help="Carry a trained Genie world to ONNX, check that it still plays the same world, and play it.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    add_completion=False,
)
console = Console()
errors = Console(stderr=True)

Json = Annotated[Path | None, typer.Option("--json", help="Also write the result to this file.")]


@app.command()
def train(
    part: Annotated[Literal["tokenizer", "lam", "dynamics"], typer.Argument(help="What to train, in this order.")],
    clips: Annotated[Path, typer.Option(help="Clips: an .npz with `frames` uint8 [N, T, H, W, 3].")],
    out: Annotated[Path, typer.Option("--out", "-o", help="Checkpoint folder; a run that was begun there goes on.")],
    steps: Annotated[int, typer.Option(min=1, help="Optimizer steps in all.")],
    config: Annotated[str, typer.Option(help="A shipped configuration's name or a JSON file.")] = "coinrun",
    batch: Annotated[int, typer.Option(min=1, help="Clips (or frames, for a per-frame tokenizer) per process.")] = 32,
    learning_rate: Annotated[float, typer.Option(min=0.0)] = 2e-3,
    optimizer: Annotated[Literal["muon", "adamw"], typer.Option(help="adamw is the paper's.")] = "muon",
    mixed_precision: Annotated[Literal["auto", "no", "bf16", "fp16"], typer.Option()] = "auto",
    save_every: Annotated[int, typer.Option(min=1, help="Steps between resumable states.")] = 100,
    seed: Annotated[int, typer.Option(min=0)] = 0,
) -> None:
    """Train one part of a world from unlabelled video. Also runs under `accelerate launch -m pocketgenie`."""
    from pocketgenie.genie.config import load_config
    from pocketgenie.training.loop import TrainOptions
    from pocketgenie.training.train import train as run

    options = TrainOptions(
        steps=steps,
        batch=batch,
        learning_rate=learning_rate,
        optimizer=optimizer,
        mixed_precision=mixed_precision,
        save_every=save_every,
        seed=seed,
    )
    run(part, load_config(config), clips, out, options)


def _version(shown: bool) -> None:
    if shown:
        console.print(f"pocketgenie {__version__}")
        raise typer.Exit()


@app.callback()
def options(
    debug: Annotated[bool, typer.Option("--debug", help="Show the traceback of an error.")] = False,
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Print the version.")
    ] = False,
) -> None:
    """Options before the command."""
    os.environ["POCKETGENIE_DEBUG"] = "1" if debug else ""


def main() -> None:
    """Entry point: runs the app, turns what a user can cause into one line and exit code 2."""
    try:
        app()
    except UserError as error:
        message = str(error)
    except OSError as error:  # a full disk, a folder that may not be written
        message = f"{error.strerror or error}: {error.filename or 'while writing'}"
    except KeyboardInterrupt:
        message = "interrupted; nothing half-written was left"
    else:
        return
    if os.environ.get("POCKETGENIE_DEBUG"):
        errors.print_exception()
    errors.print(f"[bold red]error:[/] {message}", markup=True, highlight=False, soft_wrap=True)
    sys.exit(2)
