"""How the page looks and what it is made of: nothing moves, all is named and readable; its modules alone."""

from __future__ import annotations

import io
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import pytest
from PIL import Image

from pocketgenie.export.bundle import load_bundle
from pocketgenie.runtimes.pictures import load_picture
from pocketgenie.runtimes.terminal import key_map

pytestmark = [pytest.mark.browser, pytest.mark.timeout(900)]  # the first one exports the site


@pytest.fixture(scope="module")
def module(browser: Any, address: str) -> Iterator[Callable[..., Any]]:
    """Runs JavaScript where the page's modules can be imported, without the page."""
    page = browser.new_page()
    page.goto(f"{address}/sw.js")
    yield page.evaluate
    page.close()


def test_nothing_moves_while_playing(seen):
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


def test_the_keyboard_reaches_everything_in_order_and_everything_has_a_name(seen):
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


CARD = """---
sdk: static
---
# A world <img src=x onerror=alert(1)>
Learned from [video](https://example.org/a?b=1), [bad](javascript:alert(1)), [file](../other.md)
<!-- not shown --> and **bold `code`**.

- one
- two ![picture](x.png)

| a | b |
|---|---|
| 1 | <b>2</b> |

    pocketgenie play

```
<script>alert(1)</script>
```
"""


@pytest.mark.parametrize("scheme", ["dark", "light"])
def test_text_stands_out(visit, address, scheme):
    seen = visit(color_scheme=scheme).open(address)
    page = seen.page
    assert page.evaluate("document.documentElement.dataset.theme") == scheme
    found = page.evaluate(CONTRAST)
    seen.start()
    page.evaluate(
        """async (text) => {
            const { read } = await import('/ui/card.js');
            document.querySelector('#card-text').replaceChildren(...read(text));
            Object.assign(document.querySelector('#card'), { hidden: false, open: true });
        }""",
        CARD,
    )
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


def test_keys_are_those_of_the_terminal(module, tiny_bundle):
    spec = load_bundle(tiny_bundle, only=()).manifest.spec
    for actions in (1, 5, 12, 40):
        found = module(
            """async (actions) => {
                const { defaultKeys } = await import('/ui/hands.js');
                return Object.fromEntries(defaultKeys({ actions, arrows: {} }));
            }""",
            actions,
        )
        own = {key.removeprefix("Arrow").lower(): action for key, action in found.items()}
        assert own == key_map(spec.model_copy(update={"actions": actions}))


def test_any_picture_becomes_the_frame_that_python_makes_of_it(module, tmp_path, tiny_bundle):
    from pocketgenie.export.bundle import load_bundle

    spec = load_bundle(tiny_bundle).manifest.spec
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
        got = module(
            """async ([bytes, spec]) => {
                const { readPicture } = await import('/ui/picture.js');
                return [...await readPicture(new Blob([new Uint8Array(bytes)]), spec)];
            }""",
            [list(path.read_bytes()), {"width": spec.width, "height": spec.height}],
        )
        np.testing.assert_array_equal(np.reshape(got, spec.frame_shape), load_picture(path, spec).frame)


def test_the_gifs_code_words_grow_and_begin_again(module):
    rng = np.random.default_rng(0)
    colours = rng.integers(0, 256, (256, 3), dtype=np.uint8)
    frames = colours[rng.integers(0, 256, (2, 120, 120))]
    got = module(
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


def test_tokens_that_differ_are_marked(module):
    marked = module(
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


def test_a_card_is_read_as_text_and_nothing_in_it_is_html(module):
    found = module(
        """async (text) => {
            const { read } = await import('/ui/card.js');
            const box = document.createElement('div');
            box.append(...read(text));
            const names = [...box.children].map((e) => e.localName).join(' ');
            const links = [...box.querySelectorAll('a')].map((e) => e.href);
            const cells = [...box.querySelectorAll('th, td')].map((e) => e.textContent);
            const all = [...new Set([...box.querySelectorAll('*')].map((e) => e.localName))].sort();
            return { names, links, cells, all, text: box.textContent };
        }""",
        CARD,
    )
    assert found["names"] == "h3 p ul div pre pre"
    assert found["links"] == ["https://example.org/a?b=1"]
    assert found["cells"] == ["a", "b", "1", "<b>2</b>"]
    assert found["all"] == ["a", "b", "code", "div", "h3", "li", "p", "pre", "table", "td", "th", "tr", "ul"]
    for shown in ("A world <img src=x onerror=alert(1)>", "bad", "file", "<script>alert(1)</script>"):
        assert shown in found["text"]
    for hidden in ("sdk: static", "not shown", "javascript:", "x.png"):
        assert hidden not in found["text"]


def test_runs_are_packed_and_unpacked(module):
    kept, refused = module(
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


def test_out_of_memory_and_no_webgpu_have_words_and_a_way_out(module):
    told = module(
        """async () => {
            const { wordsFor } = await import('/ui/words.js');
            const codes = ['memory', 'no-webgpu', 'network', 'crashed', 'what'];
            return codes.map((code) => wordsFor({ code, message: 'so it is' }));
        }"""
    )
    assert [words["title"] for words in told[:2]] == ["Not enough memory", "No WebGPU here"]
    assert all(words["text"] == "So it is." and (words["retry"] or words["wasm"]) for words in told)
