"""Runtimes `web-wasm` and `web-webgpu`: the bundle's own site in a real headless Chromium.

The page is served on localhost with the headers that isolate it, and the engine of the site plays, so what is
judged is what a visitor gets. Arrays cross to the browser and back as base64. Time is taken inside the page's
worker, where a visitor's frames are drawn, not across this connection.
"""

from __future__ import annotations

import base64
from contextlib import ExitStack
from typing import Any, Final

import numpy as np

from pocketgenie.errors import UserError
from pocketgenie.export.bundle import Bundle
from pocketgenie.genie.spec import TensorSpec
from pocketgenie.runtimes.chromium import Chromium
from pocketgenie.runtimes.machine import cores
from pocketgenie.runtimes.remote import Shortened
from pocketgenie.runtimes.serve import SITE, serving
from pocketgenie.runtimes.session import Array
from pocketgenie.runtimes.table import SOFTWARE

SLOW_FRAMES: Final = 4
MENDABLE: Final = {"missing-file", "altered-file", "network", "schema", "no-webgpu", "memory", "no-graph"}
"""Codes of the engine's errors that a user can mend; the others are faults of the runtime."""
TYPES: Final = {"Uint8Array": "u1", "Int32Array": "<i4", "Float32Array": "<f4", "Float64Array": "<f8"}

OPEN: Final = """async (wish) => {
    const { Engine } = await import('/engine/engine.js');
    const engine = new Engine();
    const types = { Uint8Array, Int32Array, Float32Array, Float64Array };
    const pack = (value) => {
        if (ArrayBuffer.isView(value)) {
            const bytes = new Uint8Array(value.buffer, value.byteOffset, value.byteLength);
            let text = '';
            const step = 32768; // arguments that a call takes
            for (let at = 0; at < bytes.length; at += step) {
                text += String.fromCharCode(...bytes.subarray(at, at + step));
            }
            return { type: value.constructor.name, data: btoa(text) };
        }
        if (!value || typeof value !== 'object') return value;
        return Object.fromEntries(Object.entries(value).map(([name, inner]) => [name, pack(inner)]));
    };
    const unpack = (value) => {
        if (!value?.type) return value;
        return new types[value.type](Uint8Array.from(atob(value.data), (c) => c.charCodeAt(0)).buffer);
    };
    globalThis.call = async (method, args) => {
        try {
            return { result: pack(await engine[method](...args.map(unpack))) };
        } catch (error) {
            return { code: error.code ?? 'runtime', message: error.message };
        }
    };
    try {
        const { device, deviceName, threads, why } = await engine.load(wish);
        return { result: { device, deviceName, threads, why } };
    } catch (error) {
        return { code: error.code ?? 'runtime', message: error.message };
    }
}"""


