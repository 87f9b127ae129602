"""The browser engine in a real Chromium: it plays as Python does, and says in one line what is wrong."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from pocketgenie.export.bundle import load_bundle
from pocketgenie.genie.noise import TABLE_OFFSETS, draw_noise
from pocketgenie.runtimes.chromium import find_browser
from pocketgenie.runtimes.ort_cpu import OrtBackend
from pocketgenie.runtimes.player import Player
from pocketgenie.runtimes.session import GraphSession
from pocketgenie.runtimes.table import load_session

pytestmark = pytest.mark.browser

WASM = "ort-wasm-simd-threaded"
SOFTWARE_GPU = [
    "--enable-unsafe-webgpu",
    "--use-webgpu-adapter=swiftshader",
    "--enable-features=Vulkan",
    "--use-vulkan=swiftshader",
]
EAGER = "--enable-blink-features=ForceEagerMeasureMemory"  # or Chromium measures after a quarter of a minute
PLAYING = ("play", "encode", "observe", "decode")


def copied(site: Path, folder: Path) -> Path:
    """A site whose world may be changed; of its many megabytes of runtime only the names are copied."""

    def bring(source: str, target: str) -> None:
        (os.link if "vendor" in Path(source).parts else shutil.copyfile)(source, target)

    return shutil.copytree(site, folder, copy_function=bring)


@pytest.fixture(scope="module")
def site(web_bundle: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The published site, with a blank page beside its own; tests that change it copy it first."""
    folder = copied(web_bundle / "site", tmp_path_factory.mktemp("engine") / "site")
    (folder / "blank.html").write_text("<!doctype html><title>blank</title>")
    return folder


class _Handler(SimpleHTTPRequestHandler):
    isolated = True

    def end_headers(self) -> None:
        if self.isolated:
            self.send_header("Cross-Origin-Opener-Policy", "same-origin")
            self.send_header("Cross-Origin-Embedder-Policy", "require-corp")
        super().end_headers()

    def guess_type(self, path: Any) -> str:
        return "text/javascript" if str(path).endswith(".mjs") else super().guess_type(path)

    def log_message(self, *args: object) -> None:
        pass


class _Plain(_Handler):
    isolated = False


@contextmanager
def serve(folder: Path, handler: type[_Handler] = _Handler) -> Iterator[str]:
    """The address of a page of the folder, served until the end."""
    server = ThreadingHTTPServer(("127.0.0.1", 0), partial(handler, directory=str(folder)))
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        yield f"http://127.0.0.1:{server.server_port}/blank.html"
    finally:
        server.shutdown()
        server.server_close()


@pytest.fixture(scope="module")
def launch() -> Iterator[Callable[..., Any]]:
    """Starts a browser with flags; it ends with the module."""
    sync_api = pytest.importorskip("playwright.sync_api", reason="playwright is missing")
    path = find_browser() or pytest.skip("no Chrome or Chromium found")
    with sync_api.sync_playwright() as playwright, ExitStack() as browsers:

        def launch(*flags: str) -> Any:
            browser = playwright.chromium.launch(executable_path=path, args=["--no-sandbox", EAGER, *flags])
            browsers.callback(browser.close)
            return browser

        yield launch


@pytest.fixture(scope="module")
def browser(launch: Callable[..., Any]) -> Any:
    return launch()


@pytest.fixture(scope="module")
def address(site: Path) -> Iterator[str]:
    with serve(site) as address:
        yield address


@pytest.fixture
def page(browser: Any, address: str) -> Iterator[Any]:
    """A page of the site's origin, with nothing kept from before."""
    with browser.new_context() as context:
        page = context.new_page()
        page.goto(address)
        yield page


@pytest.fixture(scope="module")
def picture(tiny_checkpoint: Path) -> Any:
    return np.load(tiny_checkpoint / "clips.npz")["frames"][0, 0]


LOAD = """async (options) => {
  const { Engine } = await import('./engine/engine.js');
  const engine = globalThis.engine = new Engine();
  const seen = globalThis.seen = [];
  try {
    return await engine.load({ ...options, onProgress: (progress) => seen.push(progress) });
  } catch ({ name, code, message }) {
    return { error: { name, code, message } };
  }
}"""
PLAY = """async ({ picture, actions, seed }) => {
  await engine.seed(seed);
  const started = await engine.start(Uint8Array.from(picture));
  const frames = [started.frame], tokens = [started.tokens];
  for (const action of actions) {
    const played = await engine.play(action);
    tokens.push(played.tokens);
    frames.push(played.frame);
  }
  return { tokens: tokens.map((row) => [...row]), frames: frames.map((row) => [...row]) };
}"""


