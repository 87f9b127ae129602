"""Play the demo in a browser for minutes; measure memory over time, frames delivered, time added.

    python scripts/demo_soak.py --minutes 30 -o soak

Starts `streamlit run web_demo/app.py` on a free port and plays the first bundle of dist/ in headless
Chromium, without a speed limit. Then, in turns in the same run, with and without ten clients that connect,
spam and vanish. Writes OUT.json, OUT.csv (one row a second) and OUT.png. Figures:

added_ms_p95  from one frame on the canvas to the next, minus the engine's own time for it: what the app adds
server_cpu_ms what a frame costs the server's process, without the engine: of the processor, not of time
delivered     frames put on the canvas over frames that the engine drew
growth_mb     rise over the whole run of a line through the resident memory of the server with its engine,
              after the first minute (or quarter)
crowd_ratio   frames a second among the ten clients over those of the turn before, alone: the median
"""

from __future__ import annotations

import argparse
import contextlib
import csv
import json
import os
import random
import shutil
import socket
import subprocess
import sys
import threading
import time
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import psutil
from playwright.sync_api import sync_playwright

import pocketgenie.web_demo
from pocketgenie.web_demo.settings import VARIABLE, Settings

CROWD = 10
TURN = 10.0  # seconds
LISTEN = """
window.arrived = [];
const Plain = WebSocket;
window.WebSocket = class extends Plain {
  constructor(...given) {
    super(...given);
    if (!String(given[0]).includes('/pocketgenie/play')) return;
    this.addEventListener('message', ({ data }) => {
      if (typeof data === 'string') return;
      const head = new DataView(data);
      this.last = [head.getUint32(0, true), head.getFloat32(12, true)];
    });
  }
  send(data) {
    super.send(data);  // acknowledged: the frame is on the canvas
    if (this.last && String(data).includes('"shown"')) arrived.push([performance.now(), ...this.last]);
  }
};
"""
TAKE = """() => [arrived.splice(0), Number(document.querySelector('.gauges')?.dataset.frames ?? 0),
  document.querySelector('.pg-play').dataset.ticket]"""


def main() -> None:
    """Measure, write, print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--dist", type=Path, default=Path("dist"))
    parser.add_argument("--minutes", type=float, default=3)
    parser.add_argument(
        "--turns", type=int, default=4, help="pairs of turns with and without the ten clients"
    )
    parser.add_argument("--chromium", default=shutil.which("chromium") or shutil.which("google-chrome"))
    parser.add_argument("-o", "--out", type=Path, default=Path("soak"))
    given = parser.parse_args()
    with server(given.dist) as (port, process), player(given.chromium, port) as page:
        before = process.cpu_times()
        rows, frames = play(page, process, given.minutes * 60)
        after = process.cpu_times()
        busy = after.user + after.system - before.user - before.system
        alone, among = crowd(page, port, given.turns)
    found = figures(rows, frames, alone, among)
    found["server_cpu_ms"] = round(busy * 1000 / len(frames), 2)
    write(given.out, rows, found)
    print(json.dumps(found, indent=2))


@contextlib.contextmanager
def server(dist: Path) -> Iterator[tuple[int, psutil.Process]]:
    """The demo on a free port."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port: int = free.getsockname()[1]
    app = Path(pocketgenie.web_demo.__file__).resolve().with_name("app.py")
    settings = Settings(dist=dist.resolve(), port=port).model_dump_json()
    started = subprocess.Popen(
        [sys.executable, "-m", "streamlit", "run", str(app), "--server.port", str(port)],
        env={**os.environ, VARIABLE: settings},
        stdout=subprocess.DEVNULL,
    )
    try:
        for _ in range(240):
            with contextlib.suppress(OSError):
                urllib.request.urlopen(f"http://127.0.0.1:{port}/_stcore/health", timeout=2)
                break
            time.sleep(0.25)
        yield port, psutil.Process(started.pid)
    finally:
        started.terminate()
        with contextlib.suppress(subprocess.TimeoutExpired):
            started.wait(20)
        started.kill()


@contextlib.contextmanager
def player(chromium: str | None, port: int) -> Iterator[Any]:
    """Chromium, playing on and on."""
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=chromium, args=["--no-sandbox"])
        page = browser.new_page(viewport={"width": 1280, "height": 900})
        page.add_init_script(LISTEN)
        page.goto(f"http://localhost:{port}")
        page.wait_for_function("document.querySelector('.pg-play')?.dataset.frame === '0'", timeout=120_000)
        page.locator(".pg-play .free").check()
        page.locator(".pg-play .on").check()
        page.keyboard.down("4")
        page.wait_for_function(
            "Number(document.querySelector('.pg-play').dataset.frame) > 20", timeout=120_000
        )
        page.keyboard.up("4")
        page.evaluate(TAKE)
        yield page
        browser.close()


def play(
    page: Any, process: psutil.Process, seconds: float
) -> tuple[list[dict[str, float]], list[list[float]]]:
    """-> one row a second: seconds, memory of the server and of its engine in MB, fps; and every frame"""
    rows, frames = [], []
    began = then = time.monotonic()
    while (now := time.monotonic()) - began < seconds:
        page.wait_for_timeout(1000)
        arrived, _, _ = page.evaluate(TAKE)
        frames += arrived
        row = {"seconds": now - began, "server_mb": memory(process), "engine_mb": 0.0}
        row["engine_mb"] = sum(memory(child) for child in process.children(recursive=True))
        now = time.monotonic()
        rows.append({**row, "fps": len(arrived) / (now - then)})
        then = now
    return rows, frames


