"""The player's socket on a real server: what is played, the queue, deaths, guards, and a fuzz."""

from __future__ import annotations

import io
import json
import logging
import os
import shutil
import signal
import threading
import time
import urllib.error
import urllib.request
import zipfile
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any, cast

import numpy as np
import pytest
from PIL import Image

pytest.importorskip("streamlit", reason="the extra `demo` is not installed")
uvicorn = pytest.importorskip("uvicorn", reason="the extra `demo` is not installed")
websockets = pytest.importorskip("websockets", reason="the extra `demo` is not installed")

from hypothesis import HealthCheck, given, settings  # noqa: E402
from hypothesis import strategies as st  # noqa: E402
from starlette.applications import Starlette  # noqa: E402
from starlette.middleware import Middleware  # noqa: E402
from websockets.exceptions import ConnectionClosed, InvalidStatus  # noqa: E402
from websockets.sync.client import ClientConnection, connect  # noqa: E402

from pocketgenie.runtimes.player import Player  # noqa: E402
from pocketgenie.web_demo.engine import Engine, Seat  # noqa: E402
from pocketgenie.web_demo.guards import HostGuard, Rate  # noqa: E402
from pocketgenie.web_demo.hub import Hub  # noqa: E402
from pocketgenie.web_demo.messages import HEADER, Unknown, parse  # noqa: E402
from pocketgenie.web_demo.routes import make_routes  # noqa: E402
from pocketgenie.web_demo.settings import MAX_SOCKETS, Settings  # noqa: E402
from pocketgenie.web_demo.shelf import look  # noqa: E402
from pocketgenie.web_demo.tickets import Ticket  # noqa: E402

START = np.random.default_rng(3).integers(0, 256, (16, 16, 3), np.uint8)


class Server:
    """uvicorn in a thread, with the demo's routes and guard."""

    def __init__(self, *bundles: Path) -> None:
        self.hub = Hub(Settings(bundles=bundles, dist=Path("nowhere")))
        self.hub.handshakes = Rate(1e6)
        app = Starlette(routes=make_routes(self.hub), middleware=[Middleware(HostGuard, address="127.0.0.1")])
        config = uvicorn.Config(  # its own log would keep its errors from pytest
            app, port=0, log_config=None, log_level="warning", ws="websockets-sansio", lifespan="off"
        )
        self.server = uvicorn.Server(config)
        self.thread = threading.Thread(target=self.server.run)
        self.thread.start()
        while not self.server.started:
            time.sleep(0.01)
        self.port = self.server.servers[0].sockets[0].getsockname()[1]

    def ticket(self, bundle: str = "tiny", **fields: Any) -> Ticket:
        ticket = Ticket(bundle=bundle, runtime="ort-cpu", start=START, **fields)
        return self.hub.tickets.add(ticket)

    @contextmanager
    def open(self, ticket: Ticket | None = None) -> Iterator[ClientConnection]:
        with connect(f"ws://127.0.0.1:{self.port}/pocketgenie/play", open_timeout=60) as socket:
            if ticket:
                send(socket, type="join", ticket=ticket.key)
            yield socket

    def get(self, path: str) -> bytes:
        with urllib.request.urlopen(f"http://127.0.0.1:{self.port}/pocketgenie/{path}", timeout=60) as answer:
            data: bytes = answer.read()
            return data

    def close(self) -> None:
        self.server.should_exit = True
        self.thread.join()
        self.hub.close()


@pytest.fixture(scope="module")
def server(tiny_bundle: Path) -> Iterator[Server]:
    running = Server(tiny_bundle)
    yield running
    running.close()


def send(socket: ClientConnection, **message: Any) -> None:
    socket.send(json.dumps(message))


