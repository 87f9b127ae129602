"""The player's socket: one seat at one engine. Whatever is not a message of messages.py closes it."""

from __future__ import annotations

import asyncio
from contextlib import suppress

from starlette.websockets import WebSocket, WebSocketDisconnect

from pocketgenie.errors import UserError
from pocketgenie.web_demo.engine import Engine, Seat
from pocketgenie.web_demo.guards import Rate
from pocketgenie.web_demo.hub import Hub
from pocketgenie.web_demo.messages import Hold, Join, Message, Pace, Restart, Shown, Unknown, parse, say
from pocketgenie.web_demo.settings import MAX_SOCKETS, MESSAGES_PER_SECOND, WAITING_PER_SECOND

FIRST_MESSAGE = 10.0  # seconds
REFUSED, FULL = 1008, 1013  # RFC 6455 and IANA: policy violation, try again later


async def play_socket(socket: WebSocket, hub: Hub) -> None:
    """Serve one socket until either side closes it."""
    if hub.sockets >= MAX_SOCKETS or not hub.handshakes.take():
        await socket.close(FULL)
        return
    hub.sockets += 1
    code = REFUSED
    try:
        await socket.accept()
        code = await _serve(socket, hub)
    except (Unknown, TimeoutError):
        pass
    except (WebSocketDisconnect, RuntimeError, OSError):
        return  # it went without a word
    finally:
        hub.sockets -= 1
        with suppress(RuntimeError, OSError, WebSocketDisconnect):
            await socket.close(code)


async def _serve(socket: WebSocket, hub: Hub) -> int:
    """From the first message on -> the code to close with. Raises Unknown."""
    async with asyncio.timeout(FIRST_MESSAGE):
        first = await _receive(socket)
    if not isinstance(first, Join) or (ticket := hub.tickets.find(first.ticket)) is None:
        raise Unknown
    loop, wake = asyncio.get_running_loop(), asyncio.Event()

    def wake_up() -> None:
        with suppress(RuntimeError):  # the loop is closed: the server ends
            loop.call_soon_threadsafe(wake.set)

    seat = Seat(ticket, wake_up)
    try:
        engine = await asyncio.to_thread(hub.engine, ticket.bundle, ticket.runtime)
    except UserError as error:
        await socket.send_text(say("error", why=str(error)))
        return 1000
    engine.join(seat)
    try:
        async with asyncio.TaskGroup() as tasks:
            sender = tasks.create_task(_send(socket, engine, seat, wake))
            reader = tasks.create_task(_read(socket, engine, seat))
            _, rest = await asyncio.wait((sender, reader), return_when=asyncio.FIRST_COMPLETED)
            for task in rest:
                task.cancel()
        return 1000
    except* (Unknown, WebSocketDisconnect, RuntimeError, OSError) as several:
        raise several.exceptions[0] from None
    finally:
        engine.leave(seat)


async def _receive(socket: WebSocket) -> Message:
    """The next message. Raises Unknown, WebSocketDisconnect."""
    event = await socket.receive()
    if event["type"] == "websocket.disconnect":
        raise WebSocketDisconnect(event.get("code", 1005))
    return parse(event.get("text"))


async def _read(socket: WebSocket, engine: Engine, seat: Seat) -> None:
    """Take the page's messages; raises Unknown for what does not belong here, or comes too fast."""
    playing, waiting = Rate(MESSAGES_PER_SECOND), Rate(WAITING_PER_SECOND)
    while True:
        message = await _receive(socket)
        if not (playing if seat.place == 0 else waiting).take():
            raise Unknown
        if isinstance(message, Hold) and (message.action or 0) >= engine.entry.manifest.spec.actions:
            raise Unknown
        with engine.changed:
            _apply(message, seat)
            engine.changed.notify()


def _apply(message: Message, seat: Seat) -> None:
    """Under the engine's lock."""
    if isinstance(message, Shown):
        seat.shown()
        seat.wake()
        return
    if not isinstance(message, Hold | Pace | Restart):
        raise Unknown
    seat.touch()
    if isinstance(message, Hold):
        seat.held = message.action
        seat.tapped = seat.tapped if message.action is None else message.action
    elif isinstance(message, Pace):
        seat.pace, seat.goes_on, seat.due = message.fps, message.on, 0.0
    else:
        seat.fresh = True


async def _send(socket: WebSocket, engine: Engine, seat: Seat, wake: asyncio.Event) -> None:
    """Words as they come, and a frame whenever the one before has arrived."""
    while True:
        await wake.wait()
        wake.clear()
        over = seat.over  # before the words: the last ones are said after it is set
        while seat.words:
            await socket.send_text(seat.words.popleft())
        if over:
            return
        with engine.changed:
            frame = seat.take()
            if frame is not None:
                engine.changed.notify()  # the next may be drawn meanwhile
        if frame is not None:
            await socket.send_bytes(frame)
