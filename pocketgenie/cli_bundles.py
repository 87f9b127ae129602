"""Commands about bundles: export, check, play, doctor."""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from pocketgenie.errors import UserError
from pocketgenie.export.manifest import Manifest, Precision
from pocketgenie.screen import Json, console, progress, write_json

if TYPE_CHECKING:
    from pocketgenie.export.world import ExportOptions
    from pocketgenie.quantize.pareto import Goal
    from pocketgenie.runtimes.lineup import Options
    from pocketgenie.runtimes.results import CheckDocument

DEFAULT_CARDS = {"rtx": "rtx30,rtx40,rtx50", "standard": "this"}
DEFAULT_PRECISION: dict[str, Precision] = {"onnx": "int8", "tensorrt": "fp16", "web": "int8"}

SENSITIVITIES = ".pocketgenie-sensitivities"
"""Folder beside the bundle where `--precision auto` keeps what it measured of each layer."""

Frames = Annotated[int, typer.Option(min=1, max=10_000, help="Of each roll-out of L3.")]


def export(
    checkpoint: Annotated[
        Path, typer.Argument(help="Checkpoint folder written by `train`, or a bundle to export again.")
    ] = Path("assets/coinrun-pocket"),
    out: Annotated[
        Path | None,
        typer.Option("--out", "-o", help="The bundle to write; by default dist/NAME-TARGET-PRECISION."),
    ] = None,
    target: Annotated[
        Literal["onnx", "tensorrt", "web"],
        typer.Option(
            help="onnx: for ONNX Runtime. tensorrt: engines for NVIDIA cards, and the ONNX. web: a folder of "
            "static files that plays in any browser."
        ),
    ] = "onnx",
    precision: Annotated[
        Literal["fp32", "fp16", "int8", "int4", "auto"] | None,
        typer.Option(
            help="Of the products inside the graphs; auto: what plays fastest here within --budget-db.",
            show_default="fp16 for tensorrt, else int8",
        ),
    ] = None,
    budget_db: Annotated[
        float, typer.Option(min=0, help="auto: dB that no figure of quality may lose.")
    ] = 0.3,
    fps: Annotated[
        float | None, typer.Option(min=0.1, help="auto: the smallest that reaches it here, not the fastest.")
    ] = None,
    steps: Annotated[
        list[int] | None,
        typer.Option(min=1, help="auto: refinement steps to try, several times.", show_default="1, 2, 4"),
    ] = None,
    candidates: Annotated[int, typer.Option(min=1, help="auto: bundles to make and run at most.")] = 12,
    cards: Annotated[
        str | None,
        typer.Option(
            help="tensorrt: of rtx20, rtx30, rtx40, rtx50, a comma between; or portable, or this.",
            show_default="rtx30,rtx40,rtx50; this for standard",
        ),
    ] = None,
    flavor: Annotated[
        Literal["rtx", "standard"],
        typer.Option(help="TensorRT for RTX, or the datacentre's TensorRT (builds only for the GPU here)."),
    ] = "rtx",
    clips: Annotated[
        Path | None, typer.Option(help="Held-out clips for `check`; else the checkpoint's clips.npz.")
    ] = None,
    form: Annotated[
        Literal["cpu", "qdq", "optimum"] | None,
        typer.Option(
            help="Of int8 and int4. cpu: what ONNX Runtime multiplies fastest. qdq: Q/DQ pairs, which "
            "TensorRT and browsers read too. optimum: as cpu, by that library.",
            show_default="qdq for tensorrt, else cpu",
        ),
    ] = None,
    reference: Annotated[
        bool, typer.Option(help="Put the checkpoint into the bundle, so that it can be checked.")
    ] = True,
    prove: Annotated[
        bool, typer.Option("--check", help="Then `check` it; without the card it is for, built is enough.")
    ] = False,
    json_out: Json = None,
) -> None:
    """Make a bundle: graphs or engines that play the world without torch, and all that `check` needs."""
    with console.status("loading torch"):
        from pocketgenie.export.world import ExportOptions, export_checkpoint, open_source

    chosen = precision or DEFAULT_PRECISION[target]
    folder = out or Path("dist") / f"{open_source(checkpoint).name}-{target}-{chosen}"
    options = ExportOptions(
        target=target,
        precision="mixed" if chosen == "auto" else chosen,
        cards=cards or DEFAULT_CARDS[flavor],
        flavor=flavor,
        clips=clips,
        form=form,
        reference=reference,
    )
    started = time.perf_counter()
    if chosen == "auto":
        from pocketgenie.quantize.pareto import Goal

        manifest = _search(checkpoint, folder, options, Goal(budget_db=budget_db, fps=fps), steps, candidates)
    else:
        with console.status("reading the checkpoint") as status:
            manifest = export_checkpoint(checkpoint, folder, options, status.update)
    size = sum(entry.size for entry in manifest.files.values())
    seconds = time.perf_counter() - started
    what = f"{len(manifest.graphs)} graphs, {size / 1e6:.1f} MB, {target} {manifest.precision}"
    if built := manifest.engines:
        what += f", engines for {', '.join(built.cards)} by {built.library}"
    console.print(f"{folder}: {what}, in {seconds:.0f} s", highlight=False, soft_wrap=True)
    if (teacher := manifest.recipe.get("teacher", "")).startswith("left out"):
        console.print(f"the teacher was {teacher}", highlight=False, soft_wrap=True)
    if prove:
        from pocketgenie.runtimes.check import only_lacks_a_card
        from pocketgenie.runtimes.lineup import Options

        document = _prove(folder, (), Options(), True, json_out)
        raise typer.Exit(0 if only_lacks_a_card(document) else document.exit_code)


