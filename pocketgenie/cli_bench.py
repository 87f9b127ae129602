"""`pocketgenie bench`: how fast bundles play, side by side, and with the bars, how well."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from pocketgenie.screen import Json, console, progress, write_json


def bench(
    bundles: Annotated[list[Path], typer.Argument(help="Bundles written by `export`; all in one contest.")],
    runtime: Annotated[
        list[str] | None, typer.Option(help="May be given several times; by default all that work here.")
    ] = None,
    quality: Annotated[
        bool, typer.Option("--quality", help="Judge the first bundle by its teacher too (minutes).")
    ] = False,
    bars: Annotated[
        bool,
        typer.Option(
            "--bars", help="Then the bars for the first bundle: name its float32 bundle second (minutes)."
        ),
    ] = False,
    json_out: Json = None,
) -> None:
    """Say how fast bundles play in every runtime that works here. Exit code 1: a bar is not met, 2: something
    could not run."""
    from pocketgenie.runtimes.bench import bench as run
    from pocketgenie.runtimes.lineup import Options
    from pocketgenie.runtimes.summary import render

    with progress() as shown:
        task = shown.add_task("verifying the bundles", total=None)
        documents = run(
            bundles,
            runtime or (),
            Options(quality=quality, bars=bars),
            lambda what: shown.update(task, description=what),
        )
    console.print(render(*documents))
    if json_out:
        write_json(json_out, [document.model_dump(mode="json", by_alias=True) for document in documents])
    raise typer.Exit(max(document.exit_code for document in documents))
