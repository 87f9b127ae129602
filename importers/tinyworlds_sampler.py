"""How TinyWorlds fills a frame: the most confident places first, how many by an exponential schedule.

(github.com/AlmondGod/tinyworlds; after MaskGIT, arXiv 2202.04200.) Candidates are drawn at every masked
place; confidence is the largest probability there, whichever token was drawn, without noise of its own.
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
                return highest(logits_SV)
            # the same draw as from softmax(logits / temperature): the table is that times Gumbel noise
            return highest(logits_SV + self.noise(noise_NS[step], self.spec.codebook))

        return self.fill(lambda tokens: head(hidden(tokens)).float(), draw)

    def fill(self, logits: Callable[[Tensor], Tensor], draw: Callable[[int, Tensor], Tensor]) -> Tensor:
        """-> tokens int64 [S]. `logits`: tokens [S], V where masked -> [S, V]. `draw`: the step's number and
        the logits -> a candidate for every place."""
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
        """Each place's largest probability; less than any where nothing is open."""
        tempered = logits_SV / self.spec.temperature if self.spec.temperature else logits_SV
        return torch.where(open_S, tempered.softmax(-1).amax(-1), -1.0)


def highest(scores_SV: Tensor) -> Tensor:
    """argmax over V, ties to the lowest index, in two strides: the maximum over a row is some ten times as
    quick as argmax in a runtime, and leaves it a row of groups and one group."""
    places, codes = scores_SV.shape
    group = next(size for size in range(math.isqrt(codes), 0, -1) if codes % size == 0)
    if group == 1:
        return scores_SV.argmax(-1)
    groups = scores_SV.view(places, -1, group)
    best = groups.amax(-1).argmax(-1)
    within = groups.gather(1, best[:, None, None].expand(-1, 1, group))[:, 0]
    return best * group + within.argmax(-1)
