"""GenieRedux's own samplers: several new frames at once, every step a pass over the whole window.

Two releases differ. In the CoinRun one a place is final once it is not masked again; in the main one every
step draws every new place again, so that its last step, which is greedy, decides all of them.

Drawn one at a time, a new frame is no input of the pass that draws it: all steps see the same logits. The
main sampler is then greedy whatever its steps and temperature, and so is the CoinRun one, which its
configuration builds with one step. So an imported world plays each frame by the greedy draw of one pass.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from typing import Literal

import torch
from torch import Tensor

from pocketgenie.genie.sampler import rank

Release = Literal["coinrun", "main"]
Logits = Callable[[Tensor], Tensor]
"""Tokens [N] of all new places, V where masked -> logits [N, V]"""
LEAST = 1e-10


def generate(
    logits_of: Logits, places: int, mask: int, uniforms_KNV: Tensor, temperature: float, release: Release
) -> Iterator[tuple[Tensor, Tensor]]:
    """K steps over N new places -> after each, tokens int64 [N] and scores [N]; the last tokens are it.

    uniforms [K, N, V] in [0, 1): the noise. A place's score is how unlikely its draw was, -10000 where it
    was not masked.
    """
    steps = len(uniforms_KNV)
    tokens, scores = torch.full((places,), mask), torch.zeros(places)
    masked = torch.ones(places, dtype=torch.bool)
    for step, uniform in enumerate(uniforms_KNV):
        if step:
            masked = rank(scores) < masked_count(places, step, steps)
        tokens = torch.where(masked, mask, tokens)
        logits = logits_of(tokens)
        gumbel = -torch.log(-torch.log(uniform + LEAST) + LEAST)
        heat = max(temperature * (steps - 1 - step) / steps, LEAST)
        drawn = (logits + heat * gumbel).argmax(-1)
        tokens = drawn if release == "main" else torch.where(masked, drawn, tokens)
        likely = logits.softmax(-1).gather(-1, drawn[:, None])[:, 0]
        scores = torch.where(masked, 1 - likely, -1e4)
        yield tokens, scores


def masked_count(places: int, step: int, steps: int) -> int:
    """How many places are masked at a step after the first: a cosine schedule, in float32."""
    share = torch.cos(torch.tensor(math.pi / 2 * (step + 1) / steps)).clamp(1e-6, 1)
    return int((share * places).floor())
