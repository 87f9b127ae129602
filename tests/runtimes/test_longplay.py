"""The measures of long roll-outs, on videos whose fault is known: only the real one passes."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image, ImageFilter

from pocketgenie.runtimes.bars import LEAST_MOTION, MOST_FRECHET
from pocketgenie.runtimes.longplay import (
    HELD,
    WINDOW,
    LongRoll,
    Yardstick,
    held_actions,
    judge,
    motion,
    roll_out,
)
from pocketgenie.runtimes.table import load_session

CLIPS = np.load(Path(__file__).parents[2] / "assets/coinrun/clips.npz")["frames"]
ROLLS, CUTS = 4, 13  # clips of 16 frames that make a video of two windows


@pytest.fixture(scope="module")
def yardstick():
    return Yardstick(CLIPS[:64])


@pytest.fixture(scope="module")
def real():
    """uint8 [R, T, H, W, 3] from clips that the yardstick has not seen"""
    return CLIPS[64 : 64 + ROLLS * CUTS].reshape(ROLLS, -1, *CLIPS.shape[2:])


def rolls(videos):
    return [LongRoll(motion(video), video[:WINDOW], video[-WINDOW:]) for video in videos]


def found(videos, yardstick):
    figures = judge(rolls(videos), yardstick)
    faults = set()
    if min(figures.motion_lowest) < LEAST_MOTION:
        faults.add("freezes")
    if figures.frechet_last > MOST_FRECHET:
        faults.add("dissolves")
    return faults


def frozen(videos):
    still = videos.copy()
    still[1, WINDOW:] = still[1, WINDOW]  # one of four, after a lively beginning
    return still


def emptied(videos):
    """What is left of a world that forgets its level: the player in the void."""
    empty = np.zeros_like(videos)
    empty[..., 26:38, 26:38, :] = videos[..., 26:38, 26:38, :]
    return empty


def blurring(videos):
    blurred = videos.copy()
    for number in range(videos.shape[1]):
        radius = 1.5 * number / videos.shape[1]
        for video in blurred:
            picture = Image.fromarray(video[number]).filter(ImageFilter.GaussianBlur(radius))
            video[number] = np.asarray(picture)
    return blurred


def token_noise(videos):
    """Every twentieth token another one that real frames have, by the embedded world's own tokenizer."""
    import torch

    from pocketgenie.genie.checkpoint import load_genie

    tokenizer = load_genie(Path(__file__).parents[2] / "assets/coinrun").tokenizer
    rng, noisy = np.random.default_rng(0), videos.copy()
    with torch.inference_mode():
        for video in noisy:
            last = torch.from_numpy(video[-WINDOW:])[:, None]
            tokens = tokenizer.encode(last)[:, 0].numpy()
            hit = rng.random(tokens.shape) < 0.05
            tokens[hit] = rng.choice(tokens.ravel(), hit.sum())
            video[-WINDOW:] = tokenizer.decode(torch.from_numpy(tokens)[:, None])[:, 0].numpy()
    return noisy


@pytest.mark.parametrize(
    ("spoil", "faults"),
    [
        (lambda videos: videos, set()),
        (frozen, {"freezes"}),
        (emptied, {"freezes", "dissolves"}),
        (blurring, {"dissolves"}),
        (token_noise, {"dissolves"}),
        (lambda videos: np.random.default_rng(0).permuted(videos, axis=-2), {"dissolves"}),
    ],
    ids=["real", "frozen", "emptied", "blurring", "token noise", "pixel noise"],
)
def test_only_real_video_passes(spoil, faults, real, yardstick):
    assert found(spoil(real), yardstick) == faults


def test_the_distance_of_a_set_to_itself_is_none(yardstick):
    scale = yardstick.scales[0]
    other = CLIPS[:8].reshape(-1, *CLIPS.shape[2:])
    from pocketgenie.runtimes.longplay import _Patches

    assert _Patches(other, 1).distance(other) == pytest.approx(0, abs=1e-3)
    assert scale.distance(other) > 0.1


def test_a_roll_out_is_the_players_and_repeats(tiny_bundle, tiny_checkpoint):
    session = load_session(tiny_bundle, "ort-cpu")
    clips = np.load(tiny_checkpoint / "clips.npz")["frames"]
    one, again = (roll_out(session, clips[0, 0], 130, seed=3) for _ in range(2))
    assert np.array_equal(one.motion, again.motion) and len(one.motion) == 130
    assert one.first.shape == one.last.shape == (WINDOW, 16, 16, 3)
    assert np.array_equal(one.first[30:], one.last[:70])
    assert one.motion[31:100] == pytest.approx(motion(one.first[30:]))
    figures = judge([one, again], Yardstick(clips))
    assert len(figures.motion) == 1 and len(figures.motion_lowest) == 2 and figures.frechet_last > 0


def test_actions_are_held():
    held = held_actions(np.random.default_rng(0), 5, 500)
    assert len(held) == 500 and set(held) == set(range(5))
    changes = np.flatnonzero(np.diff(held))
    assert np.diff(changes).min() >= HELD[0]
