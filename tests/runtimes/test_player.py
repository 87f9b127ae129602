"""The player, on a real bundle: the frames of a hand-written loop, in every runtime, and in the terminal."""

import asyncio
import shutil
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from pocketgenie.errors import UserError
from pocketgenie.export.bundle import load_bundle
from pocketgenie.genie.noise import draw_noise
from pocketgenie.runtimes.blocks import fit, half_blocks
from pocketgenie.runtimes.player import Player, open_player, parse_actions, play_gif
from pocketgenie.runtimes.table import load_session
from pocketgenie.runtimes.terminal import COMMANDS, Picture, Terminal, key_map

ACTIONS = [0, 0, 4, 3, 3, 1, 2, 0]


@pytest.fixture(scope="module")
def session(tiny_bundle):
    session = load_session(tiny_bundle, "ort-cpu")
    yield session
    session.close()


@pytest.fixture(scope="module")
def image(tiny_bundle):
    with np.load(tiny_bundle / "clips.npz") as clips:
        return clips["frames"][0, 0]


def played(player, image):
    return [player.start(image), *map(player.step, ACTIONS)]


def test_it_plays_as_a_hand_written_loop_does(session, image):
    session.reset()
    tokens = session.encode(image)
    expected = [session.decode(tokens)]
    session.observe(tokens, session.spec.no_action)
    for frame, action in enumerate(ACTIONS):
        tokens, pixels = session.play(action, draw_noise(session.spec, 3, frame))
        expected.append(pixels)
    player = Player(session, seed=3)
    frames = played(player, image)
    assert np.array_equal(frames, expected)
    assert np.array_equal(player.tokens, tokens)
    assert player.played == len(player.timings) == len(ACTIONS)
    assert min(player.timings) > 0


@pytest.mark.parametrize("runtime", ["reference", "ort-cpu"])
def test_a_bundle_plays_the_same_in_another_runtime(tiny_bundle, session, image, runtime):
    with Player(tiny_bundle, runtime, seed=1) as player:
        frames = played(player, image)
        tokens = player.tokens
    other = Player(session, seed=1)
    assert np.abs(np.subtract(frames, played(other, image), dtype=int)).max() <= 1
    assert np.array_equal(other.tokens, tokens)


def test_the_seed_and_the_start_decide_everything(session, image):
    first = played(Player(session, seed=1), image)
    player = Player(session, seed=1)
    player.start(image[::-1].copy())
    player.step(2)  # leaves nothing behind
    assert np.array_equal(played(player, image), first)
    assert not np.array_equal(played(Player(session, seed=2), image), first)
    cold = [played(Player(session, seed=seed, temperature_zero=True), image) for seed in (1, 2)]
    assert np.array_equal(*cold)


@pytest.mark.parametrize("action", [-1, 5, 99])
def test_an_action_out_of_range_names_the_range(session, image, action):
    player = Player(session)
    player.start(image)
    with pytest.raises(UserError, match=rf"action {action} is out of range: this world's actions are 0 to 4"):
        player.step(action)
    assert player.played == 0


def test_a_start_that_is_no_frame_of_this_world(session, image):
    player = Player(session)
    with pytest.raises(UserError, match="start"):
        player.step(0)
    for wrong in (image[:8], image.astype(np.float32), image[..., 0]):
        with pytest.raises(UserError, match="this world's frames are uint8"):
            player.start(wrong)


def test_actions_as_a_person_writes_them(session):
    assert parse_actions("1,1,4x3,2", session.spec) == [0, 0, 3, 3, 3, 1]
    assert parse_actions(" 5 , 1x2", session.spec) == [4, 0, 0]
    for wrong in ("", "1,,2", "a", "1x", "x3", "-1", "1.5", "٣", "1x2x3"):
        with pytest.raises(UserError, match="is no action"):
            parse_actions(wrong, session.spec)
    for wrong in ("0", "6", "1,99"):
        with pytest.raises(UserError, match="actions are 1 to 5"):
            parse_actions(wrong, session.spec)
    with pytest.raises(UserError, match="more than"):
        parse_actions("1x99999999", session.spec)


def test_a_bundle_opens_with_its_gallery_after_the_users_picture(tiny_bundle, tmp_path):
    Image.new("RGB", (100, 50), "teal").save(tmp_path / "mine.png")
    opened = open_player(tiny_bundle, tmp_path / "mine.png", "ort-cpu", 0, False, False)
    player, starts = opened.player, opened.pictures
    with player:
        gallery = load_bundle(tiny_bundle).manifest.gallery
        assert [start.name for start in starts] == ["mine.png", *(Path(name).name for name in gallery)]
        assert starts[0].done == "cropped 100x50 to 50x50, scaled to 16x16"
        told = play_gif(player, starts[0].frame, "1,2x3", tmp_path / "a.gif", scale=2)
    assert told.startswith("5 frames, drawn at ")
    with Image.open(tmp_path / "a.gif") as gif:
        assert gif.size == (32, 32)


def colours(style):
    return (*style.color.triplet, *style.bgcolor.triplet)


def test_half_blocks_carry_every_pixel():
    frame = np.random.default_rng(0).integers(0, 256, (6, 7, 3), np.uint8)
    cells = [[colours(cell.style) for cell in strip for _ in cell.text] for strip in half_blocks(frame)]
    rebuilt = np.array(cells, np.uint8).reshape(3, 7, 2, 3).transpose(0, 2, 1, 3).reshape(6, 7, 3)
    assert np.array_equal(rebuilt, frame & 252)


