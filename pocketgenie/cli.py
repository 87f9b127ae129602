"""The command line: thin commands over the library. Errors a user can cause are one line and exit code 2."""

from __future__ import annotations

import json
import os
import sys
import time
from pathlib import Path
from typing import Annotated, Literal

import typer
from rich.console import Console
from rich.markup import escape
from rich.progress import Progress, SpinnerColumn, TextColumn, TimeElapsedColumn
from rich.table import Table

from pocketgenie import __version__
from pocketgenie.errors import UserError

TRAIN_EXTRA = {"accelerate", "av", "tensorboard"}
"""What is in the extra `train` and not in `export`."""

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
def export(
    checkpoint: Annotated[Path, typer.Argument(help="Checkpoint folder written by `train`.")] = Path(
        "assets/coinrun"
    ),
    out: Annotated[
        Path, typer.Option("--out", "-o", help="The bundle to write; an older one is replaced.")
    ] = Path("dist/coinrun-onnx-fp32"),
    target: Annotated[Literal["onnx"], typer.Option(help="What to make.")] = "onnx",
    precision: Annotated[Literal["fp32"], typer.Option(help="Numbers inside the graphs.")] = "fp32",
    clips: Annotated[
        Path | None, typer.Option(help="Held-out clips for `check`; else the checkpoint's clips.npz.")
    ] = None,
    reference: Annotated[
        bool, typer.Option(help="Put the checkpoint into the bundle, so that it can be checked.")
    ] = True,
) -> None:
    """Make a bundle: ONNX graphs that play the world without torch, and all that `check` needs."""
    with console.status("loading torch"):
        from pocketgenie.export.world import ExportOptions, export_checkpoint

    started = time.perf_counter()
    with console.status("reading the checkpoint") as status:
        manifest = export_checkpoint(
            checkpoint,
            out,
            ExportOptions(clips=clips, reference=reference),
            lambda what: status.update(f"exporting {what}"),
        )
    size = sum(entry.size for entry in manifest.files.values())
    seconds = time.perf_counter() - started
    console.print(
        f"{out}: {len(manifest.graphs)} graphs, {size / 1e6:.1f} MB, {target} {precision}, in {seconds:.0f} s"
    )


@app.command()
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
    from pocketgenie.genie.graphs import load_world
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


def write_json(path: Path, document: object) -> None:
    """Write a JSON file, whole or not at all."""
    part = path.with_name(path.name + ".part")
    part.write_text(json.dumps(document, indent=2) + "\n")
    os.replace(part, path)


@app.command()
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


@app.command()
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


@app.command()
def play(
    bundle: Annotated[Path, typer.Argument(help="A bundle written by `export`.")],
    image: Annotated[
        Path | None, typer.Option(help="Any picture to start from; else the first of the bundle's gallery.")
    ] = None,
    actions: Annotated[
        str | None, typer.Option(help="What to play, like 1,1,4x8,2; without it you play live.")
    ] = None,
    out: Annotated[Path | None, typer.Option("--out", "-o", help="The GIF that --actions writes.")] = None,
    runtime: Annotated[str, typer.Option(help="See `doctor`.")] = "ort-cpu",
    seed: Annotated[int, typer.Option(min=0, help="Of the sampling noise.")] = 0,
    temperature_zero: Annotated[
        bool, typer.Option("--temperature-zero", help="Always the likeliest tokens.")
    ] = False,
    scale: Annotated[int, typer.Option(min=1, max=64, help="GIF pixels per pixel of the world.")] = 6,
    keys: Annotated[str, typer.Option(help="Live: more keys for actions, like right=4,left=2,w=3.")] = "",
) -> None:
    """Play a world: live in the terminal, or --actions into a GIF."""
    from pocketgenie.runtimes.player import open_player, play_gif

    if (actions is None) != (out is None):
        raise UserError("--actions and -o belong together: --actions 1,1,4x8,2 -o out.gif")
    if actions is None and not all(stream.isatty() for stream in (sys.stdin, sys.stdout, sys.stderr)):
        raise UserError("this is no terminal to play in; write a GIF: --actions 1,1,4x8,2 -o out.gif")
    player, starts = open_player(bundle, image, runtime, seed, temperature_zero)
    with player:
        if actions is None or out is None:
            from pocketgenie.runtimes.terminal import key_map, play_live

            play_live(player, [start.frame for start in starts], key_map(player.spec, keys))
        else:
            typer.echo(f"{starts[0].name}: {starts[0].done}")
            typer.echo(f"{out}: {play_gif(player, starts[0].frame, actions, out, scale)}")


