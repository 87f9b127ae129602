"""MaskGIT refinement as a pure function of logits and noise (arXiv 2202.04200; 2402.15391, section 2.2).

Used unchanged by eager play, the exported graphs and the uncached reference, so that all sample alike.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor, nn

from pocketgenie.genie.noise import gumbel_table, halton_order, unmask_counts
from pocketgenie.genie.spec import WorldSpec

Hidden = Callable[[Tensor], Tensor]
"""tokens int64 [S] with V where masked -> hidden states [S, D]"""


class Sampler(nn.Module):
    """Draws one frame's tokens in `spec.steps` passes."""

    def __init__(self, spec: WorldSpec) -> None:
        super().__init__()
        self.spec = spec
        table = torch.from_numpy(gumbel_table(spec.codebook)) * spec.temperature
        self.register_buffer("table", table, persistent=False)
        self.register_buffer("order", torch.from_numpy(halton_order(*spec.grid)).long(), persistent=False)
        self.table: Tensor
        self.order: Tensor

    def draw(self, logits_SV: Tensor, offsets_S: Tensor) -> tuple[Tensor, Tensor]:
        """Tokens int64 [S] (ties: lowest id) and the noise of their confidence [S]. offsets: genie.noise."""
        window = torch.arange(self.spec.codebook + 1, device=logits_SV.device)
        index = offsets_S.long()[:, None] + window
        noise = self.table.index_select(0, index.flatten()).view(index.shape)
        return (logits_SV.float() + noise[:, :-1]).argmax(-1), noise[:, -1]

    def forward(self, hidden: Hidden, head: Callable[[Tensor], Tensor], noise_NS: Tensor) -> Tensor:
        """-> tokens int64 [S]. `hidden` is called once per refinement step, `head` on the rows needed."""
        spec = self.spec
        tokens = torch.full((spec.tokens,), spec.codebook, dtype=torch.int64, device=noise_NS.device)
        counts = unmask_counts(spec.tokens, spec.steps)
        for step, count in enumerate(counts):
            state = hidden(tokens)
            if spec.order == "halton":  # the order is known beforehand: only these rows need logits
                rows = self.order[(counts[step - 1] if step else 0) : count]
                drawn, _ = self.draw(head(state[rows]), noise_NS[step][rows])
                tokens = tokens.index_put((rows,), drawn)
            else:
                drawn, luck = self.draw(logits := head(state), noise_NS[step])
                likely = logits.float().log_softmax(-1).gather(-1, drawn[:, None])[:, 0]
                confidence = likely + luck * (1 - (step + 1) / spec.steps)
                confidence = torch.where(
                    tokens == spec.codebook, confidence, torch.full_like(confidence, 1e9)
                )
                kept = _rank(confidence) < count
                drawn = torch.where(tokens == spec.codebook, drawn, tokens)
                tokens = torch.where(kept, drawn, tokens)
        return tokens


def _rank(score_S: Tensor) -> Tensor:
    """Place of each score, 0 for the highest, ties to the lowest index: counted, since TopK breaks ties
    differently from runtime to runtime."""
    index = torch.arange(len(score_S), device=score_S.device)
    higher = score_S[None] > score_S[:, None]
    earlier = (score_S[None] == score_S[:, None]) & (index[None] < index[:, None])
    return (higher | earlier).to(torch.int32).sum(-1)
