"""Near-ties: whether a rounding error can explain that a runtime drew other tokens than the reference.

A frame is drawn again, in numpy, from the reference's own logits (the rules of genie/sampler.py). Where
two choices lay nearly level, the other one is taken and the frame finished: if that gives the runtime's
tokens, all of them, the difference is proven to be this near-tie. The gap between the two choices is its
margin.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pocketgenie.genie.noise import gumbel_table, halton_order, read_noise, unmask_counts
from pocketgenie.genie.spec import WorldSpec

Array = NDArray[Any]
Logits = Callable[[Array], Array]
"""tokens int32 [S] with V where masked -> logits float32 [S, V]"""

NEAR = 3e-2
"""Choices closer than this are tried the other way; what counts as a near-tie is runtimes/bounds.py's."""
TRIES = 32  # the closest ones; each costs a frame
OwnDraw = Callable[[Logits, Array], Array]
"""A world's own sampler: logits and noise int32 [N, S] -> tokens [S]"""
FAULT = 1.0
"""The margin where no near-tie explains the tokens of a world's own sampler."""


@dataclass(frozen=True, order=True)
class Choice:
    """One that could have gone the other way. In logits plus noise (a token) or in confidence (a place)."""

    gap: float
    step: int
    position: int
    instead: int
    """The token second to the one drawn; or, for a place, the position to keep instead."""
    of_place: bool


@dataclass(frozen=True)
class Drawn:
    tokens: Array
    """int32 [S]"""
    scores: Array
    """float32 [S, V], logits plus noise of the step that fixed each token."""
    close: list[Choice]


def draw(spec: WorldSpec, logits_of: Logits, noise_NS: Array, turned: Choice | None = None) -> Drawn:
    """One frame, step by step; with `turned`, that choice is made the other way."""
    table = gumbel_table(spec.codebook) * np.float32(spec.temperature)
    order, counts = halton_order(*spec.grid), unmask_counts(spec.tokens, spec.steps)
    tokens = np.full(spec.tokens, spec.codebook, np.int32)
    scores = np.zeros((spec.tokens, spec.codebook), np.float32)
    close: list[Choice] = []
    for step, count in enumerate(counts):
        logits = logits_of(tokens)
        noise = read_noise(table, noise_NS[step], spec.codebook)
        noisy = logits + noise[:, :-1]
        masked = tokens == spec.codebook
        rows = np.flatnonzero(masked) if spec.order == "confidence" else order[:count][masked[order[:count]]]
        drawn, close_here = _tokens(noisy, rows, step, turned)
        close += close_here
        if spec.order == "confidence":
            confidence = _log_softmax(logits)[np.arange(spec.tokens), drawn]
            confidence = confidence + noise[:, -1] * (1 - (step + 1) / spec.steps)
            rows, close_here = _kept(confidence, rows, count - int((~masked).sum()), step, turned)
            close += close_here
        tokens[rows], scores[rows] = drawn[rows], noisy[rows]
    return Drawn(tokens, scores, sorted(close))


def _tokens(noisy: Array, rows: Array, step: int, turned: Choice | None) -> tuple[Array, list[Choice]]:
    """The highest of each row, and which of `rows` were close."""
    drawn = noisy.argmax(-1)
    others = noisy.copy()
    np.put_along_axis(others, drawn[:, None], -np.inf, -1)
    second = others.argmax(-1)
    gaps = noisy.max(-1) - others.max(-1)
    close = [Choice(float(gaps[r]), step, int(r), int(second[r]), False) for r in rows if gaps[r] < NEAR]
    if turned and turned.step == step and not turned.of_place:
        drawn[turned.position] = turned.instead
    return drawn, close


def _kept(
    confidence: Array, masked: Array, count: int, step: int, turned: Choice | None
) -> tuple[Array, list[Choice]]:
    """The `count` most confident of the masked positions (ties: the lowest); whether the last was close."""
    ranked = masked[np.argsort(-confidence[masked], kind="stable")]
    kept, left = list(ranked[:count]), ranked[count:]
    if not len(left):
        return np.array(kept), []
    gap = float(confidence[kept[-1]] - confidence[left[0]])
    close = [Choice(gap, step, int(kept[-1]), int(left[0]), True)] if gap < NEAR else []
    if turned and turned.step == step and turned.of_place:
        kept[kept.index(turned.position)] = turned.instead
    return np.array(kept), close


def margin(spec: WorldSpec, logits_of: Logits, noise_NS: Array, played_S: Array) -> float:
    """How far apart the reference's choice and the runtime's lay, given the tokens that the runtime played.

    The gap of the near-tie that explains all of them; where none does, the largest distance of a played token
    from the reference's own: a fault.
    """
    own = draw(spec, logits_of, noise_NS)
    if np.array_equal(own.tokens, played_S):  # the reference itself turned between its two ways of computing
        return own.close[0].gap if own.close else 0.0
    for choice in own.close[:TRIES]:
        if np.array_equal(draw(spec, logits_of, noise_NS, choice).tokens, played_S):
            return choice.gap
    rows = np.flatnonzero(own.tokens != played_S)
    return float((own.scores[rows, own.tokens[rows]] - own.scores[rows, played_S[rows]]).max())


def own_margin(draw: OwnDraw, logits_of: Logits, noise_NS: Array, played_S: Array) -> float:
    """As `margin`, for a sampler whose rules only its world knows: is there a small disturbance of the
    reference's logits from which it draws the runtime's tokens, all of them?

    The largest difference that the least such disturbance makes between two logits; FAULT without one.
    """
    rng = np.random.default_rng(0)

    def disturbed(tokens: Array, most: float) -> Array:
        logits = logits_of(tokens)
        return logits + rng.uniform(-most / 2, most / 2, logits.shape).astype(np.float32)

    for gap in (0.0, *np.geomspace(NEAR / 1000, NEAR, 7)):
        for _ in range(TRIES // 2 if gap else 1):
            if np.array_equal(draw(partial(disturbed, most=gap), noise_NS), played_S):
                return float(gap)
    return FAULT


def _log_softmax(logits: Array) -> Array:
    shifted = logits - logits.max(-1, keepdims=True)
    return np.asarray(shifted - np.log(np.exp(shifted).sum(-1, keepdims=True)))