def load(page: Any, **options: Any) -> Any:
    return page.evaluate(LOAD, options)


def play(page: Any, picture: Any, actions: list[int], seed: int = 0) -> tuple[Any, Any]:
    asked = {"picture": picture.ravel().tolist(), "actions": actions, "seed": seed}
    played = page.evaluate(PLAY, asked)
    return np.array(played["tokens"]), np.array(played["frames"])


def play_in_python(bundle: Path, picture: Any, actions: list[int], seed: int) -> tuple[Any, Any]:
    with Player(load_session(bundle, "ort-cpu"), seed=seed) as player:
        frames, tokens = [player.start(picture)], [player.tokens]
        for action in actions:
            frames.append(player.step(action))
            tokens.append(player.tokens)
    return np.stack(tokens), np.stack(frames).reshape(len(frames), -1)


@pytest.mark.parametrize("threads", [1, 2])
def test_plays_the_same_tokens_as_python(page, tiny_bundle, picture, threads):
    loaded = load(page, device="wasm", threads=threads)
    assert loaded["threads"] == threads and loaded["device"] == "wasm"
    actions = [n * 7 % 5 for n in range(64)]
    tokens, frames = play(page, picture, actions, seed=3)
    wanted, pixels = play_in_python(tiny_bundle, picture, actions, seed=3)
    np.testing.assert_array_equal(tokens, wanted)
    assert np.abs(frames - pixels.astype(int)).max() <= 1
    assert (np.diff(tokens, axis=0) != 0).any()


def session_in_python(bundle: Path, **spec: Any) -> GraphSession:
    """The bundle's graphs under a spec that differs in a field or two."""
    loaded = load_bundle(bundle)
    changed = loaded.manifest.spec.model_copy(update=spec)
    return GraphSession(changed, OrtBackend(loaded, ["CPUExecutionProvider"], threads=1))


def test_every_call_does_what_pythons_session_does(page, tiny_bundle, tiny_checkpoint):
    frames = np.load(tiny_checkpoint / "clips.npz")["frames"][0, :3]
    session = session_in_python(tiny_bundle)
    tokens = [session.encode(frame) for frame in frames]
    session.observe(tokens[0], 5)
    session.observe(tokens[1], 2)
    masked = np.where(np.arange(16) % 3, tokens[2], 64).astype(np.int32)
    noise = draw_noise(session.spec, 1, 1)
    wanted: list[Any] = [*tokens, session.logits(masked, 3), session.decode(tokens[2])]
    wanted += [*session.infer_action(frames[:2]), *session.play(4, noise)]
    assert "error" not in load(page, device="wasm", threads=1)
    got = page.evaluate(
        """async ({ frames, masked, noise }) => {
          await engine.reset();
          const tokens = [];
          for (const frame of frames) tokens.push(await engine.encode(Uint8Array.from(frame)));
          await engine.observe(tokens[0], 5);
          await engine.observe(tokens[1], 2);
          const logits = await engine.logits(Int32Array.from(masked), 3);
          const frame = await engine.decode(tokens[2]);
          const { action, distances } = await engine.inferAction(Uint8Array.from(frames.slice(0, 2).flat()));
          const played = await engine.play(4, Int32Array.from(noise));
          const answers = [...tokens, logits, frame, [action], distances, played.tokens, played.frame];
          return answers.map((values) => [...values]);
        }""",
        {
            "frames": frames.reshape(3, -1).tolist(),
            "masked": masked.tolist(),
            "noise": noise.ravel().tolist(),
        },
    )
    assert len(got) == len(wanted)
    for mine, python in zip(got, wanted, strict=True):
        np.testing.assert_allclose(np.ravel(mine), np.ravel(python), rtol=1e-3, atol=2e-3)


