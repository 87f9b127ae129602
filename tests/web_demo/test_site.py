"""The browser player's page in a real Chromium: played by keyboard, touch and drawing, and looked at."""

from __future__ import annotations

import io
import json
import shutil
import threading
from base64 import b64decode
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from pocketgenie.export.bundle import load_bundle
from pocketgenie.runtimes.chromium import find_browser
from pocketgenie.runtimes.pictures import load_picture
from pocketgenie.runtimes.player import Player
from pocketgenie.runtimes.serve import serving
from pocketgenie.runtimes.table import load_session
from pocketgenie.runtimes.terminal import key_map

pytestmark = [pytest.mark.browser, pytest.mark.timeout(900)]  # the first one exports the site

PLAYING = "#curtain.open"
PICTURE = "() => document.querySelector('#screen canvas').toDataURL()"


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    """Any Chromium or Chrome of this machine."""
    path = find_browser() or pytest.skip("neither Chromium nor Chrome is installed")
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=path, args=["--no-sandbox"])
        yield browser
        browser.close()


@pytest.fixture(scope="module")
def site(web_bundle: Path) -> Path:
    """The published site of the tiny world; tests that change it copy it first."""
    return web_bundle / "site"


@pytest.fixture(scope="module")
def address(site: Path) -> Iterator[str]:
    with serving(site) as address:
        yield address


class Visit:
    """A page, and what went wrong on it."""

    def __init__(self, page: Any) -> None:
        self.page = page
        self.faults: list[str] = []
        self.requests: list[str] = []
        page.on("pageerror", lambda error: self.faults.append(str(error)))
        page.on(
            "console",
            lambda line: self.faults.append(line.text) if "Content Security" in line.text else None,
        )
        page.on("request", lambda request: self.requests.append(request.url))

    def open(self, address: str) -> Visit:
        self.page.goto(address)
        self.page.wait_for_selector("#play:not(:disabled)")
        return self

    def start(self) -> Visit:
        self.page.click("#play")
        self.page.wait_for_selector(PLAYING, state="attached", timeout=60_000)
        self.page.wait_for_function("() => document.querySelector('#frame').textContent === 'frame 0'")
        return self

    def frame(self, number: int) -> None:
        """Wait for a frame."""
        self.page.wait_for_function(
            "(n) => document.querySelector('#frame').textContent === `frame ${n}`", arg=number
        )

    def press(self, *keys: str) -> None:
        """One frame for each key."""
        before = int(self.page.inner_text("#frame").split()[-1])
        for number, key in enumerate(keys, 1):
            self.page.keyboard.press(key)
            self.frame(before + number)

    def log(self) -> Any:
        with self.page.expect_download() as download:
            self.page.click("#log")
        return json.loads(Path(download.value.path()).read_text())


@pytest.fixture
def visit(browser: Any) -> Iterator[Callable[..., Visit]]:
    contexts = []

    def visit(**options: Any) -> Visit:
        contexts.append(browser.new_context(**{"viewport": {"width": 1280, "height": 800}, **options}))
        contexts[-1].set_default_timeout(60_000)
        visits.append(Visit(contexts[-1].new_page()))
        return visits[-1]

    visits: list[Visit] = []
    yield visit
    for context in contexts:
        context.close()
    assert [fault for each in visits for fault in each.faults] == []


def test_keys_play_the_tokens_that_python_plays(visit, address, site, tiny_bundle):
    seen = visit().open(address).start()
    before = seen.page.evaluate(PICTURE)
    seen.press("3", "1", "5", "5", "ArrowRight")
    assert seen.page.evaluate(PICTURE) != before
    log = seen.log()
    assert log["actions"] == [2, 0, 4, 4, 1], "a world that names no arrows gives its first actions to them"
    with Player(load_session(tiny_bundle, "ort-cpu")) as player:
        player.start(load_picture(site / "world" / log["start"]["gallery"], player.spec).frame)
        wanted = [player.tokens.tolist()]
        for action in log["actions"]:
            player.step(action)
            wanted.append(player.tokens.tolist())
    assert log["tokens"] == wanted