@pytest.mark.parametrize(
    ("columns", "rows", "shape"),
    [(80, 24, (48, 48)), (200, 70, (128, 128)), (64, 32, (64, 64)), (3, 1, (2, 2)), (1, 1, (2, 1))],
)
def test_a_frame_fits_the_terminal(columns, rows, shape):
    frame = np.full((64, 64, 3), 90, np.uint8)
    fitted = fit(frame, columns, rows)
    assert fitted.shape == (*shape, 3)
    assert fitted.shape[0] % 2 == 0


def test_keys(session):
    keys = key_map(session.spec)
    assert keys == {"1": 0, "2": 1, "3": 2, "4": 3, "5": 4, "left": 0, "right": 1, "up": 2, "down": 3}
    assert key_map(session.spec.model_copy(update={"actions": 1})) == {"1": 0, "left": 0}
    many = key_map(session.spec.model_copy(update={"actions": 40}))
    assert (many["9"], many["0"], many["b"], many["z"], len(many)) == (8, 9, 10, 29, 34)
    assert not COMMANDS.keys() & many
    assert key_map(session.spec, "right=5, w=2")["right"] == 4
    assert key_map(session.spec, "right=5, w=2")["w"] == 1
    for wrong in ("right", "right=0", "right=6", "=2", "right=x"):
        with pytest.raises(UserError, match="write key=action"):
            key_map(session.spec, wrong)
    with pytest.raises(UserError, match="q is for 'quit'"):
        key_map(session.spec, "q=1")


def live(session, image, folder, play, size=(80, 24)):
    """Run `play(app, pilot, until)` against the app on a headless terminal; until(condition) waits for it."""

    async def run():
        app = Terminal(Player(session), [image, image[::-1].copy()], key_map(session.spec), folder)
        async with app.run_test(size=size) as pilot:

            async def until(condition):
                for _ in range(500):
                    if condition():
                        return
                    await pilot.pause(0.01)
                raise AssertionError("it never happened")

            await until(lambda: app.frames)
            await play(app, pilot, until)

    asyncio.run(run())


def test_the_terminal_waits_for_keys_and_draws_what_they_do(session, image, tmp_path):
    async def play(app, pilot, until):
        await pilot.pause(0.3)
        assert app.number == 0  # the world waits
        await pilot.press("3")
        await until(lambda: app.number == 1)
        await pilot.press("right")
        await until(lambda: app.number == 2)
        assert app.last == 1
        reference = Player(session)
        expected = [reference.start(image), reference.step(2), reference.step(1)]
        assert np.array_equal(list(app.frames), expected)
        drawn = app.query_one(Picture)
        shown = list(half_blocks(fit(expected[-1], *drawn.size)))
        assert [strip.text.strip() for strip in drawn.strips] == [strip.text for strip in shown]
        assert [list(strip)[1:-1] for strip in drawn.strips] == [list(strip) for strip in shown]

    live(session, image, tmp_path, play)


def test_the_terminal_repeats_pauses_and_steps(session, image, tmp_path):
    async def play(app, pilot, until):
        await pilot.press("a", "2")
        await until(lambda: app.number >= 3)  # goes on by itself
        assert app.last == 1
        await pilot.press("space")
        await pilot.pause(0.3)
        stopped = app.number
        await pilot.press("4")
        await pilot.pause(0.3)
        assert app.number == stopped  # chosen, not played
        await pilot.press(".")
        await until(lambda: app.number == stopped + 1)
        assert app.last == 3
        await pilot.press("u", "space")  # without a limit it is far faster than 10 frames a second
        await until(lambda: app.number > stopped + 30)

    live(session, image, tmp_path, play)


def test_the_terminal_starts_again_elsewhere_saves_and_quits(session, image, tmp_path):
    async def play(app, pilot, until):
        await pilot.press("1")
        await until(lambda: app.number == 1)
        await pilot.press("g")
        await until(lambda: len(app.frames) == 1)
        assert np.array_equal(app.frames[0], Player(session).start(image[::-1].copy()))
        await pilot.press("2")
        await until(lambda: app.number == 1)
        for number in (1, 2):
            await pilot.press("s")
            await until(lambda number=number: app.said == f"saved pocketgenie-{number}.gif")
        await pilot.press("r")
        await until(lambda: len(app.frames) == 1)
        assert app.start == 1
        await pilot.press("q")
        await until(lambda: not app.is_running)

    live(session, image, tmp_path, play)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["pocketgenie-1.gif", "pocketgenie-2.gif"]


@pytest.mark.parametrize(
    ("size", "below"), [((80, 24), False), ((120, 40), False), ((50, 40), True), ((8, 3), True)]
)
def test_the_panel_stands_where_the_picture_is_larger(session, image, tmp_path, size, below):
    async def play(app, pilot, until):
        await pilot.pause(0.1)
        assert app.screen.has_class("below") == below

    live(session, image, tmp_path, play, size)


def test_a_full_disk_is_told_in_the_panel(session, image, tmp_path):
    shutil.rmtree(tmp_path)

    async def play(app, pilot, until):
        await pilot.press("s")
        await until(lambda: app.said == "not saved: No such file or directory")

    live(session, image, tmp_path, play)
