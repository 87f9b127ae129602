"""Long roll-outs: does a world that is played for 1,000 frames still move and still look like itself?

Each roll-out starts from a real picture and holds random actions for a few frames each. Two questions:

*Freeze.* `motion` is the mean absolute change of a pixel from one frame to the next, in windows of 100
frames, as a share of the same mean over real clips. A world whose picture stands still, fades into emptiness
or repeats one frame has next to none. One lively roll-out cannot hide a dead one: each has its own lowest
window. (Sets of clips of the embedded world that make 100 frames: 0.35 is the lowest of 20,000 draws.)

*Dissolve.* `frechet` is the Fréchet distance between two Gaussians (arXiv 1706.08500, eq. 6), one fitted to
the patches of real frames, one to those of the roll-outs' last 100 frames. Instead of a network trained on
photographs the features are patches of 8x8 pixels in the directions of the real patches' variance, each
scaled to unit variance, so that a faint detail counts as much as the brightness: at full resolution, where
blur and pixel noise show, and at half, where a patch spans several tokens and misplaced ones show. The larger
of the two counts, as a multiple of what as many other real clips have on average: 1 is real. On the embedded
world (8 clips): blur of one pixel 10, 2 % of the tokens swapped 4, 5 % 7, an empty picture 20.

Needs no torch and any session; noise and actions come from the seed.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pocketgenie.runtimes.player import Player
from pocketgenie.runtimes.results import LongFigures
from pocketgenie.runtimes.session import Session
from pocketgenie.runtimes.worker import Worker

Array = NDArray[Any]
WINDOW = 100
"""Frames of which one figure is made."""
HELD = (2, 9)
"""Frames for which a roll-out holds an action: at least, less than."""
PATCH = 8
DIRECTIONS = 48
"""Of a patch's 192 values; on the embedded world they hold 99.8 % of the variance."""
ROUNDING = 1.0
"""Variance of a grey level that counts for nothing: no direction is scaled up beyond it."""
DRAWS = 50


def long_play(
    worker: Worker, clips: Array, frames: int, rollouts: int, report: Callable[[str], None]
) -> LongFigures:
    """Play long roll-outs in a worker from held-out clips uint8 [N >= 4, T, H, W, 3]. Raises WorkerFailed."""
    picked = np.linspace(0, len(clips) - 1, rollouts).round().astype(int)
    rolls = []
    for number, clip in enumerate(picked):
        report(f"{worker.name}: {frames} frames, roll-out {number + 1} of {rollouts}")
        rolls.append(worker.call("long_roll", clips[clip, 0], frames, number))
    return judge(rolls, Yardstick(clips))


def held_actions(rng: np.random.Generator, actions: int, count: int) -> list[int]:
    """Random actions in [0, actions), each held for a few frames."""
    held: list[int] = []
    while len(held) < count:
        held += [int(rng.integers(actions))] * int(rng.integers(*HELD))
    return held[:count]


def motion(frames: Array) -> Array:
    """uint8 [T, H, W, 3] -> mean absolute change of a pixel between neighbours, grey levels, [T - 1]"""
    return np.array([np.abs(b.astype(np.int16) - a).mean() for a, b in pairwise(frames)])


@dataclass(frozen=True)
class LongRoll:
    """One roll-out, as much of it as is judged."""

    motion: Array
    """float [n]: of every frame against the one before"""
    first: Array
    """uint8 [WINDOW, H, W, 3]: its first frames"""
    last: Array
    """uint8 [WINDOW, H, W, 3]"""


def roll_out(session: Session, picture: Array, frames: int, seed: int) -> LongRoll:
    """Play `frames` frames from a picture uint8 [H, W, 3] with random held actions."""
    player = Player(session, seed=seed)
    before, moved = player.start(picture), []
    ends: dict[int, Array] = {}
    for number, action in enumerate(held_actions(np.random.default_rng(seed), session.spec.actions, frames)):
        frame = player.step(action)
        moved.append(float(motion(np.stack([before, frame]))[0]))
        if number < WINDOW or number >= frames - WINDOW:
            ends[number] = frame
        before = frame
    played = [ends[number] for number in sorted(ends)]
    return LongRoll(np.array(moved), np.stack(played[:WINDOW]), np.stack(played[-WINDOW:]))


