"""`pocketgenie demo`: the Streamlit app, on localhost unless told otherwise."""

from __future__ import annotations

import os
import socket
import sys
import threading
import time
import webbrowser
from importlib.util import find_spec
from pathlib import Path
from typing import Annotated

import typer

from pocketgenie.errors import UserError
from pocketgenie.screen import console, errors

STARTS_IN = 60  # seconds, at most


def demo(
    bundles: Annotated[
        list[Path] | None, typer.Argument(help="Bundles to list first, beside those in --dist.")
    ] = None,
    dist: Annotated[Path, typer.Option(help="Folder with bundles; exports from the page go there.")] = Path(
        "dist"
    ),
    checkpoints: Annotated[
        list[Path] | None,
        typer.Option(help="Folders that hold checkpoint folders.", show_default="assets, runs"),
    ] = None,
    prompt_model: Annotated[
        Path | None, typer.Option(help="A text-to-image model in diffusers' format, to start from words.")
    ] = None,
    port: Annotated[int, typer.Option(min=1, max=65535, help="Where to listen.")] = 8501,
    address: Annotated[
        str, typer.Option(help="Anything but localhost lets others in; see --let-others-in.")
    ] = "127.0.0.1",
    let_others_in: Annotated[
        bool,
        typer.Option(
            "--let-others-in", help="Confirm an --address that others can reach: they may export too."
        ),
    ] = False,
    browser: Annotated[bool, typer.Option("--browser/--no-browser", help="Open the page.")] = True,
) -> None:
    """Open the page where worlds are played, compared, judged and exported."""
    if find_spec("streamlit") is None:
        raise UserError("streamlit is not installed; this needs an extra: pip install 'pocketgenie[demo]'")
    from pocketgenie.export.bundle import load_bundle
    from pocketgenie.web_demo.guards import is_local
    from pocketgenie.web_demo.prompt import kind_of
    from pocketgenie.web_demo.settings import VARIABLE, Settings

    if not is_local(address):
        if not let_others_in:
            raise UserError(
                f"{address} can be reached by others, who may then play and export here; "
                "add --let-others-in if you mean it, or leave --address out"
            )
        errors.print(
            f"[bold yellow]warning:[/] whoever reaches {address}:{port} can play, upload and export here, "
            "without a password or encryption",
            highlight=False,
            soft_wrap=True,
        )
    for bundle in bundles or ():
        load_bundle(bundle, only=())
    if prompt_model:
        kind_of(prompt_model)
    settings = Settings(
        bundles=tuple(bundles or ()),
        dist=dist,
        **({"checkpoints": tuple(checkpoints)} if checkpoints else {}),
        prompt_model=prompt_model,
        address=address,
        port=port,
    )
    os.environ[VARIABLE] = settings.model_dump_json()
    _must_be_free(address, port)
    name = f"[{address}]" if ":" in address else "localhost" if address == "127.0.0.1" else address
    url = f"http://{name}:{port}"
    console.print(f"{url}  (Ctrl-C ends it)", highlight=False)
    if browser and (sys.platform != "linux" or {"DISPLAY", "WAYLAND_DISPLAY"} & os.environ.keys()):
        threading.Thread(target=_open_page, args=(url, address, port), daemon=True).start()
    _serve(address, port)


def _must_be_free(address: str, port: int) -> None:
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    try:
        socket.create_server((address, port), family=family).close()
    except OSError as error:
        raise UserError(
            f"cannot listen at {address}, port {port} ({str(error.strerror).partition(' (')[0]}); "
            f"take another: --port {port % 65535 + 1}"
        ) from None


def _open_page(url: str, address: str, port: int) -> None:
    """Once something answers, in the user's browser."""
    for _ in range(STARTS_IN * 5):
        try:
            socket.create_connection((address, port), 1).close()
        except OSError:
            time.sleep(0.2)
        else:
            webbrowser.open(url)
            return


def _serve(address: str, port: int) -> None:
    """`streamlit run`, in this process, until Ctrl-C. Headless: neither terminal nor page asks to sign up or
    to install something; the browser is opened here."""
    import click
    from streamlit.web import cli

    import pocketgenie.web_demo

    app = Path(pocketgenie.web_demo.__file__).resolve().with_name("app.py")
    options = ("--server.address", address, "--server.port", str(port), "--server.headless", "true")
    try:
        cli.main(["run", str(app), *options], prog_name="streamlit", standalone_mode=False)
    except (click.Abort, KeyboardInterrupt):
        pass  # that is how it ends
    except SystemExit as end:
        if end.code:
            raise UserError(f"the app did not start at {address}, port {port}; see above") from None