def next_frame(socket: ClientConnection, words: list[dict[str, Any]] | None = None) -> tuple[int, int, Any]:
    """number, action, pixels; what is said meanwhile goes to `words`"""
    while True:
        data = socket.recv(timeout=60)
        if isinstance(data, bytes):
            number, action, *_ = HEADER.unpack_from(data)
            return number, action, np.frombuffer(data, np.uint8, offset=HEADER.size).reshape(START.shape)
        if words is not None:
            words.append(json.loads(data))


def word(socket: ClientConnection, kind: str) -> dict[str, Any]:
    """Wait for what the server says of this kind; frames are acknowledged meanwhile."""
    while True:
        data = socket.recv(timeout=60)
        if isinstance(data, bytes):
            send(socket, type="shown", frame=HEADER.unpack_from(data)[0])
        elif (said := json.loads(data))["type"] == kind:
            found: dict[str, Any] = said
            return found


def test_frames_are_those_of_the_player(server: Server, tiny_bundle: Path) -> None:
    with Player(tiny_bundle, seed=5) as player, server.open(server.ticket(seed=5)) as socket:
        number, action, pixels = next_frame(socket)
        assert (number, action) == (0, -1)
        assert (pixels == player.start(START)).all()
        send(socket, type="hold", action=3)
        for expected in range(1, 8):
            send(socket, type="shown", frame=number)
            number, action, pixels = next_frame(socket)
            assert (number, action) == (expected, 3)
            assert (pixels == player.step(3)).all()


def test_no_frame_before_the_last_is_on_the_canvas(server: Server) -> None:
    with server.open(server.ticket()) as socket:
        next_frame(socket)
        send(socket, type="hold", action=1)
        with pytest.raises(TimeoutError):
            socket.recv(timeout=0.5)
        send(socket, type="shown", frame=0)
        assert next_frame(socket)[0] == 1


def test_the_latest_action_counts(server: Server) -> None:
    with server.open(server.ticket()) as socket:
        next_frame(socket)
        for action in (0, 1, 2, 3, 4, 3):
            send(socket, type="hold", action=action)
        played = []
        for number in range(3):
            send(socket, type="shown", frame=number)
            played.append(next_frame(socket)[1])
        assert played[1:] == [3, 3]  # at most the first was drawn with an older one


def test_a_tap_between_two_frames_is_played(server: Server) -> None:
    with server.open(server.ticket()) as socket:
        next_frame(socket)
        send(socket, type="pace", fps=2, on=False)
        send(socket, type="shown", frame=0)
        for number, action in enumerate((1, 4), 1):  # the second while the first's half second lasts
            send(socket, type="hold", action=action)
            send(socket, type="hold", action=None)
            assert next_frame(socket)[:2] == (number, action)
            send(socket, type="shown", frame=number)
        with pytest.raises(TimeoutError):
            socket.recv(timeout=0.7)


def test_nothing_is_played_without_a_key_unless_asked(server: Server) -> None:
    with server.open(server.ticket()) as socket:
        next_frame(socket)
        send(socket, type="shown", frame=0)
        send(socket, type="hold", action=2)
        assert next_frame(socket)[1] == 2
        send(socket, type="hold", action=None)
        send(socket, type="shown", frame=1)
        drawn = 0
        with pytest.raises(TimeoutError):
            while True:  # at most the one that was being drawn
                assert isinstance(socket.recv(timeout=0.5), bytes)
                drawn += 1
                send(socket, type="shown", frame=0)
        assert drawn <= 1
        send(socket, type="pace", fps=None, on=True)
        assert next_frame(socket)[1] == 2


def test_the_second_waits_and_is_told(server: Server) -> None:
    with server.open(server.ticket()) as second_in_time:
        next_frame(second_in_time)
        with server.open(server.ticket()) as waiting, server.open(server.ticket()) as last:
            assert word(waiting, "place")["ahead"] == 1
            assert word(last, "place")["ahead"] == 2
            second_in_time.close()
            assert word(waiting, "place")["ahead"] == 0
            assert next_frame(waiting)[0] == 0
            assert word(last, "place")["ahead"] == 1


