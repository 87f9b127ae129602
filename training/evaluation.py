"""How well a world plays held-out clips, on any session, so that `evaluate` and `check` agree.

All PSNRs are of the mean squared error pooled over clips, on uint8 pixels (peak 255): still frames count
for nothing, and no frame counts for infinitely much. Sampling is at temperature 0. (Delta-t PSNR: arXiv
2402.15391, section 3.)
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from pocketgenie.errors import UserError
from pocketgenie.genie.noise import draw_noise
from pocketgenie.genie.spec import WorldSpec

Array = NDArray[Any]
HORIZON = 4
"""t of the roll-out and of delta-t PSNR, as in the paper."""


class Playable(Protocol):
    """The part of a session (pocketgenie.runtimes.session) that an evaluation uses."""

    spec: WorldSpec

    def reset(self) -> None: ...
    def encode(self, frame: Array) -> Array: ...
    def decode(self, tokens: Array) -> Array: ...
    def observe(self, tokens: Array, action: int) -> None: ...
    def play(self, action: int, noise: Array) -> tuple[Array, Array]: ...
    def infer_action(self, frames: Array) -> tuple[int, Array]: ...


def squared_error(a: Array, b: Array) -> float:
    """Mean squared error of uint8 pictures, 0..65025."""
    return float(np.mean(np.square(a.astype(np.float32) - b)))


def psnr_db(mse: float) -> float:
    """dB of a mean squared error on uint8 pixels; 100 for equal pictures."""
    return 100.0 if mse < 65025e-10 else 10 * math.log10(65025 / mse)


def perplexity(ids: Array, size: int) -> float:
    """exp of the entropy of usage: 1 .. size"""
    share = np.bincount(ids.ravel(), minlength=size) / ids.size
    share = share[share > 0]
    return float(np.exp(-(share * np.log(share)).sum()))


def infer_actions(session: Playable, frames_THWC: Array) -> list[int]:
    """The action that leads to each frame; none where the past is too short to tell. Of a world without an
    action model action 0, wherever one has to be named."""
    length = session.spec.action_frames
    if not length:
        return [session.spec.no_action, *[0] * (len(frames_THWC) - 1)]
    named = [session.spec.no_action] * (length - 1)
    return named + [
        session.infer_action(frames_THWC[t - length : t])[0] for t in range(length, len(frames_THWC) + 1)
    ]


class Evaluation:
    """The figures of `evaluate`, clip by clip: `add` each, then ask for `figures`."""

    def __init__(self, session: Playable, *, seed: int = 0) -> None:
        self.session, self.spec = session, session.spec
        self.silence = draw_noise(session.spec, seed, 0, temperature_zero=True)
        self.rng = np.random.default_rng(seed)
        self.errors: dict[str, list[float]] = {}
        """Mean squared errors, one per clip; of `recon` one per frame."""
        self.actions: list[int] = []
        self.tokens: list[Array] = []
        self.consistent: list[bool] = []

    def add(self, clip: Array) -> None:
        """Play the last four frames of a clip uint8 [T >= 5, H, W, 3] from those before. Raises UserError."""
        session, spec = self.session, self.spec
        _fits(clip, spec)
        given = min(len(clip) - HORIZON, spec.memories["dynamics"].slots)
        clip = clip[-given - HORIZON :]
        session.reset()
        tokens = [session.encode(frame) for frame in clip]
        session.reset()
        for frame, frame_tokens in zip(clip, tokens, strict=True):
            self._error("recon", session.decode(frame_tokens), frame)
            if "decoder" in spec.memories:
                session.observe(frame_tokens, spec.no_action)
        led_by = infer_actions(session, clip)
        drawn = self._roll_out(tokens[:given], led_by[:given], led_by[given:])
        at_random = [int(action) for action in self.rng.integers(spec.actions, size=HORIZON)]
        free = self._roll_out(tokens[:given], led_by[:given], at_random)
        last = clip[given - 1]
        for name, picture, truth in (
            ("next_frame", drawn[0], clip[given]),
            ("copy_last", last, clip[given]),
            ("rollout", drawn[-1], clip[-1]),
            ("copy_start", last, clip[-1]),
            ("random", free[-1], clip[-1]),
        ):
            self._error(name, picture, truth)
        self.tokens += tokens
        if not spec.action_frames:
            return
        self.actions += [action for action in led_by if action != spec.no_action]
        seen = infer_actions(session, np.stack([last, *free]))[-HORIZON:]
        told = zip(seen, at_random, strict=True)
        self.consistent += [a == b for a, b in told if a != spec.no_action]

    def figures(self) -> dict[str, float]:
        """See `evaluate`."""
        figures = {f"{name}_psnr_db": psnr_db(float(np.mean(values))) for name, values in self.errors.items()}
        figures["codebook_perplexity"] = perplexity(np.stack(self.tokens), self.spec.codebook)
        if self.spec.action_frames:
            figures["delta_psnr_db"] = figures["rollout_psnr_db"] - figures["random_psnr_db"]
            figures["action_perplexity"] = perplexity(np.array(self.actions), self.spec.actions)
            figures["action_consistency"] = float(np.mean(self.consistent))
        return figures

    def _error(self, name: str, picture: Array, truth: Array) -> None:
        self.errors.setdefault(name, []).append(squared_error(picture, truth))

    def _roll_out(
        self, tokens: Sequence[Array], led_by: Sequence[int], actions: Sequence[int]
    ) -> list[Array]:
        self.session.reset()
        for frame_tokens, action in zip(tokens, led_by, strict=True):
            self.session.observe(frame_tokens, action)
        return [self.session.play(action, self.silence)[1] for action in actions]


def evaluate(
    session: Playable,
    clips: Array,
    *,
    seed: int = 0,
    progress: Callable[[int, int], None] = lambda done, all: None,
) -> dict[str, float]:
    """Play the last four frames of clips uint8 [N, T >= 5, H, W, 3] from those before. Raises UserError.

    Keys: recon_psnr_db; next_frame_psnr_db and copy_last_psnr_db (t = 1); rollout_psnr_db,
    copy_start_psnr_db and random_psnr_db (t = 4: inferred actions, repeating the last given frame, random
    actions); codebook_perplexity; with an action model also delta_psnr_db (inferred minus random),
    action_perplexity and action_consistency (how often it names a random action from the two frames it led
    between).
    """
    evaluation = Evaluation(session, seed=seed)
    for number, clip in enumerate(clips):
        progress(number, len(clips))
        evaluation.add(clip)
    progress(len(clips), len(clips))
    return evaluation.figures()


def _fits(clip: Array, spec: WorldSpec) -> None:
    if clip.shape[1:] != spec.frame_shape:
        raise UserError(
            f"the clips are {clip.shape[2]}x{clip.shape[1]}, this world is {spec.width}x{spec.height}"
        )
    if len(clip) <= HORIZON:
        raise UserError(f"the clips have {len(clip)} frames; an evaluation needs at least {HORIZON + 1}")
