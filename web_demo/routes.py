"""The routes beside Streamlit's own: the player's socket, its downloads, the scripts of the page."""

from __future__ import annotations

import asyncio
import re
from pathlib import Path

from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response
from starlette.routing import BaseRoute, Mount, Route, WebSocketRoute
from starlette.staticfiles import StaticFiles
from starlette.websockets import WebSocket

from pocketgenie.errors import UserError
from pocketgenie.web_demo.hub import Hub
from pocketgenie.web_demo.messages import TICKET
from pocketgenie.web_demo.recording import TYPES, download
from pocketgenie.web_demo.shelf import look
from pocketgenie.web_demo.stream import play_socket

HERE = Path(__file__).resolve().parent
PREFIX = "/pocketgenie"
PATIENCE = 180.0  # seconds for a recording and those before it


class Scripts(StaticFiles):
    """Static files that browsers ask for again: they change with the package."""

    def file_response(self, *args: object, **kwargs: object) -> Response:
        response = super().file_response(*args, **kwargs)  # type: ignore[arg-type]
        response.headers["cache-control"] = "no-cache"
        response.headers["x-content-type-options"] = "nosniff"
        return response


def make_routes(hub: Hub) -> list[BaseRoute]:
    """Below PREFIX, which Streamlit does not use."""

    encoding = asyncio.Lock()

    async def socket(websocket: WebSocket) -> None:
        await play_socket(websocket, hub)

    async def recording(request: Request) -> Response:
        key, form = request.query_params.get("ticket", ""), request.path_params["form"]
        ticket = hub.tickets.find(key) if re.fullmatch(TICKET, key) else None
        entry = look(hub.settings).bundles.get(ticket.bundle) if ticket else None
        if form not in TYPES or ticket is None or entry is None:
            return PlainTextResponse("no such recording", 404)
        try:
            async with asyncio.timeout(PATIENCE), encoding:  # each takes a process and seconds
                data = await asyncio.to_thread(download, ticket, entry.manifest, form)
        except TimeoutError:
            return PlainTextResponse("other recordings are being written; try again in a moment", 503)
        except UserError as error:
            return PlainTextResponse(str(error), 409)
        headers = {"content-disposition": f'attachment; filename="pocketgenie.{form}"'}
        return Response(data, media_type=TYPES[form], headers={**headers, "cache-control": "no-store"})

    return [
        WebSocketRoute(f"{PREFIX}/play", socket),
        Route(f"{PREFIX}/recording/{{form}}", recording, methods=["GET"]),
        Mount(f"{PREFIX}/canvas", Scripts(directory=HERE / "canvas"), name="canvas"),
        Mount(f"{PREFIX}/site/ui", Scripts(directory=HERE / "site" / "ui"), name="ui"),
    ]