def test_who_sleeps_while_others_wait_loses_the_place(
    server: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("pocketgenie.web_demo.engine.IDLE_SECONDS", 0.5)
    with server.open(server.ticket()) as sleeper:
        next_frame(sleeper)
        with server.open(server.ticket()) as other:
            assert word(other, "place")["ahead"] == 1
            assert word(other, "place")["ahead"] == 0
            assert "others were waiting" in word(sleeper, "idle")["why"]
            assert word(sleeper, "place")["ahead"] == 1


def test_a_dead_engine_is_started_again_and_says_so(server: Server) -> None:
    with server.open(server.ticket()) as socket:
        next_frame(socket)
        worker = server.hub.engines["tiny", "ort-cpu"].worker
        assert worker is not None and worker.process.pid is not None
        os.kill(worker.process.pid, signal.SIGKILL)
        send(socket, type="hold", action=1)
        send(socket, type="shown", frame=0)
        assert "SIGKILL" in word(socket, "restarted")["why"]
        assert next_frame(socket)[0] == 0
        send(socket, type="shown", frame=0)
        assert next_frame(socket)[:2] == (1, 1)


def test_an_engine_that_dies_again_and_again_is_given_up(server: Server) -> None:
    with server.open(server.ticket()) as socket:
        next_frame(socket)
        engine = server.hub.engines["tiny", "ort-cpu"]
        engine.deaths.clear()
        send(socket, type="hold", action=1)
        for kind in ("restarted", "restarted", "error"):
            assert engine.worker is not None and engine.worker.process.pid is not None
            os.kill(engine.worker.process.pid, signal.SIGKILL)
            send(socket, type="shown", frame=0)
            assert "SIGKILL" in word(socket, kind)["why"]
            if kind == "restarted":
                next_frame(socket)
        assert closed_with(socket) == 1000
        engine.deaths.clear()
    with server.open(server.ticket()) as socket:
        assert next_frame(socket)[0] == 0  # who comes anew has a new engine


def test_an_altered_bundle_is_not_opened(tiny_bundle: Path, tmp_path: Path) -> None:
    folder = tmp_path / "tiny"
    shutil.copytree(tiny_bundle, folder)
    data = bytearray((folder / "weights.bin").read_bytes())
    data[100] ^= 1
    (folder / "weights.bin").write_bytes(data)
    server = Server(folder)
    try:
        with server.open(server.ticket()) as socket:
            assert "altered" in word(socket, "error")["why"]
            with pytest.raises(ConnectionClosed):
                socket.recv(timeout=10)
    finally:
        server.close()


def test_whoever_comes_to_a_closed_engine_is_told(server: Server) -> None:
    ticket = server.ticket()
    with server.open(ticket) as socket:
        next_frame(socket)
        engine = server.hub.engines["tiny", "ort-cpu"]
        engine.close()
        assert "was closed" in word(socket, "error")["why"]
    late = Seat(ticket, lambda: None)
    engine.join(late)
    assert late.over and "was closed" in late.words[0]


def test_a_fault_of_our_own_is_told_and_the_engine_lives(
    server: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as here:
        here.setattr("pocketgenie.web_demo.engine.Worker", full)
        engine = Engine(look(server.hub.settings).bundles["tiny"], "ort-cpu")
        seat = Seat(server.ticket(), threading.Event().set)
        engine.join(seat)
        while not any("No space left" in said for said in list(seat.words)):
            time.sleep(0.01)
    assert seat.over
    assert engine.thread.is_alive() and not engine.busy
    engine.close()


def test_no_other_site_frames_the_page(server: Server) -> None:
    with urllib.request.urlopen(f"http://127.0.0.1:{server.port}/pocketgenie/canvas/play.js") as answer:
        assert answer.headers["content-security-policy"] == "frame-ancestors 'self'"


def test_a_bundle_that_is_not_on_the_shelf(server: Server) -> None:
    with server.open(server.ticket(bundle="../tiny")) as socket:
        assert "no bundle" in word(socket, "error")["why"]


WRONG = [
    "",
    "{",
    "[]",
    "null",
    '{"type":"hold","action":1}',  # before joining
    '{"type":"join"}',
    '{"type":"join","ticket":"x"}',
    '{"type":"join","ticket":"' + "A" * 32 + '"}',  # nobody's
    '{"type":"join","ticket":"' + "A" * 100_000 + '"}',
    b"\x00\x01",
]


@pytest.mark.parametrize("message", WRONG)
def test_strangers_are_shut_out(server: Server, message: str | bytes) -> None:
    with server.open() as socket:
        socket.send(message)
        assert closed_with(socket) == 1008


LATER = [
    '{"type":"hold","action":5}',  # the world has 5: 0 to 4
    '{"type":"hold","action":-1}',
    '{"type":"hold","action":"1"}',
    '{"type":"hold","action":1,"more":2}',
    '{"type":"pace","fps":NaN,"on":true}',
    '{"type":"pace","fps":0,"on":true}',
    '{"type":"pace","fps":1e-300,"on":true}',  # no clock waits that long
    '{"type":"exec","code":"1"}',
    '{"type":"join","ticket":"' + "A" * 32 + '"}',
    "[" * 400,
    b"{}",
]


@pytest.mark.parametrize("message", LATER)
def test_unknown_messages_close_the_socket(server: Server, message: str | bytes) -> None:
    with server.open(server.ticket()) as socket:
        socket.send(message)
        assert closed_with(socket) == 1008


def closed_with(socket: ClientConnection) -> int:
    """The code that the server closes with."""
    with pytest.raises(ConnectionClosed) as caught:
        while True:
            socket.recv(timeout=60)
    assert caught.value.rcvd is not None
    return int(caught.value.rcvd.code)


MESSAGES = st.one_of(
    st.text(max_size=600),
    st.binary(max_size=600),
    st.recursive(
        st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=20),
        lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=8), inner, max_size=4),
        max_leaves=12,
    ).map(json.dumps),
    st.fixed_dictionaries(
        {"type": st.sampled_from(["join", "hold", "shown", "pace", "restart", "stop"])},
        optional={
            "action": st.none() | st.integers(-2, 70_000) | st.text(max_size=3),
            "frame": st.integers(-1, 2**33),
            "fps": st.none() | st.floats() | st.integers(-1, 2000),
            "on": st.booleans() | st.none(),
            "ticket": st.text(max_size=40),
        },
    ).map(json.dumps),
)


