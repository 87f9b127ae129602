"""How TinyWorlds fills a frame: the most confident places first, how many by an exponential schedule.

(github.com/AlmondGod/tinyworlds; after MaskGIT, arXiv 2202.04200.) Candidates are drawn at every masked place;
confidence is the largest probability there, whichever token was drawn, without noise of its own.
"""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
import torch
from torch import Tensor

from pocketgenie.genie.sampler import Hidden, Sampler, rank
from pocketgenie.genie.spec import WorldSpec

SHARPNESS = 5.0
"""k of the schedule (e^(k m / N) - 1) / (e^k - 1); fixed in the project's inference script."""
LEAST_SHARE = 16
"""Every step fixes at least one of so many places."""


def commit_counts(places: int, steps: int) -> list[int]:
    """How many places each step fixes. Fewer steps than asked for, where the least share is done before."""
    k, least = np.float32(SHARPNESS), max(places // LEAST_SHARE, 1)
    counts: list[int] = []
    for step in range(steps):
        masked = places - sum(counts)
        grown = np.float32(places) * np.expm1(k * np.float32(step / steps)) / np.expm1(k)
        target = places if step == steps - 1 else math.ceil(grown)
        if masked:
            counts.append(min(max(least, min(max(target - (places - masked), 0), masked)), masked))
    return counts


class ConfidenceSampler(Sampler):
    """Draws `spec.tokens` places (or, of several frames at once, `places`) in at most `spec.steps` passes."""

    def __init__(self, spec: WorldSpec, places: int | None = None) -> None:
        super().__init__(spec)
        self.places = places or spec.tokens
        self.counts = commit_counts(self.places, spec.steps)

    def forward(self, hidden: Hidden, head: Callable[[Tensor], Tensor], noise_NS: Tensor) -> Tensor:
        def draw(step: int, logits_SV: Tensor) -> Tensor:
            if self.spec.temperature == 0:
                return logits_SV.argmax(-1)
            # the same draw as from softmax(logits / temperature): the table is that times Gumbel noise
            return (logits_SV + self.noise(noise_NS[step], self.spec.codebook)).argmax(-1)

        return self.fill(lambda tokens: head(hidden(tokens)).float(), draw)

    def fill(self, logits: Callable[[Tensor], Tensor], draw: Callable[[int, Tensor], Tensor]) -> Tensor:
        """-> tokens int64 [S]. `logits`: tokens [S], V where masked -> [S, V]; `draw`: the step's number and the
        logits -> a candidate for every place."""
        masked_id = self.spec.codebook
        tokens = torch.full((self.places,), masked_id, dtype=torch.int64)
        for step, count in enumerate(self.counts):
            logits_SV = logits(tokens)
            candidates, open_S = draw(step, logits_SV), tokens == masked_id
            if step + 1 < len(self.counts):
                open_S = open_S & (rank(self.confidence(logits_SV, open_S)) < count)
            tokens = torch.where(open_S, candidates, tokens)
        return tokens

    def confidence(self, logits_SV: Tensor, open_S: Tensor) -> Tensor:
        """Grows with each place's largest probability; lowest where nothing is open."""
        below = logits_SV - logits_SV.amax(-1, keepdim=True)
        spread = (below / (self.spec.temperature or 1.0)).exp().sum(-1)  # 1 / the largest probability
        return torch.where(open_S, -spread, -2.0 * self.spec.codebook)