def memory(process: psutil.Process) -> float:
    """Resident, MB = 10^6 bytes; 0 for a process that has ended."""
    with contextlib.suppress(psutil.NoSuchProcess):
        return float(process.memory_info().rss / 1e6)
    return 0.0


def crowd(page: Any, port: int, turns: int) -> tuple[list[float], list[float]]:
    """-> frames a second of each turn alone, of each turn among the clients"""
    alone, among = [], []
    ticket = page.evaluate(TAKE)[2]
    for _ in range(turns):
        alone.append(rate(page))
        over = threading.Event()
        clients = [threading.Thread(target=spam, args=(port, ticket, over)) for _ in range(CROWD)]
        for client in clients:
            client.start()
        among.append(rate(page))
        over.set()
        for client in clients:
            client.join()
    return alone, among


def rate(page: Any) -> float:
    """Frames a second over a turn."""
    page.wait_for_timeout(1000)
    page.evaluate(TAKE)
    began = time.monotonic()
    page.wait_for_timeout(TURN * 1000)
    return len(page.evaluate(TAKE)[0]) / (time.monotonic() - began)


def spam(port: int, ticket: str, over: threading.Event) -> None:
    """Connect, send as fast as it goes, vanish without a word; over and over. Bare sockets: cheap for us."""
    rng = random.Random()
    hello = (
        f"GET /pocketgenie/play HTTP/1.1\r\nHost: 127.0.0.1:{port}\r\nUpgrade: websocket\r\n"
        "Connection: Upgrade\r\nSec-WebSocket-Version: 13\r\n"
        "Sec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\r\n\r\n"
    ).encode()
    join = masked(json.dumps({"type": "join", "ticket": ticket}))
    hold = masked(json.dumps({"type": "hold", "action": 0}))
    while not over.is_set():
        refused = contextlib.suppress(OSError)  # or shut out: what it is for
        with refused, socket.create_connection(("127.0.0.1", port), timeout=5) as client:
            client.sendall(hello)
            if client.recv(4096).startswith(b"HTTP/1.1 101"):
                client.sendall((join if rng.random() < 0.5 else b"") + hold * 100 + masked("x" * 60))
        time.sleep(rng.random() * 0.4)


def masked(text: str) -> bytes:
    """A text frame of a client, its mask zero (RFC 6455, 5.2). At most 125 bytes."""
    return bytes((0x81, 0x80 | len(text), 0, 0, 0, 0)) + text.encode()


def figures(
    rows: list[dict[str, float]], frames: list[list[float]], alone: list[float], among: list[float]
) -> dict[str, Any]:
    """What the documentation quotes."""
    at, number, engine = np.array(frames).T
    added = np.diff(at) - engine[1:]
    seconds = np.array([row["seconds"] for row in rows])
    total = np.array([row["server_mb"] + row["engine_mb"] for row in rows])
    settled = seconds >= min(60.0, seconds[-1] / 4)
    slope = np.polyfit(seconds[settled], total[settled], 1)[0]
    return {
        "minutes": round(float(seconds[-1]) / 60, 1),
        "frames": len(frames),
        "fps": round(float(np.median([row["fps"] for row in rows])), 1),
        "engine_ms_p50": round(float(np.median(engine)), 2),
        "engine_ms_p95": round(float(np.quantile(engine, 0.95)), 2),
        "added_ms_p50": round(float(np.median(added)), 2),
        "added_ms_p95": round(float(np.quantile(added, 0.95)), 2),
        "delivered": round(len(frames) / float(number[-1] - number[0] + 1), 4),
        "memory_mb": [round(float(total[settled][0]), 1), round(float(total[-1]), 1)],
        "growth_mb": round(float(slope * (seconds[-1] - seconds[settled][0])), 1),
        "crowd_ratio": round(float(np.median(np.array(among) / np.array(alone))), 3) if alone else None,
        "fps_alone": [round(value, 1) for value in alone],
        "fps_among": [round(value, 1) for value in among],
    }


def write(out: Path, rows: list[dict[str, float]], found: dict[str, Any]) -> None:
    """OUT.json, OUT.csv, OUT.png"""
    out.with_suffix(".json").write_text(json.dumps(found, indent=2) + "\n")
    with out.with_suffix(".csv").open("w", newline="") as file:
        table = csv.DictWriter(file, list(rows[0]))
        table.writeheader()
        table.writerows({name: round(value, 2) for name, value in row.items()} for row in rows)
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    figure, (top, bottom) = pyplot.subplots(2, sharex=True, figsize=(9, 5), layout="constrained")
    minutes = [row["seconds"] / 60 for row in rows]
    top.stackplot(
        minutes,
        [row["engine_mb"] for row in rows],
        [row["server_mb"] for row in rows],
        labels=["engine", "server"],
        colors=["#0e7c70", "#c3c8cd"],
    )
    top.set_ylabel("resident memory, MB")
    top.legend(loc="lower right")
    bottom.plot(minutes, [row["fps"] for row in rows], color="#0e7c70", linewidth=1)
    bottom.set_ylabel("frames per second")
    bottom.set_xlabel("minutes of play")
    bottom.set_ylim(bottom=0)
    figure.savefig(out.with_suffix(".png"), dpi=110)


if __name__ == "__main__":
    main()