@pytest.mark.parametrize("keeps", [0, 2])
def test_an_absolute_window_moves_as_in_python(browser, site, tiny_bundle, picture, tmp_path, keeps):
    copied(site, tmp_path / "site")
    edit_world(tmp_path / "site", lambda world: world["spec"].update(window="absolute", keeps=keeps))
    actions = [1, 4, 0, 2, 2, 3, 1, 0]
    with Player(session_in_python(tiny_bundle, window="absolute", keeps=keeps), seed=2) as player:
        player.start(picture)
        wanted = [player.tokens, *(player.tokens for action in actions if player.step(action) is not None)]
    with serve(tmp_path / "site") as address, browser.new_context() as context:
        page = context.new_page()
        page.goto(address)
        load(page, device="wasm", threads=1)
        tokens, _ = play(page, picture, actions, seed=2)
    np.testing.assert_array_equal(tokens, wanted)
    relative, _ = play_in_python(tiny_bundle, picture, actions, seed=2)
    assert (tokens != relative).any()


@pytest.mark.parametrize("offsets", [TABLE_OFFSETS, 1000, 3 * 2**19 + 1])
def test_noise_is_numpys_number_for_number(page, offsets):
    rng = np.random.default_rng(4)
    seeds = [0, 1, 2**32 - 1, 2**32, 2**53 - 1, *map(int, rng.integers(0, 2**53, 20))]
    frames = [0, 1, 7, 2**31, *map(int, rng.integers(0, 10**6, 6))]
    drawn = page.evaluate(
        """async ({ seeds, frames, offsets }) => {
          const { drawNoise } = await import('./engine/noise.js');
          const rows = { first: 65, table_offsets: offsets };
          return seeds.map((seed) => frames.map((frame) => [...drawNoise(rows, 33, seed, frame)]));
        }""",
        {"seeds": seeds, "frames": frames, "offsets": offsets},
    )
    for seed, of_seed in zip(seeds, drawn, strict=True):
        for frame, mine in zip(frames, of_seed, strict=True):
            numpys = np.random.Generator(np.random.PCG64([seed, frame]))
            wanted = numpys.integers(65, 65 + offsets, (3, 11), dtype=np.int32).ravel()
            np.testing.assert_array_equal(mine, wanted, f"seed {seed}, frame {frame}")


def test_the_worlds_noise_is_the_players(page, tiny_bundle):
    spec = load_bundle(tiny_bundle).manifest.spec
    drawn = page.evaluate(
        """async (count) => {
          const { drawNoise } = await import('./engine/noise.js');
          const { noise } = await (await fetch('world/world.json')).json();
          return [...drawNoise(noise, count, 11, 5)];
        }""",
        spec.steps * spec.tokens,
    )
    np.testing.assert_array_equal(drawn, draw_noise(spec, 11, 5).ravel())


def test_sha256_without_https_is_sha256(page):
    lengths = [0, 1, 55, 56, 63, 64, 65, 119, 120, 1000]
    data = bytes(range(256)) * 4
    hashes = page.evaluate(
        """async (lengths) => {
          const { slowSha256 } = await import('./engine/sha256.js');
          const data = Uint8Array.from({ length: 1024 }, (_, i) => i);
          return lengths.map((length) => slowSha256(data.slice(0, length)));
        }""",
        lengths,
    )
    assert hashes == [hashlib.sha256(data[:length]).hexdigest() for length in lengths]


def edit_world(site: Path, edit: Any) -> None:
    path = site / "world" / "world.json"
    world = json.loads(path.read_text())
    edit(world)
    path.write_text(json.dumps(world))


def needed_bytes(site: Path, device: str = "wasm") -> int:
    world = json.loads((site / "world" / "world.json").read_text())
    entries = [world["graphs"][name] for name in PLAYING]
    paths = {path for entry in entries for path in (entry["file"], *entry["data"])}
    binary = next(name for name in world["runtime"][device] if name.endswith(".wasm"))
    return sum(world["files"][path]["size"] for path in paths) + world["runtime"][device][binary]["size"]


def test_progress_counts_to_a_known_sum_and_a_second_visit_fetches_no_file_again(browser, site):
    with serve(site) as address, browser.new_context() as context:
        page = context.new_page()
        page.goto(address)
        loaded = load(page, device="wasm", threads=1)
        total = needed_bytes(site)
        assert loaded["bytes"] == {"total": total, "cached": 0}
        seen = page.evaluate("seen")
        assert {news["total"] for news in seen} == {total}
        counts = [news["loaded"] for news in seen]
        assert counts == sorted(counts) and counts[0] == 0 and counts[-1] == total
        assert seen[-1]["stage"] == "ready" and {news.get("graph") for news in seen} >= set(PLAYING)
        second, asked = context.new_page(), []
        second.on("request", lambda request: asked.append(request.url))
        second.goto(address)
        assert load(second, device="wasm", threads=1)["bytes"] == {"total": total, "cached": total}
        assert asked and not [url for url in asked if "sha256=" in url]