@app.command()
def doctor(json_out: Json = None) -> None:
    """Say which runtimes work here and what mends the others. Installs nothing."""
    from pocketgenie.runtimes.doctor import diagnose, render

    with console.status("trying the runtimes"):
        report = diagnose()
    console.print(render(report))
    if json_out:
        write_json(json_out, report.model_dump())


@app.command()
def check(
    bundle: Annotated[Path, typer.Argument(help="A bundle written by `export`.")],
    runtime: Annotated[
        list[str] | None, typer.Option(help="May be given several times; by default all that work here.")
    ] = None,
    json_out: Json = None,
    frames: Annotated[int, typer.Option(min=1, max=10_000, help="Of each roll-out of L3.")] = 64,
    min_fps: Annotated[float, typer.Option(min=0, help="Fall short below so many frames a second.")] = 0,
    report: Annotated[
        bool, typer.Option(help="Put parity.json, bench.json and the report into the bundle.")
    ] = True,
) -> None:
    """Prove a bundle against the reference and say how fast it is. Exit code 0: it holds, 1: it falls short,
    2: it could not run."""
    from pocketgenie.runtimes.check import Options
    from pocketgenie.runtimes.check import check as run
    from pocketgenie.runtimes.publish import publish
    from pocketgenie.runtimes.summary import render

    if report and bundle.is_dir() and not os.access(bundle, os.W_OK):
        raise UserError(f"{bundle} cannot be written; check it with --no-report, or copy it first")
    with _progress() as progress:
        task = progress.add_task("verifying the bundle", total=None)

        def tell(what: str) -> None:
            progress.update(task, description=what)

        document, shown = run(bundle, runtime or (), Options(frames=frames, min_fps=min_fps), tell)
        if report:
            tell("writing the report")
            publish(bundle, document, shown)
    console.print(render(document))
    if json_out:
        write_json(json_out, document.model_dump(mode="json", by_alias=True))
    raise typer.Exit(document.exit_code)


@app.command()
def bench(
    bundles: Annotated[list[Path], typer.Argument(help="Bundles written by `export`.")],
    runtime: Annotated[
        list[str] | None, typer.Option(help="May be given several times; by default all that work here.")
    ] = None,
    json_out: Json = None,
) -> None:
    """Say how fast bundles play in every runtime that works here. Exit code 2: one could not run."""
    from pocketgenie.runtimes.check import Options
    from pocketgenie.runtimes.check import bench as run
    from pocketgenie.runtimes.summary import render

    documents = []
    with _progress() as progress:
        task = progress.add_task("verifying the bundle", total=None)
        for bundle in bundles:

            def tell(what: str, name: str = bundle.name) -> None:
                progress.update(task, description=f"{name}: {what}")

            documents.append(run(bundle, runtime or (), Options(), tell))
            progress.console.print(render(documents[-1]))
    if json_out:
        write_json(json_out, [document.model_dump(mode="json", by_alias=True) for document in documents])
    raise typer.Exit(max(document.exit_code for document in documents))


def _progress() -> Progress:
    """What is being done, and for how long."""
    columns = SpinnerColumn(), TextColumn("{task.description}"), TimeElapsedColumn()
    return Progress(*columns, console=console, transient=True)


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
    except (UserError, OSError, ModuleNotFoundError, KeyboardInterrupt) as error:
        if os.environ.get("POCKETGENIE_DEBUG"):
            errors.print_exception()
        line = f"[bold red]error:[/] {escape(_in_words(error))}"
        errors.print(line, markup=True, highlight=False, soft_wrap=True)
        sys.exit(2)


def _in_words(error: BaseException) -> str:
    """What is wrong, on one line."""
    if isinstance(error, ModuleNotFoundError):
        extra = "train" if error.name in TRAIN_EXTRA else "export"
        return f"{error.name} is not installed; this needs an extra: pip install 'pocketgenie[{extra}]'"
    if isinstance(error, OSError):  # a full disk, a folder that may not be written
        return f"{error.strerror or error}: {error.filename or 'while writing'}"
    if isinstance(error, KeyboardInterrupt):
        return "interrupted; nothing half-written was left"
    return str(error)