class WebSession:
    """The site's engine as a Session; it takes its turns and its stages by itself (remote.Remote)."""

    def __init__(self, bundle: Bundle, device: str, threads: int) -> None:
        self.spec = bundle.manifest.spec
        self.graphs = bundle.manifest.graphs
        self.picture: Array | None = None
        self.started = False
        with ExitStack() as stack:
            address = stack.enter_context(serving(bundle.path(SITE)))
            self.browser = Chromium(webgpu=device == "webgpu")
            stack.callback(self.browser.close)
            self.browser.open_blank(f"{address}/blank")
            adapter = self.browser.adapter() if device == "webgpu" else None
            self.software = adapter["name"] if adapter and adapter["software"] else None
            wish = {"world": f"{address}/world/world.json", "device": device, "threads": threads}
            self.loaded = _answer(self.browser.ask(OPEN, wish))
            if self.loaded["threads"] != threads and device == "wasm":
                raise UserError(
                    f"asked for {threads} threads, got: {self.loaded['why']}; set OMP_NUM_THREADS"
                )
            self._open = stack.pop_all()

    def _call(self, method: str, *args: Any) -> Any:
        packed = [_pack(value) if isinstance(value, np.ndarray) else value for value in args]
        return _unpack(_answer(self.browser.ask("([method, args]) => call(method, args)", [method, packed])))

    def _shaped(self, graph: str, name: str, values: Array) -> Array:
        outputs: tuple[TensorSpec, ...] = self.graphs[graph].outputs
        return values.reshape(next(output.shape for output in outputs if output.name == name))

    def reset(self) -> None:
        self._call("reset")
        self.started = False

    def encode(self, frame: Array) -> Array:
        self.picture = frame
        tokens: Array = self._call("encode", frame)
        return tokens

    def observe(self, tokens: Array, action: int) -> None:
        self._call("observe", tokens.astype(np.int32), int(action))

    def play(self, action: int, noise: Array) -> tuple[Array, Array]:
        drawn = self._call("play", int(action), noise.astype(np.int32))
        return drawn["tokens"], drawn["frame"].reshape(self.spec.frame_shape)

    def decode(self, tokens: Array) -> Array:
        return self._shaped("decode", "frame", self._call("decode", tokens.astype(np.int32)))

    def logits(self, tokens: Array, action: int) -> Array:
        return self._shaped("logits", "logits", self._call("logits", tokens.astype(np.int32), int(action)))

    def infer_action(self, frames: Array) -> tuple[int, Array]:
        named = self._call("inferAction", frames)
        return int(named["action"]), named["distances"]

    def turn(self, frames: int, seconds: float, warm_up: int) -> list[float]:
        """A turn, timed in the page's worker -> ms of each frame. It goes on where the last one ended."""
        if self.software:
            raise UserError(
                f"{self.software} is no graphics card, its speed says nothing; try one with a card"
            )
        self._start()
        timed: list[float] = self._call("turn", frames, seconds, warm_up).tolist()
        return timed

    def stages(self, frames: int) -> dict[str, float]:
        """Milliseconds of each part of a frame, medians, timed in the page's worker."""
        self._start()
        parts = [self._call("play", number % self.spec.actions)["ms"] for number in range(frames)]
        return {
            name: float(np.median([part[name] for part in parts])) for name in parts[0] if name != "total"
        }

    def memory_mb(self) -> float:
        """Of the browser's processes (Chromium.memory_mb)."""
        return self.browser.memory_mb()

    def shortened(self) -> Shortened | None:
        """How much of parity it is fast enough for, where not for all."""
        if self.software is None:
            return None
        return Shortened(frames=SLOW_FRAMES, why=f"{self.software} draws a frame in many seconds")

    def close(self) -> None:
        self._open.close()

    def _start(self) -> None:
        """Let the engine itself begin at the last picture: its own play loop draws the noise."""
        if not self.started:
            assert self.picture is not None, "encode a picture first"
            self._call("start", self.picture)
            self.started = True


def load_wasm(bundle: Bundle) -> WebSession:
    return WebSession(bundle, "wasm", cores())


def load_one_thread(bundle: Bundle) -> WebSession:
    return WebSession(bundle, "wasm", 1)


def load_webgpu(bundle: Bundle) -> WebSession:
    return WebSession(bundle, "webgpu", 1)


def probe() -> str:
    """Start the browser, for `doctor`."""
    browser = Chromium()
    try:
        browser.open_blank()
        assert browser.ask("() => crossOriginIsolated"), "its pages are not isolated"
        return f"Chromium {browser.version}"
    finally:
        browser.close()


def probe_webgpu() -> str:
    """Start the browser and ask it for an adapter, for `doctor`. Raises UserError without one."""
    browser = Chromium(webgpu=True)
    try:
        browser.open_blank()
        adapter = browser.adapter()
        if adapter is None:
            raise UserError(f"Chromium {browser.version} finds no WebGPU adapter; install a graphics driver")
        kind = f", {SOFTWARE}: right, not fast" if adapter["software"] else ""
        return f"Chromium {browser.version} on {adapter['name']}{kind}"
    finally:
        browser.close()


def _answer(answer: dict[str, Any]) -> Any:
    if "result" in answer or "code" not in answer:
        return answer.get("result")
    if answer["code"] in MENDABLE:
        raise UserError(answer["message"])
    raise RuntimeError(f"the page's engine: {answer['message']}")


def _pack(values: Array) -> dict[str, str]:
    kinds = {np.dtype(kind): name for name, kind in TYPES.items()}
    data = base64.b64encode(np.ascontiguousarray(values).tobytes()).decode()
    return {"type": kinds[values.dtype], "data": data}


def _unpack(value: Any) -> Any:
    if not isinstance(value, dict):
        return value
    if value.keys() == {"type", "data"}:
        return np.frombuffer(base64.b64decode(value["data"]), TYPES[value["type"]]).copy()
    return {name: _unpack(inner) for name, inner in value.items()}
