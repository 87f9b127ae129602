"""A real headless Chromium, driven by Playwright: found, started, and asked from any thread."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, Final, TypeVar

import psutil
from playwright.sync_api import Browser, Page, Playwright, Route, sync_playwright
from playwright.sync_api import Error as PlaywrightError

from pocketgenie.errors import UserError
from pocketgenie.runtimes.machine import gpu

Answer = TypeVar("Answer")

NAMES: Final = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable", "chrome", "msedge")
MEND: Final = "install Chromium (Debian: apt-get install chromium), or name one: CHROME=/path/to/chrome"
WEBGPU: Final = ("--enable-unsafe-webgpu", "--ignore-gpu-blocklist")
SOFTWARE: Final = "--use-webgpu-adapter=swiftshader"
TIMEOUT: Final = 600_000  # milliseconds; a frame on the software adapter takes many seconds
BLANK: Final = "http://localhost/blank"
ADAPTER: Final = """async () => {
    const adapter = await navigator.gpu?.requestAdapter();
    if (!adapter) return null;
    const { vendor, architecture, description, isFallbackAdapter } = adapter.info;
    const name = description || [vendor, architecture].filter(Boolean).join(' ') || 'a graphics card';
    const emulated = /swiftshader|llvmpipe|basic render/i.test(`${architecture} ${name}`);
    return { name, software: emulated || Boolean(isFallbackAdapter) };
}"""


def find_browser() -> Path | None:
    """Chrome or Chromium: the one that the environment's CHROME names, else one on the PATH; None leaves it
    to Playwright, which may have its own. Raises UserError when CHROME names none."""
    if named := os.environ.get("CHROME"):
        found = shutil.which(named)
        if found is None:
            raise UserError(f"CHROME={named} is no program; {MEND}")
        return Path(found)
    return next((Path(found) for name in NAMES if (found := shutil.which(name))), None)


class Chromium:
    """One browser with one page. All of Playwright runs in a thread of its own, so that any thread may ask.

    webgpu: offer WebGPU, by a software adapter where the machine has no card. Raises UserError where there is
    no browser, or where it does not start.
    """

    def __init__(self, webgpu: bool = False) -> None:
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="chromium")
        self._playwright: Playwright | None = None
        self._browser: Browser | None = None
        self._before = {child.pid for child in psutil.Process().children(recursive=True)}
        self.peak = 0.0
        try:
            self.page: Page = self._do(lambda: self._launch(webgpu))
        except BaseException:
            self.close()
            raise

    @property
    def version(self) -> str:
        """Like "150.0.7871.0"."""
        assert self._browser is not None
        return self._browser.version

    def open(self, address: str) -> None:
        """Load a page. Raises UserError when it does not come."""
        try:
            self._do(lambda: self.page.goto(address))
        except PlaywrightError as error:
            raise UserError(
                f"Chromium cannot open {address} ({_line(error)}); see whether it is served"
            ) from None

    def open_blank(self, address: str = BLANK) -> None:
        """An empty page of that address's origin, isolated as the served ones are."""

        def answer(route: Route) -> None:
            isolated = {
                "Cross-Origin-Opener-Policy": "same-origin",
                "Cross-Origin-Embedder-Policy": "require-corp",
            }
            route.fulfill(
                body="<!doctype html><title>check</title>", content_type="text/html", headers=isolated
            )

        self._do(lambda: self.page.route(address, answer))
        self.open(address)

    def ask(self, script: str, argument: Any = None) -> Any:
        """What a function of JavaScript returns. Raises PlaywrightError for what it throws."""
        answer = self._do(lambda: self.page.evaluate(script, argument))
        return answer

    def listen(self, hear: Callable[[str], None]) -> None:
        """`hear` gets every line that the page and its workers write to the console."""
        self._do(lambda: self.page.on("console", lambda message: hear(message.text)))

    def adapter(self) -> dict[str, Any] | None:
        """WebGPU's adapter as an open page sees it: {name, software}; None without one."""
        found: dict[str, Any] | None = self.ask(ADAPTER)
        return found

    def memory_mb(self) -> float:
        """The most that the browser's processes held at once, of the times that this was asked: memory that
        no other process shares, all of them together."""
        held = 0
        for child in psutil.Process().children(recursive=True):
            if child.pid not in self._before:
                try:
                    held += child.memory_full_info().uss
                except psutil.Error:  # it has just ended
                    continue
        self.peak = max(self.peak, held / 1e6)
        return self.peak

    def close(self) -> None:
        """End the browser."""

        def end() -> None:
            if self._browser:
                self._browser.close()
            if self._playwright:
                self._playwright.stop()

        self._do(end)
        self._thread.shutdown()

    def _do(self, work: Callable[[], Answer]) -> Answer:
        return self._thread.submit(work).result()

    def _launch(self, webgpu: bool) -> Page:
        arguments = ["--no-sandbox"] if hasattr(os, "geteuid") and os.geteuid() == 0 else []
        if webgpu:
            arguments += [*WEBGPU, "--enable-features=Vulkan" if gpu() else SOFTWARE]
        browser = find_browser()
        self._playwright = sync_playwright().start()
        try:
            self._browser = self._playwright.chromium.launch(executable_path=browser, args=arguments)
        except PlaywrightError as error:
            what = f"{browser} does not start" if browser else "there is no Chrome or Chromium"
            raise UserError(f"{what} ({_line(error)}); {MEND}") from None
        page = self._browser.new_page()
        page.set_default_timeout(TIMEOUT)
        return page


def _line(error: Exception) -> str:
    return " ".join(str(error).split())[:200]