@settings(
    max_examples=60,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
    derandomize=True,
)
@given(messages=st.lists(MESSAGES, min_size=1, max_size=5), joins=st.booleans())
def test_fuzz_of_the_socket(
    server: Server, caplog: pytest.LogCaptureFixture, messages: list[str | bytes], joins: bool
) -> None:
    """Whatever is sent: nothing but a clean close, of our code or of the client's own, and no error here."""
    caplog.clear()  # of the examples before, or each would fail with the first
    with caplog.at_level(logging.WARNING), server.open(server.ticket() if joins else None) as socket:
        try:
            for message in messages:
                socket.send(message)
            if not joins or any(unknown(message) for message in messages):
                assert closed_with(socket) == 1008
        except ConnectionClosed as closed:
            assert closed.rcvd is not None and closed.rcvd.code == 1008
    assert [record.getMessage() for record in caplog.records] == []


def unknown(message: str | bytes) -> bool:
    """Whether a message may never come after joining."""
    try:
        return parse(message).type == "join"
    except Unknown:
        return True


def test_other_sites_and_names_are_refused(server: Server) -> None:
    place = f"127.0.0.1:{server.port}"
    for headers in ({"Origin": "http://evil.example"}, {"Origin": "null"}, {"Host": "evil.example"}):
        with pytest.raises(InvalidStatus) as caught, raw(server, headers):
            pass
        assert caught.value.response.status_code == 403
    with raw(server, {"Origin": f"http://{place}"}):
        pass