def test_a_held_key_repeats_and_pause_step_and_restart_do_so(visit, address):
    seen = visit().open(address).start()
    page = seen.page
    page.keyboard.down("2")
    page.wait_for_function("() => Number(document.querySelector('#frame').textContent.split(' ')[1]) > 4")
    page.keyboard.down("Shift")  # from here on the key writes something else
    page.keyboard.up("2")
    page.keyboard.up("Shift")
    page.wait_for_function("() => document.querySelector('#state').textContent.startsWith('waits')")
    page.keyboard.press("Space")
    played = int(page.inner_text("#frame").split()[-1])
    page.keyboard.press("1")
    page.wait_for_timeout(300)
    seen.frame(played)
    page.keyboard.press(".")
    seen.frame(played + 1)
    page.keyboard.press("r")
    seen.frame(0)
    assert page.inner_text("#state").startswith("waits")


def test_touch_plays_while_it_lasts(visit, address):
    phone = {"viewport": {"width": 390, "height": 844}, "has_touch": True, "is_mobile": True}
    seen = visit(**phone).open(address)
    seen.page.tap("#play")
    seen.page.wait_for_selector(PLAYING, state="attached")
    seen.page.wait_for_function("() => document.querySelector('#frame').textContent === 'frame 0'")
    seen.page.tap("#pad button:nth-child(4)")
    seen.frame(1)
    assert seen.log()["actions"] == [3]
    assert seen.page.evaluate("document.documentElement.scrollWidth") == 390


def draw(page: Any) -> None:
    page.click("#draw")
    page.click("#swatches button:nth-child(2)")
    board = page.locator("#board").bounding_box()
    page.mouse.move(board["x"] + 9, board["y"] + board["height"] * 0.7)
    page.mouse.down()
    page.mouse.move(board["x"] + board["width"] - 9, board["y"] + board["height"] * 0.7, steps=6)
    page.mouse.up()


def test_a_drawing_is_seen_by_the_world_and_played_and_its_link_replays_it(visit, address):
    seen = visit().open(address).start()
    page = seen.page
    blank = page.evaluate("() => document.querySelector('#board').toDataURL()")
    draw(page)
    page.wait_for_function("() => document.querySelector('#imagined-name').textContent.endsWith('sees it')")
    page.wait_for_function(
        "() => { const [a, b] = document.querySelectorAll('#sketch canvas');"
        " return a.toDataURL() !== b.toDataURL(); }"
    )
    drawn = page.evaluate("() => document.querySelector('#board').toDataURL()")
    assert drawn != blank
    page.click("#undo")
    assert page.evaluate("() => document.querySelector('#board').toDataURL()") == blank
    page.click("#sketch [data-close]")
    draw(page)
    page.click("#use")
    page.wait_for_function("() => document.querySelector('#gallery [aria-pressed=true]') === null")
    page.wait_for_function("() => document.querySelector('#state').textContent.startsWith('waits')")
    seen.press("4", "4", "2")
    log = seen.log()
    assert "png" in log["start"]
    page.click("#link")
    page.wait_for_function("() => location.hash.includes('a=4x2.2')")
    assert replay(visit(), page.url, 3) == log["tokens"]


def replay(seen: Visit, link: str, frames: int) -> Any:
    seen.open(link)
    assert seen.page.inner_text("#play") == "Watch the run"
    seen.page.click("#play")
    seen.frame(frames)
    return seen.log()["tokens"]


def test_a_link_replays_the_same_tokens_with_another_seed(visit, address):
    seen = visit().open(address).start()
    seen.page.click("#gallery button:nth-child(2)")
    seen.page.fill("#seed", "77")
    seen.page.press("#seed", "Tab")
    seen.frame(0)
    seen.page.focus("#stage")
    seen.press("1", "2", "3", "3", "3")
    tokens = seen.log()["tokens"]
    seen.page.click("#link")
    seen.page.wait_for_function("() => location.hash.includes('s=77')")
    assert replay(visit(), seen.page.url, 5) == tokens
    other = seen.page.url.replace("s=77", "s=78")
    assert replay(visit(), other, 5) != tokens
    foreign = visit().open(seen.page.url.replace("w=", "w=0"))
    assert "another world" in foreign.page.inner_text("#say")


