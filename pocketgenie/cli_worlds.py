"""Commands that make a world: cut clips, train, evaluate."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

import typer
from rich.progress import Progress
from rich.table import Table

from pocketgenie.screen import Json, console, write_json


def evaluate(
    checkpoint: Annotated[Path, typer.Argument(help="Checkpoint folder written by `train`.")],
    clips: Annotated[
        Path, typer.Option(help="Held-out clips: an .npz with `frames` uint8 [N, T >= 5, H, W, 3].")
    ],
    json_out: Json = None,
    seed: Annotated[
        int, typer.Option(min=0, help="Of the random actions that delta-t PSNR compares with.")
    ] = 0,
) -> None:
    """Say how well a checkpoint plays clips it has never seen: PSNR, control, use of codes and actions."""
    from pocketgenie.importers.kinds import load_world
    from pocketgenie.runtimes.reference import world_session
    from pocketgenie.training.data import load_clips
    from pocketgenie.training.evaluation import evaluate as run

    session = world_session(load_world(checkpoint))
    frames = load_clips(clips, (session.spec.height, session.spec.width))
    with Progress(console=console, transient=True) as progress:
        task = progress.add_task("clips", total=len(frames))
        figures = run(
            session, frames, seed=seed, progress=lambda done, _: progress.update(task, completed=done)
        )
    table = Table("figure", "value")
    for name, value in figures.items():
        table.add_row(name, f"{value:.2f}")
    console.print(table)
    if json_out:
        write_json(json_out, figures)


def clips(
    videos: Annotated[Path, typer.Argument(help="A video, or a folder of mp4, webm, gif, mov or mkv files.")],
    out: Annotated[Path, typer.Option("--out", "-o", help="The .npz to write, for `train --clips`.")],
    size: Annotated[str, typer.Option(help="WIDTHxHEIGHT of the world; frames are cropped to it.")] = "64x64",
    fps: Annotated[float, typer.Option(min=0.1, max=240, help="Frames per second of the world.")] = 10,
    length: Annotated[int, typer.Option(min=2, max=1000, help="Frames per clip (T).")] = 16,
    hold_out: Annotated[
        float, typer.Option(min=0, max=0.9, help="Share of the clips for OUT-heldout.npz, to `evaluate` on.")
    ] = 0,
) -> None:
    """Cut videos into clips to train on."""
    from pocketgenie.training.video import ClipOptions, make_clips, parse_size

    width, height = parse_size(size)
    options = ClipOptions(width=width, height=height, fps=fps, length=length, hold_out=hold_out)
    made = make_clips(videos, out, options)
    for path, count in made.clips.items():
        typer.echo(f"{path}: {count} clips of {length} frames, {width}x{height} at {fps:g} FPS")
    typer.echo(f"from {made.videos} videos" + (f", {made.skipped} skipped" if made.skipped else ""))


def train(
    part: Annotated[
        Literal["tokenizer", "lam", "dynamics"], typer.Argument(help="What to train, in this order.")
    ],
    clips: Annotated[Path, typer.Option(help="Clips: an .npz with `frames` uint8 [N, T, H, W, 3].")],
    out: Annotated[
        Path, typer.Option("--out", "-o", help="Checkpoint folder; a run that was begun there goes on.")
    ],
    steps: Annotated[int, typer.Option(min=1, help="Optimizer steps in all.")],
    config: Annotated[str, typer.Option(help="A shipped configuration's name or a JSON file.")] = "coinrun",
    batch: Annotated[
        int, typer.Option(min=1, help="Clips (or frames, for a per-frame tokenizer) per process.")
    ] = 32,
    learning_rate: Annotated[float, typer.Option(min=0.0)] = 2e-3,
    optimizer: Annotated[Literal["muon", "adamw"], typer.Option(help="adamw is the paper's.")] = "muon",
    mixed_precision: Annotated[Literal["auto", "no", "bf16", "fp16"], typer.Option()] = "auto",
    save_every: Annotated[int, typer.Option(min=1, help="Steps between resumable states.")] = 100,
    seed: Annotated[int, typer.Option(min=0)] = 0,
) -> None:
    """Train one part of a world from unlabelled video. Also runs under `accelerate launch -m pocketgenie`."""
    from accelerate import PartialState

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
    try:
        run(part, load_config(config), clips, out, options)
    finally:
        PartialState().destroy_process_group()  # its threads must not outlive the interpreter
