"""The dynamics model: a decoder-only MaskGIT over frame tokens with additive action embeddings.

(arXiv 2402.15391, section 2.1.) It draws the masked tokens of a frame from the past frames' tokens and the
action that leads to the frame. Past frames are always seen clean, in training as in play.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from pocketgenie.genie.config import GenieConfig
from pocketgenie.genie.transformer import Past, STTransformer


class Dynamics(nn.Module):
    """`features` [V, f] describes each code (Quantizer.features): embeddings and output weights are a shared
    linear map of it plus a free part per code, so that codes of like content start alike."""

    def __init__(self, config: GenieConfig, features: Tensor) -> None:
        super().__init__()
        own = config.dynamics
        dim, codes, tokens = own.transformer.dim, len(features), config.grid[0] * config.grid[1]
        self.mask_id, self.no_action = codes, config.lam.quantizer.size
        self.register_buffer("features", features, persistent=False)
        self.features: Tensor
        width = features.shape[1]
        self.code_in = nn.Parameter(torch.zeros(codes + 1, dim))
        self.feature_in = nn.Parameter(torch.randn(width, dim) * 0.3)
        self.code_out = nn.Parameter(torch.zeros(codes, dim))
        self.feature_out = nn.Parameter(torch.randn(width, dim) * 0.02)
        self.action_in = nn.Parameter(torch.randn(self.no_action + 1, dim) * 0.3)
        self.position = nn.Parameter(torch.randn(tokens, dim) * 0.02)
        self.transformer = STTransformer(own.transformer, config.grid, own.window)

    def embed(self, tokens: Tensor, actions: Tensor) -> Tensor:
        """tokens [..., S] in [0, V] (V is the mask), actions [...] in [0, A] (A is none) -> [..., S, D]"""
        described = self.features @ self.feature_in
        table = self.code_in + torch.cat([described, torch.zeros_like(described[:1])])
        return table[tokens] + self.position + F.embedding(actions, self.action_in).unsqueeze(-2)

    def head(self, hidden: Tensor) -> Tensor:
        """[..., D] -> logits [..., V]"""
        return hidden @ (self.code_out + self.features @ self.feature_out).T

    def forward(self, tokens_BTS: Tensor, actions_BT: Tensor) -> Tensor:
        """One banded pass over a whole history -> logits [B, T, S, V]. actions[t] leads to frame t."""
        return self.head(self.transformer(self.embed(tokens_BTS, actions_BT)))

    def forward_training(
        self, clean_BTS: Tensor, masked_BTS: Tensor, actions_BT: Tensor, seen: list[Tensor] | None = None
    ) -> Tensor:
        """Hidden states [B, T, S, D] of the masked frames, each seeing its clean past; `seen` takes those
        after every block, [2 * B, T, S, D], clean frames first."""
        both = torch.cat([self.embed(clean_BTS, actions_BT), self.embed(masked_BTS, actions_BT)])
        hidden: Tensor = self.transformer(both, streams=2, seen=seen)
        return hidden[len(clean_BTS) :]

    def step(self, tokens_S: Tensor, action_1: Tensor, past: Past) -> tuple[Tensor, Tensor]:
        """One pass over one frame -> hidden [S, D], its memory entry (meaningful once no token is masked)"""
        hidden, entry = self.transformer.step(self.embed(tokens_S, action_1.long()[0]), past)
        assert entry is not None
        return hidden, entry
