"""`pocketgenie play` as a user calls it: in a process of its own."""

import os
import pty
import re
import select
import subprocess
import sys
import time
from contextlib import suppress

import pytest
from PIL import Image, ImageSequence

PLAY = [sys.executable, "-m", "pocketgenie", "play"]


def play(*arguments, folder):
    return subprocess.run(
        [*PLAY, *map(str, arguments)], cwd=folder, stdin=subprocess.DEVNULL, capture_output=True, text=True
    )


def test_a_picture_and_actions_become_a_gif(tiny_bundle, tmp_path):
    Image.new("RGB", (192, 108), "teal").save(tmp_path / "any [1].jpg")
    done = play(
        tiny_bundle, "--image", "any [1].jpg", "--actions", "1,1,4x3,2", "-o", "out.gif", folder=tmp_path
    )
    assert done.returncode == 0, done.stderr
    first, second = done.stdout.splitlines()
    assert first == "any [1].jpg: cropped 192x108 to 108x108, scaled to 16x16"
    assert re.fullmatch(r"out\.gif: 7 frames, drawn at \d+ fps \(p50 [\d.]+ ms, p95 [\d.]+ ms\)", second)
    with Image.open(tmp_path / "out.gif") as gif:
        assert gif.size == (96, 96)
        assert sum(frame.info["duration"] for frame in ImageSequence.Iterator(gif)) == 700  # at 10 fps


def test_the_gallery_the_seed_and_the_scale(tiny_bundle, tmp_path):
    common = ("--actions", "1x4", "--scale", "2", "-o")
    for name, *options in (
        ("a", "--seed", "1"),
        ("b", "--seed", "1"),
        ("c", "--seed", "2"),
        ("d", "--temperature-zero"),
    ):
        done = play(tiny_bundle, *common, f"{name}.gif", *options, folder=tmp_path)
        assert done.stdout.splitlines()[0] == "clip-0.png: 16x16, used as it is"
    a, b, c, d = ((tmp_path / f"{name}.gif").read_bytes() for name in "abcd")
    assert a == b
    assert len({a, c, d}) == 3
    with Image.open(tmp_path / "a.gif") as gif:
        assert gif.size == (32, 32)


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (("--actions", "1,9", "-o", "a.gif"), "action 9 is out of range: this world's actions are 1 to 5"),
        (("--actions", "jump", "-o", "a.gif"), "'jump' is no action; write 1,1,4x8,2"),
        (("--actions", "1"), "--actions and -o belong together"),
        (("-o", "a.gif"), "--actions and -o belong together"),
        (("--actions", "1", "-o", "a.mp4"), "give it a name that ends in .gif"),
        (("--actions", "1", "-o", "nowhere/a.gif"), "No such file or directory: nowhere/a.gif"),
        (("--actions", "1", "-o", "a.gif", "--image", "none.png"), "no picture at none.png"),
        (("--actions", "1", "-o", "a.gif", "--runtime", "gpu"), "no runtime 'gpu'"),
        ((), "this is no terminal to play in; write a GIF: --actions 1,1,4x8,2 -o out.gif"),
    ],
)
def test_what_a_user_can_get_wrong_is_one_line(tiny_bundle, tmp_path, arguments, told):
    done = play(tiny_bundle, *arguments, folder=tmp_path)
    assert done.returncode == 2
    assert told in done.stderr
    assert len(done.stderr.splitlines()) == 1
    assert list(tmp_path.iterdir()) == []


@pytest.mark.skipif(sys.platform == "win32", reason="needs a pseudo terminal")
def test_it_is_played_live_in_a_terminal(tiny_bundle, tmp_path):
    """A real pseudo terminal: blocks appear, a key draws a frame, s saves, q leaves."""
    ours, theirs = pty.openpty()
    environment = os.environ | {
        "TERM": "xterm-256color",
        "COLORTERM": "truecolor",
        "COLUMNS": "80",
        "LINES": "24",
    }
    child = subprocess.Popen(
        [*PLAY, str(tiny_bundle)], cwd=tmp_path, stdin=theirs, stdout=theirs, stderr=theirs, env=environment
    )
    os.close(theirs)
    seen = b""

    def until(what, seconds=60):
        nonlocal seen
        end = time.monotonic() + seconds
        while what not in seen:
            assert time.monotonic() < end, seen[-2000:]
            if select.select([ours], [], [], 0.2)[0]:
                seen += os.read(ours, 65536)

    try:
        until("▀▀▀".encode())
        until(b"waits for a key")
        os.write(ours, b"2")
        until(b"frame 1")
        os.write(ours, b"s")
        until(b"saved pocketgenie-1.gif")
        os.write(ours, b"q")
        with suppress(OSError):  # the terminal's other end is gone
            while os.read(ours, 65536):
                pass
        assert child.wait(30) == 0
    finally:
        child.kill()
        os.close(ours)
    assert (tmp_path / "pocketgenie-1.gif").is_file()