def test_an_altered_file_in_the_cache_is_fetched_again(browser, site, picture):
    with serve(site) as address, browser.new_context() as context:
        page = context.new_page()
        page.goto(address)
        first = load(page, device="wasm", threads=1)
        size = page.evaluate(
            """async () => {
              const cache = await caches.open('pocketgenie-world');
              const key = (await cache.keys()).find(({ url }) => url.includes('weights.bin'));
              const bytes = new Uint8Array(await (await cache.match(key)).arrayBuffer());
              bytes[1000] ^= 1;
              await cache.put(key, new Response(bytes));
              return bytes.length;
            }"""
        )
        again = load(page, device="wasm", threads=1)
        assert again["bytes"]["cached"] == first["bytes"]["total"] - size


def _missing(site: Path) -> None:
    (site / "world" / "encode.onnx").unlink()


def _altered(site: Path) -> None:
    path = site / "world" / "weights.bin"
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(data)


def _longer(site: Path) -> None:
    with (site / "world" / "weights.bin").open("ab") as file:
        file.write(b"more")


def _schema(site: Path) -> None:
    edit_world(site, lambda world: world.update(schema_version=2))


def _no_graph(site: Path) -> None:
    edit_world(site, lambda world: world["graphs"].pop("play"))


def _no_json(site: Path) -> None:
    (site / "world" / "world.json").write_text("{")


def _no_world(site: Path) -> None:
    (site / "world" / "world.json").unlink()


def _no_runtime(site: Path) -> None:
    shutil.rmtree(site / "vendor")


def _no_glue(site: Path) -> None:
    (site / "vendor" / "ort" / "wasm" / f"{WASM}.mjs").unlink()


def _bad_graph(site: Path) -> None:
    (site / "world" / "play.onnx").write_bytes(bad := b"no graph")
    entry = {"sha256": hashlib.sha256(bad).hexdigest(), "size": len(bad)}
    edit_world(site, lambda world: world["files"].update({"play.onnx": entry}))


@pytest.mark.parametrize(
    ("spoil", "code", "words"),
    [
        (_missing, "missing-file", "encode.onnx is missing on the server (404)"),
        (_altered, "altered-file", "weights.bin is not what was exported"),
        (_longer, "altered-file", "weights.bin is not what was exported"),
        (_schema, "schema", "world.json has schema 2, this page reads schema 1"),
        (_no_graph, "schema", "world.json does not say graphs.play"),
        (_no_json, "schema", "world.json is not JSON"),
        (_no_world, "missing-file", "world.json is missing on the server (404)"),
        (_no_runtime, "missing-file", f"{WASM}.wasm is missing on the server"),
        (_no_glue, "missing-file", f"{WASM}.mjs is missing on the server"),
        (_bad_graph, "runtime", "ONNX Runtime failed at preparing the graph play"),
    ],
)
def test_what_is_wrong_is_said_in_one_line(browser, site, tmp_path, spoil, code, words):
    copied(site, tmp_path / "site")
    spoil(tmp_path / "site")
    with serve(tmp_path / "site") as address, browser.new_context() as context:
        page = context.new_page()
        page.goto(address)
        error = load(page, device="wasm", threads=1)["error"]
    assert error["name"] == "EngineError" and error["code"] == code
    assert words in error["message"] and ";" in error["message"] and "\n" not in error["message"]


def test_no_answer_is_a_network_error(page):
    page.route("**/weights.bin*", lambda route: route.abort())
    error = load(page, device="wasm", threads=1)["error"]
    assert error["code"] == "network" and "weights.bin did not come" in error["message"]


def test_calls_that_cannot_be_answered_say_why(page, tiny_bundle):
    page.evaluate(LOAD, {"device": "wasm", "threads": 1})
    calls = {
        "play(0)": ("not-started", "start at a picture first"),
        "play(9, new Int32Array(32))": ("argument", "this world's actions are 0 to 4"),
        "play(0, new Int32Array(3))": ("argument", "noise must be 32 row numbers"),
        "start(new Uint8Array(5))": ("argument", "16 x 16 pixels of RGB or RGBA"),
        "decode(new Int32Array(16).fill(64))": ("argument", "16 numbers from 0 to 63"),
        "seed(-1)": ("argument", "the seed -1"),
        "inferAction(new Uint8Array(3))": ("argument", "2 frames of RGB are 1536 bytes"),
    }
    for call, (code, words) in calls.items():
        error = page.evaluate(
            f"engine.{call}.then(() => null, ({{ code, message }}) => ({{ code, message }}))"
        )
        assert error and error["code"] == code and words in error["message"], call
    page.evaluate("engine.close()")
    error = page.evaluate("engine.reset().catch(({ code }) => code)")
    assert error == "not-loaded"


