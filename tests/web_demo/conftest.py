"""The browser player's page in a real Chromium, with a camera that shows a moving test picture."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

PLAYING = "#curtain.open"
TAP = """(key) => {
    for (const kind of ['keydown', 'keyup']) {
        document.activeElement.dispatchEvent(new KeyboardEvent(kind, { key, code: key, bubbles: true }));
    }
}"""
CAMERA = "--use-fake-device-for-media-stream"  # whether a page may use it is asked of its context


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    """Any Chromium or Chrome of this machine."""
    sync_api = pytest.importorskip("playwright.sync_api", reason="playwright is not installed")
    from pocketgenie.runtimes.chromium import find_browser

    path = find_browser() or pytest.skip("neither Chromium nor Chrome is installed")
    with sync_api.sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=path, args=["--no-sandbox", CAMERA])
        yield browser
        browser.close()


@pytest.fixture(scope="module")
def site(web_bundle: Path) -> Path:
    """The published site of the tiny world; tests that change it copy it first."""
    return web_bundle / "site"


@pytest.fixture(scope="module")
def address(site: Path) -> Iterator[str]:
    from pocketgenie.runtimes.serve import serving

    with serving(site) as address:
        yield address


@pytest.fixture
def copy(site: Path, tmp_path: Path) -> Path:
    """A site whose world may be changed; the runtime's many megabytes are links."""

    def bring(source: str, target: str) -> None:
        (os.link if "vendor" in Path(source).parts else shutil.copyfile)(source, target)

    return Path(shutil.copytree(site, tmp_path / "site", copy_function=bring))


@pytest.fixture
def two_cores() -> None:
    """Threads of WebAssembly need as many; Chromium counts those that it may use."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    if cores < 2:
        pytest.skip("this process may use one core only; a page offers threads from two on")


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
        """One frame for each key, let go at once: where all is slow, a real one is held for two frames."""
        before = int(self.page.inner_text("#frame").split()[-1])
        for number, key in enumerate(keys, 1):
            self.page.evaluate(TAP, key)
            self.frame(before + number)

    def anew(self, begin: Callable[[], object]) -> None:
        """Wait for the run that this begins."""
        self.page.evaluate("document.querySelector('#tokens').textContent = ''")  # written when a run begins
        begin()
        self.page.wait_for_function("() => document.querySelector('#tokens').textContent")

    def again(self) -> None:
        """From the first picture on, as the page began."""
        self.page.evaluate("document.querySelector('#seed').value = 0")
        self.anew(lambda: self.page.click("#gallery button:nth-child(1)"))
        self.page.wait_for_function("() => document.querySelector('#state').textContent.startsWith('waits')")
        self.page.focus("#stage")

    def log(self) -> Any:
        with self.page.expect_download() as download:
            self.page.click("#log")
        return json.loads(Path(download.value.path()).read_text())


@pytest.fixture
def visit(browser: Any) -> Iterator[Callable[..., Visit]]:
    """Opens pages of new visitors; options are those of a browser context."""
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


@pytest.fixture(scope="module")
def table(browser: Any, address: str) -> Iterator[Visit]:
    """One page that plays, for all tests that leave it as they found it; loading takes longer than most."""
    context = browser.new_context(viewport={"width": 1280, "height": 800}, permissions=["camera"])
    context.set_default_timeout(60_000)
    visit = Visit(context.new_page()).open(address).start()
    yield visit
    context.close()
    assert visit.faults == []


@pytest.fixture
def seen(table: Visit) -> Visit:
    """That page at the start of a run."""
    table.again()
    return table