@contextmanager
def raw(server: Server, headers: dict[str, str]) -> Iterator[ClientConnection]:
    """A handshake with a header of our own; Host by a connection whose address is given apart."""
    import socket as sockets

    host = headers.get("Host", f"127.0.0.1:{server.port}")
    plain = sockets.create_connection(("127.0.0.1", server.port))
    with connect(
        f"ws://{host}/pocketgenie/play", sock=plain, origin=cast(Any, headers.get("Origin"))
    ) as socket:
        yield socket


def test_too_many_sockets_are_refused(server: Server) -> None:
    wait_for_sockets(server, 0)  # of the tests before
    with ExitStack() as stack:
        sockets = [stack.enter_context(server.open()) for _ in range(MAX_SOCKETS)]
        with pytest.raises(InvalidStatus), server.open():
            pass
        sockets[0].close()
        wait_for_sockets(server, MAX_SOCKETS - 1)
        with server.open():
            pass


def test_a_flood_of_handshakes_is_refused(server: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(server.hub, "handshakes", Rate(2))
    wait_for_sockets(server, 0)
    with pytest.raises(InvalidStatus) as caught:
        for _ in range(20):
            with server.open():
                pass
    assert caught.value.response.status_code == 403


def wait_for_sockets(server: Server, count: int) -> None:
    deadline = time.monotonic() + 30
    while server.hub.sockets > count and time.monotonic() < deadline:
        time.sleep(0.01)


def test_who_waits_may_not_spam(server: Server) -> None:
    with server.open(server.ticket()) as player, server.open(server.ticket()) as waiting:
        next_frame(player)
        assert word(waiting, "place")["ahead"] == 1
        with pytest.raises(ConnectionClosed) as caught:
            for _ in range(1000):
                send(waiting, type="hold", action=0)
                time.sleep(0.001)
        assert caught.value.rcvd is not None and caught.value.rcvd.code == 1008
        send(player, type="hold", action=1)
        send(player, type="shown", frame=0)
        assert next_frame(player)[0] == 1


def test_the_recording_and_its_log_repeat_the_play(server: Server, tiny_bundle: Path) -> None:
    ticket = server.ticket(seed=2)
    with pytest.raises(urllib.error.HTTPError, match="409"):
        server.get(f"recording/gif?ticket={ticket.key}")
    with server.open(ticket) as socket:
        send(socket, type="hold", action=4)
        number, shown = 0, []
        while number < 6:
            number, _, pixels = next_frame(socket)
            shown.append(pixels)
            send(socket, type="shown", frame=number)
    with server.open(server.ticket()) as other:
        next_frame(other)  # so that the frame under way was drawn, and none comes after
    archive = zipfile.ZipFile(io.BytesIO(server.get(f"recording/zip?ticket={ticket.key}")))
    log = json.loads(archive.read("actions.json"))
    start = np.asarray(Image.open(io.BytesIO(archive.read("start.png"))))
    with Player(tiny_bundle, seed=log["seed"]) as player:
        again = [player.start(start), *(player.step(action - 1) for action in log["actions"])]
    assert (np.stack(again)[: len(shown)] == np.stack(shown)).all()
    assert {"play.mp4", "play.gif"} & set(archive.namelist())
    film = Image.open(io.BytesIO(server.get(f"recording/gif?ticket={ticket.key}")))
    assert film.n_frames == len(log["actions"]) + 1  # type: ignore[attr-defined]
    assert server.get(f"recording/mp4?ticket={ticket.key}")[4:8] == b"ftyp"


@pytest.mark.parametrize("path", ["gif", "gif?ticket=../../etc", "exe?ticket=x"])
def test_no_recording_without_a_ticket(server: Server, path: str) -> None:
    with pytest.raises(urllib.error.HTTPError, match="404"):
        server.get(f"recording/{path}")