def test_a_log_that_comes_back_is_checked_token_by_token(visit, address, tmp_path):
    seen = visit().open(address).start()
    seen.press("1", "3")
    log = seen.log()
    for name, spoil, words in (("good", 0, "3 of 3 frames equal"), ("bad", 1, "differs from frame 2")):
        log["tokens"][2][0] ^= spoil
        (tmp_path / f"{name}.json").write_text(json.dumps(log))
        seen.page.set_input_files("#chooser", tmp_path / f"{name}.json")
        seen.page.wait_for_function(
            "(words) => document.querySelector('#say').textContent.includes(words)", arg=words
        )
    (tmp_path / "long.json").write_text(json.dumps(log | {"actions": [0] * 60}))
    seen.page.set_input_files("#chooser", tmp_path / "long.json")
    seen.page.wait_for_function("() => document.querySelector('#state').textContent.startsWith('replaying')")
    seen.page.keyboard.press("2")
    seen.page.wait_for_function("() => document.querySelector('#state').textContent.startsWith('waits')")
    assert "differs" not in seen.page.inner_text("#say"), "a run that is interrupted is not judged"


def test_any_picture_becomes_the_frame_that_python_makes_of_it(visit, address, tmp_path, tiny_bundle):
    from pocketgenie.export.bundle import load_bundle

    spec = load_bundle(tiny_bundle).manifest.spec
    page = visit().open(address).page
    rng = np.random.default_rng(3)
    for width, height, mode in (
        (16, 16, "RGB"),
        (48, 32, "RGB"),
        (37, 91, "RGB"),
        (9, 5, "RGB"),
        (200, 150, "RGBA"),
    ):
        pixels = rng.integers(0, 256, (height, width, len(mode)), dtype=np.uint8)
        if mode == "RGBA":
            pixels[..., 3] = 255 * (pixels[..., 3] > 128)
        path = tmp_path / f"{width}x{height}.png"
        Image.fromarray(pixels).save(path)
        got = page.evaluate(
            """async ([bytes, spec]) => {
                const { readPicture } = await import('/ui/picture.js');
                return [...await readPicture(new Blob([new Uint8Array(bytes)]), spec)];
            }""",
            [list(path.read_bytes()), {"width": spec.width, "height": spec.height}],
        )
        np.testing.assert_array_equal(np.reshape(got, spec.frame_shape), load_picture(path, spec).frame)


