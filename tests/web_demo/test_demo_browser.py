"""The loop in a real browser: keys pressed, frames changed, bundles compared, a recording kept."""

from __future__ import annotations

import json
import os
import shutil
import socket
import subprocess
import sys
import time
import urllib.request
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("streamlit", reason="the extra `demo` is not installed")

import pocketgenie.web_demo
from pocketgenie.web_demo.settings import VARIABLE, Settings

pytestmark = pytest.mark.browser
FRAME = "() => Number(document.querySelector('.pg-play')?.dataset.frame ?? -1)"
PIXELS = "() => document.querySelector('.pg-play .stage canvas').toDataURL()"


@pytest.fixture(scope="module")
def address(
    tiny_bundle: Path, faulty_bundle: Path, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[str]:
    """`streamlit run web_demo/app.py`, with two bundles."""
    dist = tmp_path_factory.mktemp("demo") / "dist"
    shutil.copytree(tiny_bundle, dist / "a-sound")
    shutil.copytree(faulty_bundle, dist / "b-faulty")
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    app = Path(pocketgenie.web_demo.__file__).resolve().with_name("app.py")
    given = Settings(dist=dist, checkpoints=(), port=port).model_dump_json()
    server = subprocess.Popen(
        [sys.executable, "-m", "streamlit", "run", str(app), "--server.port", str(port)],
        env={**os.environ, VARIABLE: given},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
    )
    place = f"http://localhost:{port}"
    for _ in range(240):
        try:
            urllib.request.urlopen(f"{place}/_stcore/health", timeout=2)
            break
        except OSError:
            assert server.poll() is None, server.communicate()[0]
            time.sleep(0.25)
    yield place
    server.terminate()
    try:
        server.wait(20)
    except subprocess.TimeoutExpired:
        server.kill()


@pytest.fixture
def page(browser: Any) -> Iterator[Any]:
    """A page whose errors fail the test."""
    opened = browser.new_page(viewport={"width": 1280, "height": 900}, permissions=["camera"])
    opened.set_default_timeout(60_000)
    errors: list[str] = []
    opened.on("pageerror", lambda error: errors.append(str(error)))
    yield opened
    opened.close()
    assert not errors


def playing(page: Any, address: str) -> Any:
    """The panel Play with the start picture on its canvas."""
    page.goto(address)
    page.wait_for_function(f"() => ({FRAME})() === 0")
    return page


def test_keys_are_pressed_and_frames_change(page: Any, address: str) -> None:
    playing(page, address)
    start = page.evaluate(PIXELS)
    page.wait_for_timeout(500)
    assert page.evaluate(FRAME) == 0  # the world waits for a key
    page.keyboard.down("3")
    page.wait_for_function(f"() => ({FRAME})() >= 4")
    assert "lit" in page.locator(".pg-play [data-action='2']").get_attribute("class")
    page.keyboard.up("3")
    assert page.evaluate(PIXELS) != start
    page.wait_for_timeout(500)
    frame = page.evaluate(FRAME)
    page.wait_for_timeout(500)
    assert page.evaluate(FRAME) == frame
    page.keyboard.press("r")
    page.wait_for_function(f"() => ({FRAME})() === 0")
    assert page.evaluate(PIXELS) == start


def test_pad_and_gamepad_play_and_the_charts_live(page: Any, address: str) -> None:
    page.add_init_script("navigator.getGamepads = () => globalThis.pads ?? []")  # no browser has a fake one
    playing(page, address)
    button = page.locator(".pg-play [data-action='1']")
    box = button.bounding_box()
    page.mouse.move(box["x"] + 5, box["y"] + 5)
    page.mouse.down()
    page.wait_for_function(f"() => ({FRAME})() >= 5")
    page.wait_for_timeout(600)
    page.mouse.up()
    assert page.locator(".gauges .fps b").inner_text().isdecimal()
    assert "ms" in page.locator(".gauges [data-stage=engine]").inner_text()
    page.wait_for_timeout(300)
    frame = page.evaluate(FRAME)
    page.evaluate("globalThis.pads = [{ buttons: [0, 0, 0, 1].map((on) => ({ pressed: !!on })), axes: [] }]")
    page.wait_for_function(f"frame => ({FRAME})() >= frame + 3", arg=frame)
    assert "lit" in page.locator(".pg-play [data-action='3']").get_attribute("class")
    page.evaluate("globalThis.pads = []")
    page.wait_for_timeout(500)
    frame = page.evaluate(FRAME)
    page.wait_for_timeout(500)
    assert page.evaluate(FRAME) == frame


def test_another_start_picture_begins_again(page: Any, address: str) -> None:
    playing(page, address)
    start = page.evaluate(PIXELS)
    page.get_by_role("button", name="picture 2").click()
    page.wait_for_function(f"start => ({PIXELS})() !== start", arg=start)
    assert page.evaluate(FRAME) == 0


def test_a_drawing_is_a_start_picture(page: Any, address: str) -> None:
    playing(page, address)
    start = page.evaluate(PIXELS)
    page.get_by_text("Draw", exact=True).click()
    board = page.locator("canvas.board")
    board.wait_for()
    box = board.bounding_box()
    page.locator(".swatches button").nth(3).click()
    page.mouse.move(box["x"] + 30, box["y"] + 30)
    page.mouse.down()
    page.mouse.move(box["x"] + 150, box["y"] + 120, steps=6)
    page.mouse.up()
    page.wait_for_function(
        f"start => ({FRAME})() === 0 && ({PIXELS})() !== start",
        arg=start,
    )


def test_a_picture_of_the_camera_is_a_start_picture(page: Any, address: str, browser: Any) -> None:
    playing(page, address)
    start = page.evaluate(PIXELS)
    page.get_by_text("Camera", exact=True).click()
    page.wait_for_function("() => document.querySelector('video')?.currentTime > 0.2")  # before: no photo
    page.get_by_role("button", name="Take Photo").click()
    page.wait_for_function(f"start => ({FRAME})() === 0 && ({PIXELS})() !== start", arg=start)
    taken = page.evaluate(PIXELS)
    page.keyboard.press("2")
    page.wait_for_function(f"() => ({FRAME})() >= 1")
    assert page.evaluate(PIXELS) != taken
    page.context.clear_permissions()
    page.reload()
    page.get_by_text("Camera", exact=True).click()
    page.get_by_text("would like to use your camera").wait_for()
    assert page.get_by_text("Allow this page the camera").is_visible()


def test_a_second_page_waits_for_its_turn(page: Any, address: str, browser: Any) -> None:
    playing(page, address)
    other = browser.new_page()
    other.goto(address)
    other.get_by_text("you are next").wait_for(timeout=60_000)
    page.goto("about:blank")
    other.wait_for_function(f"() => ({FRAME})() === 0", timeout=60_000)
    other.close()


def test_a_recording_is_downloaded(page: Any, address: str, tmp_path: Path) -> None:
    playing(page, address)
    page.keyboard.down("2")
    page.wait_for_function(f"() => ({FRAME})() >= 3")
    page.keyboard.up("2")
    with page.expect_download() as waiting:
        page.get_by_text("with log").click()
    waiting.value.save_as(tmp_path / "kept.zip")
    with zipfile.ZipFile(tmp_path / "kept.zip") as archive:
        log = json.loads(archive.read("actions.json"))
        assert set(log["actions"]) == {2} and log["bundle"] == "a-sound"
        assert archive.read("start.png").startswith(b"\x89PNG")
        assert len(archive.namelist()) == 3


def test_a_comparison_is_shown(page: Any, address: str) -> None:
    page.goto(f"{address}/compare")
    page.get_by_role("button", name="Compare", exact=True).click()
    page.get_by_text("Which tokens differ").wait_for(timeout=120_000)
    assert page.locator("figcaption", has_text="differing tokens").count() == 1
    assert page.locator("svg polyline").count() >= 1
    assert page.get_by_text("of all tokens equal").is_visible()


def test_every_panel_opens_without_an_error(page: Any, address: str) -> None:
    playing(page, address)
    panels = {"Imitate": "What happens there", "Judge": "Check it here", "Export": "From checkpoint"}
    for name, seen in panels.items():
        page.get_by_role("link", name=name).click()
        page.get_by_text(seen).first.wait_for()
        assert page.locator("[data-testid=stException]").count() == 0
