"""The page on its hosts: without headers, without a network, with a damaged world, cancelled on the way."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from pocketgenie.runtimes.serve import serving

pytestmark = [pytest.mark.browser, pytest.mark.timeout(900)]  # the first one exports the site


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
def plain_host(site: Path) -> Iterator[str]:
    """The site below a path, as that of a project on GitHub Pages."""
    server = ThreadingHTTPServer(("127.0.0.1", 0), partial(_Plain, directory=str(site.parent)))
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        yield f"http://localhost:{server.server_port}/{site.name}/"
    finally:
        server.shutdown()
        server.server_close()


def test_without_isolation_one_thread_plays_and_the_page_says_why(two_cores, visit, site):
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


def test_a_world_that_is_exported_again_under_an_open_page_is_noticed(visit, copy):
    with plain_host(copy) as address:
        seen = visit().open(address)
        seen.page.wait_for_selector("html[data-offline=ready]")
        _edit(copy / "world" / "world.json", precision="another", card="# Its card\nIt was **trained**.")
        seen.page.click("#play")
        seen.page.wait_for_selector("#trouble:not([hidden])")
        assert "exported again" in seen.page.inner_text("#trouble-text")
        seen.page.click("#retry")
        seen.page.wait_for_function("() => document.querySelector('#world').textContent.endsWith('another')")
        seen.page.wait_for_selector("#play:not(:disabled)")
        assert "to load" not in seen.page.inner_text("#size"), "its files are the same"
        seen.page.click("#open-about")
        seen.page.click("#card summary")
        assert seen.page.inner_text("#card-text") == "Its card\n\nIt was trained."
        seen.page.click("#about .main")
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
def test_what_is_wrong_is_said(visit, copy, spoil, title, words):
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