def test_a_gif_holds_the_frames_that_were_played(visit, address):
    seen = visit().open(address).start()
    seen.press("1", "2", "3")
    frames = seen.page.evaluate(PICTURE)
    with seen.page.expect_download() as download:
        seen.page.click("#gif")
    with Image.open(download.value.path()) as film:
        assert film.n_frames == 4  # type: ignore[attr-defined]
        film.seek(3)
        last = np.asarray(film.convert("RGB"))
    png = Image.open(io.BytesIO(b64decode(frames.split(",")[1]))).convert("RGB")
    shown = np.asarray(png).repeat(last.shape[0] // 16, 0).repeat(last.shape[1] // 16, 1)
    assert np.abs(last.astype(int) - shown).mean() < 3, "256 colours for all frames are nearly theirs"


def test_the_gifs_code_words_grow_and_begin_again(visit, address):
    page = visit().open(address).page
    rng = np.random.default_rng(0)
    colours = rng.integers(0, 256, (256, 3), dtype=np.uint8)
    frames = colours[rng.integers(0, 256, (2, 120, 120))]
    got = page.evaluate(
        """async (frames) => {
            const { encodeGif } = await import('/ui/gif.js');
            const spec = { width: 120, height: 120, fps: 15 };
            const film = await encodeGif(frames.map((f) => new Uint8Array(f)), spec, 1, () => {});
            return [...new Uint8Array(await film.arrayBuffer())];
        }""",
        [frame.ravel().tolist() for frame in frames],
    )
    with Image.open(io.BytesIO(bytes(got))) as film:
        for t, frame in enumerate(frames):
            film.seek(t)
            np.testing.assert_array_equal(np.asarray(film.convert("RGB")), frame)


def test_two_runtimes_agree_side_by_side(visit, address):
    seen = visit().open(address).start()
    seen.press("1", "2")
    seen.page.click("#versus")
    seen.page.wait_for_function(
        "() => document.querySelector('#verdict').textContent.includes('all 2 frames equal')"
    )
    seen.press("4")
    assert "16 of 16 tokens equal" in seen.page.inner_text("#verdict")
    left, right = (
        seen.page.evaluate(f"() => document.querySelector('#{name} canvas').toDataURL()")
        for name in ("screen", "other")
    )
    assert left == right
    seen.page.click("#versus")
    seen.page.wait_for_selector("#second", state="hidden")
    seen.press("1")
    marked = seen.page.evaluate(
        """async () => {
            const { Screen } = await import('/ui/screen.js');
            const spec = { width: 16, height: 16, grid: [4, 4] };
            const screen = new Screen(document.createElement('div'), spec, 'x');
            screen.mark([1, 6]);
            const dots = screen.marks.getImageData(0, 0, 4, 4).data;
            return Array.from({ length: 16 }, (_, place) => place).filter((place) => dots[place * 4 + 3]);
        }"""
    )
    assert marked == [1, 6]


def test_keys_can_be_changed_and_are_kept(visit, address):
    seen = visit().open(address)
    page = seen.page
    page.click("#open-keys")
    page.click("[data-add='4']")
    page.keyboard.press("r")
    assert "start again" in page.inner_text("#listening")
    page.keyboard.press("q")
    page.click("#keys .main")
    page.reload()
    page.wait_for_selector("#play:not(:disabled)")
    seen.start().press("q")
    assert seen.log()["actions"] == [4]


def test_keys_are_those_of_the_terminal(visit, address, tiny_bundle):
    page, spec = visit().open(address).page, load_bundle(tiny_bundle, only=()).manifest.spec
    for actions in (1, 5, 12, 40):
        found = page.evaluate(
            """async (actions) => {
                const { defaultKeys } = await import('/ui/hands.js');
                return Object.fromEntries(defaultKeys({ actions, arrows: {} }));
            }""",
            actions,
        )
        own = {key.removeprefix("Arrow").lower(): action for key, action in found.items()}
        assert own == key_map(spec.model_copy(update={"actions": actions}))


def test_the_buttons_show_what_each_action_does(visit, address):
    seen = visit().open(address).start()
    seen.page.wait_for_function("() => document.querySelectorAll('#pad .known').length === 5")
    seen.press("2")  # the tries have not moved the world
    tokens = seen.log()["tokens"]
    other = visit().open(address).start()
    other.press("2")
    assert other.log()["tokens"] == tokens


def test_a_second_visit_needs_no_network_and_none_another_origin(visit, site):
    seen = visit()
    with serving(site) as address:
        seen.open(address).start()
        seen.page.wait_for_selector("html[data-offline=ready]")
    seen.page.reload()
    seen.page.wait_for_selector("#play:not(:disabled)")
    assert "Kept on this device" in seen.page.inner_text("#size")
    seen.start().press("1")
    own = (address, "blob:", "data:")
    assert [url for url in seen.requests if not url.startswith(own)] == []


class _Plain(SimpleHTTPRequestHandler):
    """A host that does not isolate, and lets browsers keep everything for a while, as GitHub Pages does."""

    def end_headers(self) -> None:
        self.send_header("Cache-Control", "max-age=600")
        super().end_headers()

    def guess_type(self, path: Any) -> str:
        return "text/javascript" if str(path).endswith(".mjs") else super().guess_type(path)

    def log_message(self, *args: object) -> None:
        pass


@contextmanager
def plain_host(folder: Path) -> Iterator[str]:
    server = ThreadingHTTPServer(("127.0.0.1", 0), partial(_Plain, directory=str(folder)))
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        yield f"http://localhost:{server.server_port}/"
    finally:
        server.shutdown()
        server.server_close()


def test_without_isolation_one_thread_plays_and_the_page_says_why(visit, site):
    with plain_host(site) as address:
        seen = visit(service_workers="block").open(address).start()
        assert "one thread" in seen.page.inner_text("#why")
        assert "headers COOP and COEP" in seen.page.inner_text("#why")
        seen.press("1")


def test_a_host_without_headers_is_isolated_by_the_page_itself(visit, site):
    with plain_host(site) as address:
        seen = visit().open(address)
        seen.page.wait_for_function("() => crossOriginIsolated")
        seen.page.wait_for_selector("#play:not(:disabled)")
        seen.start().press("1")


def test_a_world_that_is_exported_again_under_an_open_page_is_noticed(visit, site, tmp_path):
    shutil.copytree(site, tmp_path / "site")
    with plain_host(tmp_path / "site") as address:
        seen = visit().open(address)
        seen.page.wait_for_selector("html[data-offline=ready]")
        _edit(tmp_path / "site" / "world" / "world.json", precision="another")
        seen.page.click("#play")
        seen.page.wait_for_selector("#trouble:not([hidden])")
        assert "exported again" in seen.page.inner_text("#trouble-text")
        seen.page.click("#retry")
        seen.page.wait_for_function("() => document.querySelector('#world').textContent.endsWith('another')")
        seen.page.wait_for_selector("#play:not(:disabled)")
        assert "to load" not in seen.page.inner_text("#size"), "its files are the same"
        seen.start().press("1")


def test_without_webgpu_the_page_says_so_and_plays(visit, address):
    seen = visit()
    seen.page.add_init_script("Object.defineProperty(Navigator.prototype, 'gpu', { get: () => undefined })")
    seen.open(address).start()
    assert "WebGPU" in seen.page.inner_text("#why") and "WebAssembly" in seen.page.inner_text("#device")


def _flip(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)


def _edit(path: Path, **fields: Any) -> None:
    path.write_text(json.dumps(json.loads(path.read_text()) | fields))


@pytest.mark.parametrize(
    ("spoil", "title", "words"),
    [
        (lambda world: (world / "weights.bin").unlink(), "A file of this world is missing", "weights.bin"),
        (lambda world: _flip(world / "weights.bin"), "not what it should be", "weights.bin"),
        (lambda world: (world / "world.json").unlink(), "A file of this world is missing", "world.json"),
        (lambda world: _edit(world / "world.json", schema_version=9), "another version", "schema 9"),
    ],
    ids=["missing", "flipped", "no-world", "schema"],
)
def test_what_is_wrong_is_said(visit, site, tmp_path, spoil, title, words):
    copy = tmp_path / "site"
    shutil.copytree(site, copy)
    spoil(copy / "world")
    with serving(copy) as address:
        page = visit().page
        page.goto(address)
        page.wait_for_selector("#play:not(:disabled), #trouble:not([hidden])")
        if page.is_hidden("#trouble"):
            page.click("#play")
        page.wait_for_selector("#trouble:not([hidden])")
        assert title in page.inner_text("#trouble-title")
        assert words in page.inner_text("#trouble-text")


def test_out_of_memory_and_no_webgpu_have_words_and_a_way_out(visit, address):
    page = visit().open(address).page
    told = page.evaluate(
        """async () => {
            const { wordsFor } = await import('/ui/words.js');
            const codes = ['memory', 'no-webgpu', 'network', 'crashed', 'what'];
            return codes.map((code) => wordsFor({ code, message: 'so it is' }));
        }"""
    )
    assert [words["title"] for words in told[:2]] == ["Not enough memory", "No WebGPU here"]
    assert all(words["text"] == "So it is." and (words["retry"] or words["wasm"]) for words in told)


def test_loading_can_be_cancelled_and_begun_again(visit, address):
    seen = visit()
    seen.page.context.route("**/weights.bin*", lambda route: None)  # it never comes
    seen.open(address)
    seen.page.click("#play")
    seen.page.wait_for_function("() => document.querySelector('#bytes').textContent.includes(' of ')")
    seen.page.click("#cancel")
    seen.page.wait_for_selector("#invite:not([hidden])")
    seen.page.context.unroute("**/weights.bin*")
    seen.start().press("1")


def test_nothing_moves_while_playing(visit, address):
    seen = visit().open(address).start()
    seen.page.evaluate(
        """() => {
            globalThis.shifts = [];
            const name = ({ node }) => node?.outerHTML ?? node?.parentElement?.outerHTML;
            const names = ({ value, sources }) => [value, sources.map(name)];
            const watch = new PerformanceObserver((list) => shifts.push(...list.getEntries().map(names)));
            watch.observe({ type: 'layout-shift' });
        }"""
    )
    seen.press("1", "2", "3")
    seen.page.keyboard.down("4")
    seen.page.wait_for_timeout(1500)
    seen.page.keyboard.up("4")
    seen.page.keyboard.press("Space")
    seen.page.wait_for_timeout(300)
    assert seen.page.evaluate("shifts") == []


def test_the_keyboard_reaches_everything_in_order_and_everything_has_a_name(visit, address):
    seen = visit().open(address).start()
    page = seen.page
    order = page.evaluate(
        """() => [...document.querySelectorAll('a, button, select, input, [tabindex="0"]')]
            .filter((e) => e.checkVisibility({ visibilityProperty: true }) && !e.disabled && e.tabIndex >= 0)
            .map((e, place) => (e.dataset.place = place))"""
    )
    page.focus(".skip")
    met = [0]
    for _ in order[1:]:
        page.keyboard.press("Tab")
        met.append(page.evaluate("() => Number(document.activeElement.dataset.place)"))
    assert met == order
    nameless = page.evaluate(
        """() => [...document.querySelectorAll(
                'button, select, input, canvas[role=img], dialog, section, progress'
            )].filter((e) => e.getAttribute('aria-hidden') !== 'true')
            .filter((e) => !(e.textContent.trim() || e.getAttribute('aria-label') || e.labels?.length
                || e.getAttribute('aria-labelledby'))).map((e) => e.outerHTML.slice(0, 80))"""
    )
    assert nameless == []


CONTRAST = """() => {
    const paint = document.createElement('canvas').getContext('2d', { willReadFrequently: true });
    const rgba = (colour) => {
        paint.clearRect(0, 0, 1, 1);
        paint.fillStyle = colour;
        paint.fillRect(0, 0, 1, 1);
        return [...paint.getImageData(0, 0, 1, 1).data];
    };
    const over = ([r, g, b, a], below) => [r, g, b].map((c, i) => (c * a + below[i] * (255 - a)) / 255);
    const ground = (element) => {
        if (!element) return [255, 255, 255];
        const own = rgba(getComputedStyle(element).backgroundColor);
        return own[3] === 255 ? own.slice(0, 3) : over(own, ground(element.parentElement));
    };
    const linear = (c) => (c <= 0.04045 ? c / 12.92 : ((c + 0.055) / 1.055) ** 2.4);
    const light = ([r, g, b]) =>
        0.2126 * linear(r / 255) + 0.7152 * linear(g / 255) + 0.0722 * linear(b / 255);
    const found = [];
    for (const element of document.querySelectorAll('body *')) {
        const text = [...element.childNodes].some((node) => node.nodeType === 3 && node.textContent.trim());
        if (!text || !element.checkVisibility()) continue;
        const below = ground(element);
        const ink = over(rgba(getComputedStyle(element).color), below);
        const [a, b] = [light(ink), light(below)].sort((x, y) => y - x);
        const contrast = (a + 0.05) / (b + 0.05);
        if (contrast < 4.5) found.push([element.outerHTML.slice(0, 60), contrast]);
    }
    return found;
}"""


@pytest.mark.parametrize("scheme", ["dark", "light"])
def test_text_stands_out(visit, address, scheme):
    seen = visit(color_scheme=scheme).open(address)
    page = seen.page
    assert page.evaluate("document.documentElement.dataset.theme") == scheme
    found = page.evaluate(CONTRAST)
    seen.start()
    for opener, closer in (
        ("#open-keys", "#keys .main"),
        ("#open-about", "#about .main"),
        ("#draw", "#sketch [data-close]"),
    ):
        page.click(opener)
        found += page.evaluate(CONTRAST)
        page.click(closer)
    page.focus("#stage")
    page.keyboard.press("Space")
    found += page.evaluate(CONTRAST)
    assert found == []
    page.click("#theme")
    assert page.evaluate("document.documentElement.dataset.theme") != scheme


def test_runs_are_packed_and_unpacked(visit, address):
    page = visit().open(address).page
    kept, refused = page.evaluate(
        """async () => {
            const { packActions, unpackActions } = await import('/ui/run.js');
            const runs = [[], [0], [4, 4, 4, 0], Array(500).fill(2), [0, 1, 2, 3, 4, 4, 3]];
            const kept = runs.every((run) => String(unpackActions(packActions(run), 5)) === String(run));
            const damaged = ['9', '0', '1x999999', '1x', 'x', '1.a', '<b>', '1x99999.1x99999'];
            const refused = damaged.filter((text) => {
                try { unpackActions(text, 5); return false; } catch { return true; }
            });
            return [kept, refused.length];
        }"""
    )
    assert kept and refused == 8
