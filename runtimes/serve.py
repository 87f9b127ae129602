"""A bundle's site over HTTP, on this machine: what `pocketgenie serve` shows and `check` opens in a browser.

Threads of WebAssembly need a page that is isolated from other origins, by the headers sent here; published
without them (GitHub Pages sends none), the site's own service worker adds them, or one thread plays.
"""

from __future__ import annotations

import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final

import uvicorn
from starlette.applications import Starlette
from starlette.middleware import Middleware
from starlette.routing import Mount
from starlette.staticfiles import StaticFiles
from starlette.types import Message, Receive, Scope, Send

from pocketgenie.errors import UserError
from pocketgenie.export.bundle import load_bundle

SITE: Final = "site"
HEADERS: Final = {
    "cross-origin-opener-policy": "same-origin",
    "cross-origin-embedder-policy": "require-corp",
    "cross-origin-resource-policy": "same-origin",
    "x-content-type-options": "nosniff",
    "cache-control": "no-cache",
}
"""The first two isolate the page. `no-cache` asks again each time, so that a new export shows at once."""
TYPES: Final = {".mjs": "text/javascript", ".js": "text/javascript", ".wasm": "application/wasm"}
"""By file ending: not every machine's own table knows them, and browsers refuse modules of another type."""
START_SECONDS: Final = 20


def site_of(bundle: Path) -> Path:
    """The site of a bundle, all of it verified, or of a folder that is a site itself. Raises UserError."""
    if (bundle / "world" / "world.json").is_file() and (bundle / "index.html").is_file():
        return bundle
    opened = load_bundle(bundle, only=())
    if opened.manifest.target != "web":
        raise UserError(f"{bundle} has no site; make one with `pocketgenie export --target web`")
    opened.verify(opened.manifest.below(SITE))
    return bundle / SITE


def site_app(site: Path) -> Starlette:
    """Serves the files of a folder, and nothing else: no listings, nothing beyond it, no other methods."""
    return Starlette(
        routes=[Mount("/", StaticFiles(directory=site, html=True))], middleware=[Middleware(_Headers)]
    )


@contextmanager
def serving(site: Path) -> Iterator[str]:
    """The site on a free port of this machine, in a thread, as long as the block lasts -> its address"""
    with _listen("127.0.0.1", 0) as listener:
        server = uvicorn.Server(_config(site))
        thread = threading.Thread(target=server.run, args=([listener],), daemon=True)
        thread.start()
        deadline = time.monotonic() + START_SECONDS
        while not server.started:
            if not thread.is_alive() or time.monotonic() > deadline:
                raise UserError(
                    "the local server of the site did not start; see whether localhost is reachable"
                )
            time.sleep(0.01)
        try:
            yield f"http://localhost:{listener.getsockname()[1]}"
        finally:
            server.should_exit = True
            thread.join(5)


def serve(bundle: Path, host: str, port: int, tell: Callable[[str], None]) -> None:
    """Serve until Ctrl-C; `tell` gets the address. Raises UserError for the bundle and for a port in use."""
    site = site_of(bundle)
    with _listen(host, port) as listener:
        shown = f"[{host}]" if ":" in host else host
        shown = "localhost" if host in ("127.0.0.1", "::1") else shown
        tell(f"http://{shown}:{listener.getsockname()[1]}")
        uvicorn.Server(_config(site)).run(sockets=[listener])


def _config(site: Path) -> uvicorn.Config:
    return uvicorn.Config(site_app(site), log_level="error", access_log=False, lifespan="off")


def _listen(host: str, port: int) -> socket.socket:
    """A bound socket. Raises UserError."""
    try:
        return socket.create_server((host, port), family=socket.AF_INET6 if ":" in host else socket.AF_INET)
    except (OSError, OverflowError) as error:
        words = getattr(error, "strerror", None) or str(error)
        raise UserError(f"cannot serve at {host}:{port} ({words}); choose another --port") from None


class _Headers:
    """Adds HEADERS to every answer, errors too, and the right type of modules and wasm."""

    def __init__(self, app: Any) -> None:
        self.app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        async def with_headers(message: Message) -> None:
            if message["type"] == "http.response.start":
                own = {name.encode(): value.encode() for name, value in HEADERS.items()}
                ending = Path(scope.get("path", "")).suffix
                if ending in TYPES and message["status"] < 300:
                    own[b"content-type"] = TYPES[ending].encode()
                kept = [pair for pair in message["headers"] if pair[0].lower() not in own]
                message["headers"] = [*kept, *own.items()]
            await send(message)

        await self.app(scope, receive, with_headers)