def _search(
    checkpoint: Path,
    folder: Path,
    options: ExportOptions,
    goal: Goal,
    steps: Sequence[int] | None,
    candidates: int,
) -> Manifest:
    """`export --precision auto`: search, print every point that was run."""
    from pocketgenie.export.bundle import load_bundle
    from pocketgenie.quantize.search import search
    from pocketgenie.quantize.search_bench import SearchOptions
    from pocketgenie.quantize.search_table import render

    wanted = SearchOptions(
        goal=goal, cache=folder.parent / SENSITIVITIES, steps=tuple(steps or ()), candidates=candidates
    )
    with progress() as shown:
        task = shown.add_task("reading the checkpoint", total=None)
        document = search(
            checkpoint, folder, options, wanted, lambda what: shown.update(task, description=what)
        )
    console.print(render(document))
    return load_bundle(folder, only=()).manifest


def check(
    bundle: Annotated[Path, typer.Argument(help="A bundle written by `export`.")],
    runtime: Annotated[
        list[str] | None, typer.Option(help="May be given several times; by default all that work here.")
    ] = None,
    json_out: Json = None,
    frames: Frames = 64,
    min_fps: Annotated[float, typer.Option(min=0, help="Fall short below so many frames a second.")] = 0,
    teacher: Annotated[
        bool, typer.Option("--teacher", help="Judge a distilled world by its teacher too (minutes).")
    ] = False,
    report: Annotated[
        bool, typer.Option(help="Put parity.json, bench.json and the report into the bundle.")
    ] = True,
) -> None:
    """Prove a bundle against the reference and say how fast it is. Exit code 0: it holds, 1: it falls short,
    2: it could not run."""
    from pocketgenie.runtimes.lineup import Options

    options = Options(frames=frames, min_fps=min_fps, quality=teacher)
    raise typer.Exit(_prove(bundle, runtime or (), options, report, json_out).exit_code)


def _prove(
    bundle: Path, runtimes: Sequence[str], options: Options, report: bool, json_out: Path | None
) -> CheckDocument:
    """Check, put the report into the bundle, print the table."""
    from pocketgenie.runtimes.check import check as run
    from pocketgenie.runtimes.publish import publish
    from pocketgenie.runtimes.summary import render

    if report and bundle.is_dir() and not os.access(bundle, os.W_OK):
        raise UserError(f"{bundle} cannot be written; check it with --no-report, or copy it first")
    with progress() as shown_progress:
        task = shown_progress.add_task("verifying the bundle", total=None)

        def tell(what: str) -> None:
            shown_progress.update(task, description=what)

        document, shown = run(bundle, runtimes, options, tell)
        if report:
            tell("writing the report")
            publish(bundle, document, shown)
    console.print(render(document))
    if json_out:
        write_json(json_out, document.model_dump(mode="json", by_alias=True))
    return document


def play(
    bundle: Annotated[Path, typer.Argument(help="A bundle written by `export`.")],
    image: Annotated[
        Path | None, typer.Option(help="Any picture to start from; else the first of the bundle's gallery.")
    ] = None,
    actions: Annotated[
        str | None, typer.Option(help="What to play, like 1,1,4x8,2; without it you play live.")
    ] = None,
    out: Annotated[Path | None, typer.Option("--out", "-o", help="The GIF that --actions writes.")] = None,
    runtime: Annotated[
        str | None, typer.Option(help="See `doctor`; by default the one that the bundle is made for.")
    ] = None,
    fallback: Annotated[
        bool, typer.Option("--fallback", help="Play the bundle's ONNX graphs where the runtime cannot.")
    ] = False,
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
    opened = open_player(bundle, image, runtime, seed, temperature_zero, fallback)
    if opened.words:
        typer.echo(opened.words, err=True)
    player, starts = opened.player, opened.pictures
    with player:
        if actions is None or out is None:
            from pocketgenie.runtimes.terminal import key_map, play_live

            play_live(player, [start.frame for start in starts], key_map(player.spec, keys))
        else:
            typer.echo(f"{starts[0].name}: {starts[0].done}")
            typer.echo(f"{out}: {play_gif(player, starts[0].frame, actions, out, scale)}")


def serve(
    bundle: Annotated[Path, typer.Argument(help="A bundle written by `export --target web`, or its site.")],
    port: Annotated[int, typer.Option(min=0, max=65535, help="0 for any that is free.")] = 8080,
    host: Annotated[
        str, typer.Option(help="Where to listen; beyond localhost browsers give threads over https only.")
    ] = "127.0.0.1",
) -> None:
    """Serve the browser player on this machine, isolated, so that it plays with threads. Ctrl-C ends it."""
    from pocketgenie.runtimes.serve import serve as run

    run(bundle, host, port, lambda address: console.print(f"{address}  (Ctrl-C ends it)", highlight=False))


def doctor(json_out: Json = None) -> None:
    """Say which runtimes work here and what mends the others. Installs nothing."""
    from pocketgenie.runtimes.doctor import diagnose, render

    with console.status("trying the runtimes"):
        report = diagnose()
    console.print(render(report))
    if json_out:
        write_json(json_out, report.model_dump())
