"""The browser player in a real Chromium: keys, touch, gamepad, camera and drawing; runs kept and replayed."""

from __future__ import annotations

import io
import json
from base64 import b64decode
from typing import Any

import numpy as np
import pytest
from PIL import Image

from pocketgenie.runtimes.pictures import load_picture
from pocketgenie.runtimes.player import Player
from pocketgenie.runtimes.table import load_session

pytestmark = [pytest.mark.browser, pytest.mark.timeout(900)]  # the first one exports the site

PICTURE = "() => document.querySelector('#screen canvas').toDataURL()"


def pixels(picture: str) -> Any:
    """Of a PNG's data address: uint8 [H, W, 3]"""
    return np.asarray(Image.open(io.BytesIO(b64decode(picture.split(",")[-1]))).convert("RGB"))


def test_keys_play_the_tokens_that_python_plays(seen, site, tiny_bundle):
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


def test_a_held_key_repeats_and_pause_step_and_restart_do_so(seen):
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


def test_a_gamepads_held_button_repeats_and_its_stick_is_the_arrows(seen):
    page = seen.page
    page.evaluate("navigator.getGamepads = () => globalThis.pads ?? []")  # no browser has a fake one

    def put(*pressed: int, right: float = 0) -> None:
        page.evaluate(
            """([pressed, right]) => {
                const button = (_, place) => ({ pressed: pressed.includes(place) });
                const buttons = Array.from({ length: 17 }, button);
                globalThis.pads = [null, { buttons, axes: [right, 0, 0, 0] }];
            }""",
            [pressed, right],
        )

    def until(state: str) -> None:
        page.wait_for_function("(s) => document.querySelector('#state').textContent.startsWith(s)", arg=state)

    put(2)
    page.wait_for_function("() => Number(document.querySelector('#frame').textContent.split(' ')[1]) > 3")
    put()
    until("waits")
    played = len(seen.log()["actions"])
    put(right=0.9)
    page.wait_for_function(
        "(n) => Number(document.querySelector('#frame').textContent.split(' ')[1]) > n", arg=played
    )
    put(right=0.1)
    until("waits")
    actions = seen.log()["actions"]
    assert set(actions[:played]) == {2} and set(actions[played:]) == {1}
    page.wait_for_timeout(300)
    assert seen.log()["actions"] == actions, "what is let go plays no more"
    put(9)
    until("paused")
    put(8)
    seen.frame(0)
    put()


def test_a_picture_of_the_camera_is_played(seen):
    page = seen.page
    for keep in (False, True):
        page.click("#camera")
        page.wait_for_selector("#lens[open]")
        page.wait_for_function("() => document.querySelector('#film').currentTime > 0.2")
        page.click("#shoot" if keep else "#lens [data-close]")
        page.wait_for_selector("#lens", state="hidden")
        page.wait_for_function(
            "() => document.querySelector('#film').srcObject.getTracks().every(({ readyState }) =>"
            " readyState === 'ended')"
        )
        if not keep:
            assert page.locator("#gallery [aria-pressed=true]").count() == 1, "who closes it has taken none"
    page.wait_for_selector("#gallery:not(:has([aria-pressed=true]))")
    page.wait_for_function("() => document.querySelector('#frame').textContent === 'frame 0'")
    page.wait_for_function("() => document.querySelector('#state').textContent.startsWith('waits')")
    seen.press("2", "3")
    log = seen.log()
    taken = pixels(log["start"]["png"])
    assert taken.shape == (16, 16, 3) and taken.std() > 10, (
        "Chromium's test picture: green, and a disc that turns"
    )
    assert log["actions"] == [1, 2]


def test_a_camera_that_is_not_allowed_is_one_sentence(visit, address):
    page = visit().open(address).page
    said = "(words) => document.querySelector('#say').textContent.includes(words)"
    page.click("#camera")
    page.wait_for_function(said, arg="The camera was not allowed: allow it")
    assert page.is_hidden("#lens")
    page.evaluate(
        "Object.defineProperty(navigator, 'mediaDevices', { value: undefined })"
    )  # as plain http has it
    page.click("#camera")
    page.wait_for_function(said, arg="It needs https or localhost")


def test_touch_plays_while_it_lasts(visit, address):
    phone = {"viewport": {"width": 390, "height": 844}, "has_touch": True, "is_mobile": True}
    seen = visit(**phone).open(address)
    seen.page.tap("#play")
    seen.frame(0)
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


def test_a_drawing_is_seen_by_the_world_and_played_and_its_link_replays_it(seen, visit, address):
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


def replay(seen: Any, link: str, frames: int) -> Any:
    seen.open(link)
    assert seen.page.inner_text("#play") == "Watch the run"
    seen.page.click("#play")
    seen.frame(frames)
    return seen.log()["tokens"]


def test_a_link_replays_the_same_tokens_with_another_seed(seen):
    page = seen.page
    page.click("#gallery button:nth-child(2)")
    page.fill("#seed", "77")
    page.press("#seed", "Tab")
    seen.frame(0)
    page.focus("#stage")
    seen.press("1", "2", "3", "3", "3")
    tokens = seen.log()["tokens"]
    page.click("#link")
    page.wait_for_function("() => location.hash.includes('s=77')")
    link = page.evaluate("location.hash")

    def follow(link: str) -> Any:
        seen.anew(lambda: page.evaluate("(link) => { location.hash = link; }", link))
        seen.frame(5)
        return seen.log()["tokens"]

    assert follow(link.replace("s=77", "s=78")) != tokens
    assert follow(link) == tokens
    page.evaluate("(link) => { location.hash = link; }", link.replace("w=", "w=0"))
    page.wait_for_function("() => document.querySelector('#say').textContent.includes('another world')")


def test_a_log_that_comes_back_is_checked_token_by_token(seen, tmp_path):
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


def test_a_gif_holds_the_frames_that_were_played(seen):
    seen.press("1", "2", "3")
    frames = seen.page.evaluate(PICTURE)
    with seen.page.expect_download() as download:
        seen.page.click("#gif")
    with Image.open(download.value.path()) as film:
        assert film.n_frames == 4  # type: ignore[attr-defined]
        film.seek(3)
        last = np.asarray(film.convert("RGB"))
    shown = pixels(frames).repeat(last.shape[0] // 16, 0).repeat(last.shape[1] // 16, 1)
    assert np.abs(last.astype(int) - shown).mean() < 3, "256 colours for all frames are nearly theirs"


def test_two_runtimes_agree_side_by_side(two_cores, seen):
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


def test_keys_can_be_changed_and_are_kept(seen, address):
    page = seen.page
    page.click("#open-keys")
    page.click("[data-add='4']")
    page.keyboard.press("r")
    assert "start again" in page.inner_text("#listening")
    page.keyboard.press("q")
    page.click("#keys .main")
    page.focus("#stage")
    seen.press("q")
    assert seen.log()["actions"] == [4]
    later = page.context.new_page()
    later.goto(address)
    later.wait_for_selector("#pad [data-action='4'][aria-label*='key 5 or Q']")
    later.close()
    page.click("#open-keys")
    page.click("#default-keys")
    page.click("#keys .main")


def test_the_buttons_show_what_each_action_does(seen):
    seen.page.wait_for_function("() => document.querySelectorAll('#pad .known').length === 5")
    seen.press("2")  # the tries have not moved the world
    tokens = seen.log()["tokens"]
    seen.again()
    seen.press("2")
    assert seen.log()["tokens"] == tokens
