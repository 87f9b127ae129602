"""How 1xGPT draws a frame: MaskGIT over tokens of several digits, as a pure function of logits and noise.

Each step draws every open place anew, digit by digit; then so many places as a cosine of the step says are
masked again: those with the lowest score. The score is a random number (order `random`) or the product of the
probabilities of the values drawn (`greedy`). A temperature above 0 is only a switch there: probabilities are
divided by it and normalised again, which leaves them as they are.
"""

from __future__ import annotations

import math
from collections.abc import Callable

import torch
from torch import Tensor

from pocketgenie.genie.sampler import Hidden, Sampler, rank
from pocketgenie.genie.spec import WorldSpec

KEPT = 1e9
"""Score of a place that an earlier step settled."""


def masked_counts(tokens: int, steps: int) -> list[int]:
    """How many places are masked after each step: ceil(cos(step / steps * pi / 2) * S), none after the last.

    In the project's order of operations and in 64 bits: the cosine of 60 degrees is a hair above a half, and
    of 16 places 9 stay masked.
    """
    return [
        math.ceil(math.cos((step + 1) / steps * math.pi / 2) * tokens) if step < steps - 1 else 0
        for step in range(steps)
    ]


class MaskGit(Sampler):
    """Draws one frame's tokens in `spec.steps` passes.

    draws: draw the digits from their distributions, by Gumbel noise; else the likeliest ones are taken.
    greedy: the most confident places first; else in random order, by one Gumbel variate for each place, which
    orders as uniform numbers do. Ties go to the place that comes first in Halton's order, so that this is the
    whole order where there is no noise.
    """

    def __init__(self, spec: WorldSpec, *, draws: bool, greedy: bool) -> None:
        super().__init__(spec)
        self.draws, self.greedy = draws, greedy
        self.register_buffer("place", self.order.argsort(), persistent=False)
        self.place: Tensor

    def forward(self, hidden: Hidden, head: Callable[[Tensor], Tensor], noise_NS: Tensor) -> Tensor:
        """-> tokens int64 [S]. `hidden` is called once per refinement step."""
        spec = self.spec
        tokens = torch.full((spec.tokens,), spec.codebook, dtype=torch.int64, device=noise_NS.device)
        for step, masked in enumerate(masked_counts(spec.tokens, spec.steps)):
            logits = head(hidden(tokens)).float()  # [S, F * V]
            noise = self.noise(noise_NS[step], (spec.logits if self.draws else 0) + 1)
            noisy = logits + noise[:, :-1] if self.draws else logits
            digits = [values.argmax(-1) for values in self._digits(noisy)]  # ties: the lowest
            drawn = torch.where(tokens == spec.codebook, self._tokens(digits), tokens)
            if step == spec.steps - 1:
                return drawn
            if self.greedy:
                score = torch.zeros_like(logits[:, 0])
                for values, digit in zip(self._digits(logits), digits, strict=True):
                    score = score + values.log_softmax(-1).gather(-1, digit[:, None])[:, 0]
            else:
                score = noise[:, -1]
            score = torch.where(tokens == spec.codebook, score, torch.full_like(score, KEPT))
            settled = rank(score[self.order])[self.place] < spec.tokens - masked
            tokens = torch.where(settled, drawn, torch.full_like(drawn, spec.codebook))
        raise AssertionError("a world takes at least one step")

    def _digits(self, logits: Tensor) -> list[Tensor]:
        """[S, F * V] -> [S, V] of each digit, the least significant first"""
        return list(logits.split(self.spec.digit_values, -1))

    def _tokens(self, digits: list[Tensor]) -> Tensor:
        """One [S] for each digit -> tokens [S]"""
        tokens = digits[-1]
        for digit in reversed(digits[:-1]):
            tokens = tokens * self.spec.digit_values + digit
        return tokens
