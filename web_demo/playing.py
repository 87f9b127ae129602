"""What an engine's process holds: a player, and for the panels the actions of a video and whole roll-outs."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from time import perf_counter
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from pocketgenie.genie.spec import WorldSpec
from pocketgenie.runtimes.machine import cores
from pocketgenie.runtimes.pictures import Frame
from pocketgenie.runtimes.player import Player


class Drawn(NamedTuple):
    """A frame and what it took."""

    frame: Frame
    ms: float
    """Of the engine itself, without any handing over."""


class Film(NamedTuple):
    """A roll-out, the start first."""

    frames: NDArray[np.uint8]
    """[1 + n, H, W, 3]"""
    tokens: NDArray[np.int32]
    """[1 + n, S]"""
    ms: list[float]
    """Of each drawn frame."""


class Playing:
    """One bundle in one runtime, for `runtimes.worker.Worker`. The bundle is verified before it is opened."""

    def __init__(self, folder: Path, runtime: str, spare: int = 0) -> None:
        """spare: cores that this process leaves to the server and the browser, unless OMP_NUM_THREADS says
        how many threads play. On two cores 118 frames a second came in place of 82."""
        if spare:
            os.environ.setdefault("OMP_NUM_THREADS", str(max(1, cores() - spare)))
        self.player = Player(folder, runtime)
        if torch := sys.modules.get("torch"):
            torch.set_num_threads(cores())
        self.start(np.full(self.player.spec.frame_shape, 127, np.uint8), 0, False)
        self.step(0)  # what compiles or loads at its first use does so here

    def spec(self) -> WorldSpec:
        """What is played."""
        return self.player.spec

    def start(self, picture: Frame, seed: int, temperature_zero: bool) -> Drawn:
        """Begin at a picture uint8 [H, W, 3]."""
        self.player.seed, self.player.temperature_zero = seed, temperature_zero
        began = perf_counter()
        frame = self.player.start(picture)
        return Drawn(frame, (perf_counter() - began) * 1000)

    def step(self, action: int) -> Drawn:
        """The next frame."""
        frame = self.player.step(action)
        return Drawn(frame, self.player.timings[-1] * 1000)

    def film(self, picture: Frame, actions: list[int], seed: int, temperature_zero: bool = False) -> Film:
        """A whole roll-out."""
        frames, tokens = [self.start(picture, seed, temperature_zero).frame], [self.player.tokens]
        for action in actions:
            frames.append(self.player.step(action))
            tokens.append(self.player.tokens)
        times = [seconds * 1000 for seconds in self.player.timings]
        return Film(np.stack(frames), np.stack(tokens), times)

    def infer(self, frames: NDArray[np.uint8]) -> tuple[list[int], list[float]]:
        """A video uint8 [T, H, W, 3] -> the latent action that leads to each frame that has a past, and how
        clear it is: 0 where the second nearest code is as near, towards 1 where that is far off."""
        length = self.player.spec.action_frames
        actions: list[int] = []
        clear: list[float] = []
        for end in range(length, len(frames) + 1):
            action, distances = self.player.session.infer_action(frames[end - length : end])
            actions.append(action)
            near = np.sort(np.asarray(distances, np.float64))
            clear.append(float(1 - near[0] / near[1]) if len(near) > 1 and near[1] > 0 else 0.0)
        return actions, clear