def test_rgba_is_taken_as_rgb(page, picture):
    load(page, device="wasm", threads=1)
    rgba = np.concatenate([picture, np.full((16, 16, 1), 7, np.uint8)], 2)
    tokens = [
        page.evaluate(
            "async (p) => [...(await engine.encode(Uint8ClampedArray.from(p)))]", given.ravel().tolist()
        )
        for given in (picture, rgba)
    ]
    assert tokens[0] == tokens[1]


def test_loading_can_be_cancelled_and_begun_again(page):
    page.route("**/weights.bin*", lambda route: None)  # never answered
    code = page.evaluate(
        """async () => {
          const { Engine } = await import('./engine/engine.js');
          globalThis.engine = new Engine();
          const stop = new AbortController();
          const { signal } = stop;
          const loading = engine.load({ device: 'wasm', signal, onProgress: () => stop.abort() });
          return loading.then(() => 'loaded', ({ code }) => code);
        }"""
    )
    assert code == "cancelled"
    page.unroute_all(behavior="ignoreErrors")
    loaded = page.evaluate("engine.load({ device: 'wasm', threads: 1 }).then(({ threads }) => threads)")
    assert loaded == 1


def test_without_webgpu_and_isolation_it_says_what_is_used_and_why(browser, site):
    with serve(site, _Plain) as address, browser.new_context() as context:
        page = context.new_page()
        page.goto(address)
        loaded = load(page, threads=2)
        assert loaded["device"] == "wasm" and loaded["threads"] == 1
        assert "WebGPU" in loaded["why"] and "does not isolate the page" in loaded["why"]
        error = load(page, device="webgpu")["error"]
        assert error["code"] == "no-webgpu" and "choose WebAssembly" in error["message"]


def test_the_service_worker_isolates_the_page_and_opens_it_without_a_server(browser, site, picture):
    with browser.new_context() as context:
        page = context.new_page()
        with serve(site, _Plain) as address:
            page.goto(address)
            assert not page.evaluate("crossOriginIsolated")
            page.evaluate(
                "navigator.serviceWorker.register('sw.js').then(() => navigator.serviceWorker.ready)"
            )
            page.goto(address)
            assert page.evaluate("crossOriginIsolated")
            assert load(page, device="wasm", threads=2)["threads"] == 2
            online, _ = play(page, picture, [1, 2, 3])
        page.goto(address)
        loaded = load(page, device="wasm", threads=2)
        assert loaded["threads"] == 2 and loaded["bytes"]["cached"] == loaded["bytes"]["total"]
        offline, _ = play(page, picture, [1, 2, 3])
        np.testing.assert_array_equal(online, offline)


@pytest.mark.slow
def test_memory_is_flat_over_two_thousand_frames(page, picture):
    load(page, device="wasm", threads=1)
    play(page, picture, [0, 1])
    sizes = page.evaluate(
        """async () => {
          const sizes = [];
          for (let round = 0; round < 3; round++) {
            await engine.turn(1000, 1000, 0);
            sizes.push((await performance.measureUserAgentSpecificMemory()).bytes);
          }
          return sizes;
        }"""
    )
    assert sizes[2] - sizes[0] < 2**20, sizes  # 2,000 frames leave more than 2,000 * (768 + 64) bytes if kept


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_webgpu_through_a_software_adapter_plays_the_same_tokens(launch, site, tiny_bundle, picture):
    actions = [1]  # tests/runtimes/test_web.py plays more
    with serve(site) as address, launch(*SOFTWARE_GPU).new_context() as context:
        page = context.new_page()
        page.set_default_timeout(0)
        page.goto(address)
        loaded = load(page, device="webgpu")
        assert loaded["device"] == "webgpu" and "emulated" in loaded["why"], loaded
        tokens, _ = play(page, picture, actions, seed=5)
        automatic = load(page)
        assert automatic["device"] == "wasm" and "emulated" in automatic["why"]
    np.testing.assert_array_equal(tokens, play_in_python(tiny_bundle, picture, actions, seed=5)[0])