class Yardstick:
    """Real clips uint8 [N, T, H, W, 3], N >= 4: half of them to measure with, the others for the scale."""

    def __init__(self, clips: Array, seed: int = 0) -> None:
        self.rng = np.random.default_rng(seed)
        order = self.rng.permutation(len(clips))
        self.others = clips[order[len(clips) // 2 :]]
        measure = clips[order[: len(clips) // 2]].reshape(-1, *clips.shape[2:])
        self.scales = [_Patches(measure, shrink) for shrink in (1, 2)]
        self.motion = float(np.mean([motion(clip).mean() for clip in clips]))

    def frechet(self, frames_THWC: Array, clips: int) -> float:
        """Distance of frames from so many roll-outs, as a multiple of what so many real clips have."""
        real = self._real(min(clips, len(self.others)))
        found = [scale.distance(frames_THWC) / own for scale, own in zip(self.scales, real, strict=True)]
        return max(found)

    def _real(self, count: int) -> list[float]:
        """Mean distance of `count` other real clips, per scale."""
        draws = [self.rng.choice(len(self.others), count, replace=False) for _ in range(DRAWS)]
        return [
            float(
                np.mean(
                    [scale.distance(self.others[draw].reshape(-1, *self.others.shape[2:])) for draw in draws]
                )
            )
            for scale in self.scales
        ]


class _Patches:
    """A Gaussian over the whitened patches of real frames uint8 [N, H, W, 3], shrunk by a whole factor."""

    def __init__(self, real_NHWC: Array, shrink: int) -> None:
        self.shrink = shrink
        patches = self._cut(real_NHWC)
        self.centre = patches.mean(0)
        variance, directions = np.linalg.eigh(np.cov((patches - self.centre).T))
        kept = slice(None, -DIRECTIONS - 1, -1)
        self.whiten = directions[:, kept] / np.sqrt(np.maximum(variance[kept], 0) + ROUNDING)
        self.mean, self.covariance = self._gaussian(patches)
        within, basis = np.linalg.eigh(self.covariance)
        self.root = (basis * np.sqrt(np.maximum(within, 0))) @ basis.T

    def distance(self, frames_NHWC: Array) -> float:
        """|m - m'|^2 + tr(C + C' - 2 (C C')^1/2); the root's trace from the eigenvalues of C^1/2 C' C^1/2"""
        mean, covariance = self._gaussian(self._cut(frames_NHWC))
        shared = np.sqrt(np.maximum(np.linalg.eigvalsh(self.root @ covariance @ self.root), 0)).sum()
        apart = np.square(mean - self.mean).sum()
        return float(apart + np.trace(self.covariance) + np.trace(covariance) - 2 * shared)

    def _cut(self, frames_NHWC: Array) -> Array:
        """-> float32 [N * rows * columns, 192]; pixels beyond the last whole patch are left out"""
        side = PATCH * self.shrink
        n, height, width, channels = frames_NHWC.shape
        rows, columns = height // side, width // side
        whole = frames_NHWC[:, : rows * side, : columns * side].astype(np.float32)
        cells = whole.reshape(n, rows, PATCH, self.shrink, columns, PATCH, self.shrink, channels).mean((3, 6))
        return np.asarray(cells.swapaxes(2, 3).reshape(-1, PATCH * PATCH * channels))

    def _gaussian(self, patches: Array) -> tuple[Array, Array]:
        seen = (patches - self.centre) @ self.whiten
        return seen.mean(0), np.cov(seen.T)


def judge(rolls: Sequence[LongRoll], yardstick: Yardstick) -> LongFigures:
    """The figures of several roll-outs of one length."""
    moved = np.array([roll.motion for roll in rolls]) / yardstick.motion
    width = min(WINDOW, moved.shape[1])
    whole = moved.shape[1] // width * width
    windows = moved[:, :whole].reshape(len(rolls), -1, width).mean(-1)
    return LongFigures(
        frames=moved.shape[1],
        rollouts=len(rolls),
        motion=tuple(round(float(value), 4) for value in windows.mean(0)),
        motion_lowest=tuple(round(float(value), 4) for value in windows.min(1)),
        frechet_first=yardstick.frechet(np.concatenate([roll.first for roll in rolls]), len(rolls)),
        frechet_last=yardstick.frechet(np.concatenate([roll.last for roll in rolls]), len(rolls)),
    )
