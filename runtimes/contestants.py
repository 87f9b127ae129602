"""What the worker processes hold: a runtime's session, or the reference as the paper plays it."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pocketgenie.export.bundle import load_bundle
from pocketgenie.genie.noise import draw_noise
from pocketgenie.genie.spec import WorldSpec
from pocketgenie.runtimes import artefact, longplay, ties
from pocketgenie.runtimes.machine import cores, peak_memory_mb
from pocketgenie.runtimes.player import Player
from pocketgenie.runtimes.remote import Remote, Shortened
from pocketgenie.runtimes.results import ArtefactFigures
from pocketgenie.runtimes.session import Session
from pocketgenie.runtimes.table import RUNTIMES, load_session
from pocketgenie.training.evaluation import Evaluation, evaluate, infer_actions

Array = NDArray[Any]
History = tuple[Array, list[int]]
"""tokens int32 [T, S] and the action that led to each frame: what a session observes before it is asked."""

TEACHER = "teacher"
"""Beside the runtimes of the table: the teacher inside the bundle, with the paper's sampling."""
STAGE_FRAMES = 50

WARM_UP = 8  # frames that begin a turn: the first six or so after another runtime's turn are slower


def play_turn(step: Callable[[int], Any], actions: int, frames: int, seconds: float) -> list[float]:
    """Play up to `frames` frames, fewer once `seconds` are over -> milliseconds of each."""
    timed: list[float] = []
    while len(timed) < frames and sum(timed) < seconds * 1000:
        action = len(timed) % actions
        began = time.perf_counter()
        step(action)
        timed.append((time.perf_counter() - began) * 1000)
    return timed


