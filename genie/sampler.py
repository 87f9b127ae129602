"""MaskGIT refinement as a pure function of logits and noise (arXiv 2202.04200; 2402.15391, section 2.2).

Used unchanged by eager play, the exported graphs and the uncached reference, so that all sample alike.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor, nn

from pocketgenie.genie.noise import ROW, gumbel_table, halton_order, rows_for, unmask_counts
from pocketgenie.genie.spec import WorldSpec

Hidden = Callable[[Tensor], Tensor]
"""tokens int64 [S] with V where masked -> hidden states [S, D]"""


class Sampler(nn.Module):
    """Draws one frame's tokens in `spec.steps` passes."""

    def __init__(self, spec: WorldSpec) -> None:
        super().__init__()
        self.spec = spec
        table = torch.from_numpy(gumbel_table(spec.logits)) * spec.temperature
        self.register_buffer("table", table, persistent=False)
        self.register_buffer("order", torch.from_numpy(halton_order(*spec.grid)).long(), persistent=False)
        self.table: Tensor
        self.order: Tensor

    def noise(self, offsets_S: Tensor, values: int) -> Tensor:
        """The first `values` of each token's noise, [S, values] (genie.noise.read_noise)"""
        rows = rows_for(values)
        index = offsets_S.long()[:, None] + torch.arange(rows, device=offsets_S.device)
        noise = self.table.index_select(0, index.flatten()).view(len(offsets_S), rows * ROW)
        return noise if values == rows * ROW else noise[:, :values]

    def forward(self, hidden: Hidden, head: Callable[[Tensor], Tensor], noise_NS: Tensor) -> Tensor:
        """-> tokens int64 [S]. `hidden` is called once per refinement step, `head` on the rows needed."""
        spec = self.spec
        tokens = torch.full((spec.tokens,), spec.codebook, dtype=torch.int64, device=noise_NS.device)
        counts = unmask_counts(spec.tokens, spec.steps)
        for step, count in enumerate(counts):
            state = hidden(tokens)
            if spec.order == "halton":  # the order is known beforehand: only these rows need logits
                rows = self.order[(counts[step - 1] if step else 0) : count]
                noise = self.noise(noise_NS[step][rows], spec.codebook)
                drawn = (head(state[rows]).float() + noise).argmax(-1)  # ties: lowest id
                tokens = tokens.index_put((rows,), drawn)
            else:
                logits, noise = head(state).float(), self.noise(noise_NS[step], spec.codebook + 1)
                drawn, luck = (logits + noise[:, :-1]).argmax(-1), noise[:, -1]
                likely = logits.log_softmax(-1).gather(-1, drawn[:, None])[:, 0]
                confidence = likely + luck * (1 - (step + 1) / spec.steps)
                confidence = torch.where(
                    tokens == spec.codebook, confidence, torch.full_like(confidence, 1e9)
                )
                kept = rank(confidence) < count
                drawn = torch.where(tokens == spec.codebook, drawn, tokens)
                tokens = torch.where(kept, drawn, tokens)
        return tokens


def rank(score_S: Tensor) -> Tensor:
    """Place of each score, 0 for the highest, ties to the lowest index: counted, since TopK breaks ties
    differently from runtime to runtime."""
    index = torch.arange(len(score_S), device=score_S.device)
    higher = score_S[None] > score_S[:, None]
    earlier = (score_S[None] == score_S[:, None]) & (index[None] < index[:, None])
    return (higher | earlier).to(torch.int32).sum(-1)
