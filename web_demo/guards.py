"""Who may talk to the demo, and how much: addresses, origins, rates, uploads.

DNS rebinding (a page of another site whose name suddenly means 127.0.0.1) is met by the Host header: only
localhost, addresses as numbers, and this machine's own name are answered. No other site may frame the page:
clicks on it would be clicks on "Export".
"""

from __future__ import annotations

import ipaddress
import socket
import tempfile
import threading
from collections.abc import Mapping
from pathlib import Path
from time import monotonic
from urllib.parse import urlsplit

from starlette.responses import PlainTextResponse
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from pocketgenie.errors import UserError
from pocketgenie.genie.spec import WorldSpec
from pocketgenie.runtimes.pictures import Picture, load_picture
from pocketgenie.web_demo.settings import MAX_PICTURE_MB


def is_local(address: str) -> bool:
    """Whether only this machine can reach a server at this address."""
    try:
        return address == "localhost" or ipaddress.ip_address(address.strip("[]")).is_loopback
    except ValueError:
        return False


def host_allowed(host: str, address: str) -> bool:
    """Whether a Host header may name this server, which listens at `address`."""
    try:
        name = (urlsplit(f"//{host}").hostname or "").rstrip(".")
    except ValueError:
        return False
    if is_local(address):
        return is_local(name)
    own = socket.gethostname().lower()
    try:
        return ipaddress.ip_address(name) is not None
    except ValueError:
        return name in {"localhost", address.lower(), own, f"{own}.local"}


def origin_allowed(headers: Mapping[str, str]) -> bool:
    """Whether a socket was opened by our own page: browsers always send Origin with a handshake."""
    origin = headers.get("origin")
    if origin is None:  # no browser
        return True
    try:
        parts = urlsplit(origin)
    except ValueError:
        return False
    return parts.scheme in ("http", "https") and parts.netloc == headers.get("host", "")


class HostGuard:
    """ASGI middleware: every request and every socket of the app, Streamlit's own too, must name this server;
    a socket and whatever changes something must come from our own page."""

    def __init__(self, app: ASGIApp, address: str) -> None:
        self.app, self.address = app, address

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] in ("http", "websocket"):
            headers = {name.decode("latin-1"): value.decode("latin-1") for name, value in scope["headers"]}
            ours = scope["type"] == "http" and scope["method"] in ("GET", "HEAD")
            if not host_allowed(headers.get("host", ""), self.address) or not (
                ours or origin_allowed(headers)
            ):
                if scope["type"] == "http":
                    await PlainTextResponse("this server answers to another name", 403)(scope, receive, send)
                else:
                    await send({"type": "websocket.close", "code": 1008})
                return
        await self.app(scope, receive, _unframed(send))


def _unframed(send: Send) -> Send:
    async def answer(message: Message) -> None:
        if message["type"] == "http.response.start":
            rule = (b"content-security-policy", b"frame-ancestors 'self'")
            message = {**message, "headers": [*message.get("headers", ()), rule]}
        await send(message)

    return answer


class Rate:
    """A bucket that refills: `take` is False once more than `per_second` come, after a burst of as many."""

    def __init__(self, per_second: float) -> None:
        self.per_second = self.left = per_second
        self.then = monotonic()

    def take(self) -> bool:
        """Count one."""
        now = monotonic()
        self.left = min(self.per_second, self.left + (now - self.then) * self.per_second) - 1
        self.then = now
        return self.left >= 0


_DECODING = threading.Lock()
"""One picture at a time: the largest that is read takes gigabytes for a moment."""


def picture_of(data: bytes, spec: WorldSpec, what: str = "the picture") -> Picture:
    """An upload as a frame of the world. Raises UserError for what is too large, no picture, damaged.

    Its name is never used: it lies in a file of ours for as long as it is read.
    """
    if len(data) > MAX_PICTURE_MB * 1_000_000:
        raise UserError(f"{what} has {len(data) / 1e6:.0f} MB; at most {MAX_PICTURE_MB} are read")
    with tempfile.TemporaryDirectory(prefix="pocketgenie-") as folder:
        path = Path(folder) / "upload"
        path.write_bytes(data)
        try:
            with _DECODING:
                found = load_picture(path, spec)
        except UserError as error:
            raise UserError(str(error).replace(str(path), what)) from None
    return Picture(what, found.frame, found.done)