class Contestant:
    """One runtime of the table, or TEACHER.

    picture: uint8 [H, W, 3]; started: time.time() when the process was begun.
    """

    def __init__(self, folder: Path, runtime: str, picture: Array, started: float) -> None:
        self.folder, self.runtime = folder, runtime
        self.session = _open(folder, runtime)
        self.evaluation: Evaluation | None = None
        self.spec = self.session.spec
        if torch := sys.modules.get("torch"):
            torch.set_num_threads(cores())
        self.player = Player(self.session)
        self.player.start(picture)
        self.player.step(0)
        self.first_frame_ms = (time.time() - started) * 1000

    def world_spec(self) -> WorldSpec:
        """What it plays."""
        return self.spec

    def first_frame(self) -> float:
        """ms from the start of the process to the first drawn frame"""
        return self.first_frame_ms

    def turn(self, frames: int, seconds: float) -> list[float]:
        """A turn of the contest -> ms of each frame. The play goes on where the last turn ended."""
        if isinstance(self.session, Remote):
            return self.session.turn(frames, seconds, WARM_UP)
        play_turn(self.player.step, self.spec.actions, WARM_UP, seconds)
        return play_turn(self.player.step, self.spec.actions, frames, seconds)

    def memory_mb(self) -> float:
        """Peak resident memory so far, of the program that plays."""
        return self.session.memory_mb() if isinstance(self.session, Remote) else peak_memory_mb()

    def shortened(self) -> Shortened | None:
        """How much of parity it is fast enough for; None for all."""
        return self.session.shortened() if isinstance(self.session, Remote) else None

    def inspect(self) -> ArtefactFigures:
        """L0. The artefact of a runtime without graphs is the checkpoint, checked when loaded."""
        if RUNTIMES[self.runtime].plays == "checkpoint":
            return ArtefactFigures(problems=(), operators={})
        return artefact.inspect(load_bundle(self.folder, only=()))

    def read(self, frames_THWC: Array) -> History:
        """Real frames as this runtime's tokens and latent actions."""
        self.session.reset()
        tokens = [self.session.encode(frame) for frame in frames_THWC]
        return np.stack(tokens), infer_actions(self.session, frames_THWC)[: len(tokens)]

    def logits(self, history: History, masked_MS: Array, action: int) -> Array:
        """One refinement pass after a history, for several maskings -> float32 [M, S, V]"""
        self._observe(history)
        return np.stack([self.session.logits(masked, action) for masked in masked_MS])

    def play(self, history: History, actions: list[int], seed: int) -> tuple[Array, Array]:
        """Go on from a history -> tokens int32 [n, S], frames uint8 [n, H, W, 3]"""
        self._observe(history)
        noise = [draw_noise(self.spec, seed, number) for number in range(len(actions))]
        drawn = [self.session.play(*given) for given in zip(actions, noise, strict=True)]
        return np.stack([tokens for tokens, _ in drawn]), np.stack([frame for _, frame in drawn])

    def margin(self, history: History, action: int, seed: int, number: int, played_S: Array) -> float:
        """ties.margin of another runtime's tokens for the frame after `history`."""
        self._observe(history)
        noise = draw_noise(self.spec, seed, number)

        def logits(tokens: Array) -> Array:
            return self.session.logits(tokens, action)

        if self.spec.order == "own":
            from pocketgenie.runtimes.reference import own_draw, reference_world

            draw = own_draw(reference_world(load_bundle(self.folder, only=())))
            return ties.own_margin(draw, logits, noise, played_S)
        return ties.margin(self.spec, logits, noise, played_S)

    def evaluate(self, clips: Array, seed: int) -> dict[str, float]:
        """L4: clips uint8 [N, T, H, W, 3]"""
        return evaluate(self.session, clips, seed=seed)

    def evaluate_clip(self, clip: Array, seed: int, begin: bool) -> None:
        """L4 against the teacher, a clip at a time: the teacher takes seconds for one."""
        if begin or self.evaluation is None:
            self.evaluation = Evaluation(self.session, seed=seed)
        self.evaluation.add(clip)

    def evaluated(self) -> tuple[dict[str, float], dict[str, list[float]]]:
        """The figures, and the squared errors of each clip that they are made of."""
        assert self.evaluation is not None
        return self.evaluation.figures(), self.evaluation.errors

    def long_roll(self, picture: Array, frames: int, seed: int) -> longplay.LongRoll:
        """A long roll-out with random held actions."""
        return longplay.roll_out(self.session, picture, frames, seed)

    def show(self, picture: Array, actions: list[int], seed: int) -> tuple[Array, Array]:
        """For the report: frames uint8 [1 + n, H, W, 3], tokens int32 [1 + n, S], the picture's own first."""
        player = Player(self.session, seed=seed)
        frames = [player.start(picture)]
        tokens = [player.tokens]
        for action in actions:
            frames.append(player.step(action))
            tokens.append(player.tokens)
        return np.array(frames), np.array(tokens)

    def each_action(self, picture: Array, frames: int) -> Array:
        """For the report: every action held from the same picture, uint8 [A, 1 + frames, H, W, 3]"""
        held = [self.show(picture, [action] * frames, seed=0)[0] for action in range(self.spec.actions)]
        return np.stack(held)

    def stages(self) -> dict[str, float]:
        """Where the time of a frame goes: milliseconds, medians."""
        if isinstance(self.session, Remote):
            return self.session.stages(STAGE_FRAMES)
        tokens = np.zeros(self.spec.tokens, np.int32)
        noise = play_turn(lambda _: draw_noise(self.spec, 0, 0), self.spec.actions, STAGE_FRAMES, 1)
        decode = play_turn(lambda _: self.session.decode(tokens), self.spec.actions, STAGE_FRAMES, 1)
        whole = play_turn(self.player.step, self.spec.actions, STAGE_FRAMES, 1)
        drawn, decoded, all_in_all = (float(np.median(times)) for times in (noise, decode, whole))
        refined = max(0.0, all_in_all - drawn - decoded)
        return {"noise": drawn, f"refinement, {self.spec.steps} steps": refined, "decoder": decoded}

    def _observe(self, history: History) -> None:
        self.session.reset()
        for tokens, action in zip(*history, strict=True):
            self.session.observe(tokens, action)


def _open(folder: Path, runtime: str) -> Session:
    if runtime == TEACHER:
        from pocketgenie.runtimes.reference import load_teacher

        return load_teacher(load_bundle(folder))
    return load_session(folder, runtime)


class PaperWay:
    """The teacher, or else the reference, played without a memory (reference.full_window)."""

    def __init__(self, folder: Path, picture: Array) -> None:
        import torch

        from pocketgenie.runtimes.reference import full_window

        torch.set_num_threads(cores())
        self.played = full_window(load_bundle(folder))
        self.played.start(picture)
        window = self.played.window
        self.full = window.past * window.slots  # the start, repeated
        self.step(0)

    def step(self, action: int) -> Array:
        """A frame after a full window, as all are in the long run."""
        self.played.window.past = list(self.full)
        return self.played.step(action)

    def turn(self, frames: int, seconds: float) -> list[float]:
        """ms of each frame"""
        return play_turn(self.step, self.played.spec.actions, frames, seconds)
