"""The command line: thin commands over the library. Errors a user can cause are one line and exit code 2."""

from __future__ import annotations

import os
import sys
from typing import Annotated

import typer
from rich.markup import escape

from pocketgenie import __version__, cli_bench, cli_bundles, cli_demo, cli_distill, cli_import, cli_worlds
from pocketgenie.errors import UserError
from pocketgenie.screen import console, errors

TRAIN_EXTRA = {"accelerate", "av", "tensorboard"}
"""What is in the extra `train` and not in `export`."""
WEB_EXTRA = {"playwright", "starlette", "uvicorn"}
"""What is in the extra `web` and not in `export`."""

app = typer.Typer(
    name="pocketgenie",
    help="Carry a trained Genie world to ONNX and TensorRT, prove that it plays the same world, and play it.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    add_completion=False,
)
for command in (
    *(cli_bundles.export, cli_bundles.check, cli_bench.bench, cli_bundles.play, cli_bundles.doctor),
    *(cli_bundles.serve, cli_demo.demo),
    *(cli_worlds.clips, cli_worlds.train, cli_distill.distill, cli_worlds.evaluate),
):
    app.command()(command)
app.command("import")(cli_import.import_)


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
        extras = {"train": TRAIN_EXTRA, "web": WEB_EXTRA}
        extra = next((extra for extra, names in extras.items() if error.name in names), "export")
        return f"{error.name} is not installed; this needs an extra: pip install 'pocketgenie[{extra}]'"
    if isinstance(error, OSError):  # a full disk, a folder that may not be written
        return f"{error.strerror or error}: {error.filename or 'while writing'}"
    if isinstance(error, KeyboardInterrupt):
        return "interrupted; nothing half-written was left"
    return str(error)
