"""Discrete bottlenecks with one face: vectors in, code ids out, and the codebook as a plain table."""

from __future__ import annotations

from abc import ABC, abstractmethod
from math import prod

import torch
from torch import Tensor, distributed, nn
from torch.nn import functional as F

from pocketgenie.genie.config import QuantizerConfig


class Quantizer(nn.Module, ABC):
    """Maps latents z [..., d] to codes. `codebook()` is [V, d], `features()` [V, f] describes each code."""

    @abstractmethod
    def codebook(self) -> Tensor:
        """[V, d]"""

    @abstractmethod
    def features(self) -> Tensor:
        """[V, f], a fixed description of each code that a model may start its embedding from."""

    def bound(self, z: Tensor) -> Tensor:
        """Latents in the codebook's own range."""
        return z

    @abstractmethod
    def ids(self, z: Tensor) -> Tensor:
        """[..., d] -> int64 [...], the nearest code (ties: lowest id)"""

    def distances(self, z: Tensor) -> Tensor:
        """Squared distance to every code, [..., V]"""
        return (self.bound(z).unsqueeze(-2) - self.codebook()).square().sum(-1)

    @abstractmethod
    def forward(self, z: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Latents -> quantized latents (straight-through gradient), ids, auxiliary loss (scalar)."""


class FSQ(Quantizer):
    """Finite scalar quantization (arXiv 2309.15505): each dimension is squashed and rounded to its levels."""

    def __init__(self, levels: tuple[int, ...]) -> None:
        super().__init__()
        steps = torch.tensor(levels, dtype=torch.float32) - 1
        radix = torch.tensor([prod(levels[:i]) for i in range(len(levels))])
        digits = torch.arange(prod(levels))[:, None] // radix % torch.tensor(levels)
        one_hot = [F.one_hot(digits[:, i], level) for i, level in enumerate(levels)]
        self.register_buffer("steps", steps, persistent=False)
        self.register_buffer("radix", radix, persistent=False)
        self.register_buffer("table", digits / steps * 2 - 1, persistent=False)
        self.register_buffer("one_hot", torch.cat(one_hot, -1).float(), persistent=False)
        self.steps: Tensor
        self.radix: Tensor
        self.table: Tensor
        self.one_hot: Tensor

    def codebook(self) -> Tensor:
        return self.table

    def features(self) -> Tensor:
        return self.one_hot

    def bound(self, z: Tensor) -> Tensor:
        return torch.tanh(z)

    def _digits(self, z: Tensor) -> Tensor:
        return torch.floor((self.bound(z) + 1) / 2 * self.steps + 0.5)

    def ids(self, z: Tensor) -> Tensor:
        return (self._digits(z).long() * self.radix).sum(-1)

    def forward(self, z: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        bounded = self.bound(z)
        digits = self._digits(z)
        quantized = bounded + (digits / self.steps * 2 - 1 - bounded).detach()
        return quantized, (digits.long() * self.radix).sum(-1), z.new_zeros(())


class VQ(Quantizer):
    """Vector quantization (arXiv 1711.00937) with a commitment loss; dead codes are re-seeded."""

    def __init__(self, codes: int, dim: int) -> None:
        super().__init__()
        self.vectors = nn.Parameter(torch.randn(codes, dim) * dim**-0.5)
        self.register_buffer("usage", torch.ones(codes))
        self.usage: Tensor

    def codebook(self) -> Tensor:
        return self.vectors

    def features(self) -> Tensor:
        return self.vectors.detach()

    def distances(self, z: Tensor) -> Tensor:
        return z.square().sum(-1, keepdim=True) - 2 * z @ self.vectors.T + self.vectors.square().sum(-1)

    def ids(self, z: Tensor) -> Tensor:
        return self.distances(z).argmin(-1)

    def forward(self, z: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        ids = self.ids(z)
        if self.training:
            self._revive(z.detach(), ids)
        nearest = self.vectors[ids]
        loss = F.mse_loss(nearest, z.detach()) + 0.25 * F.mse_loss(z, nearest.detach())
        return z + (nearest - z).detach(), ids, loss

    @torch.no_grad()
    def _revive(self, z: Tensor, ids: Tensor) -> None:
        count = torch.bincount(ids.flatten(), minlength=len(self.usage)).float()
        together = distributed.is_available() and distributed.is_initialized()
        if together:  # every process must revive the same codes with the same vectors
            distributed.all_reduce(count)
        self.usage.lerp_(count / count.mean(), 0.01)
        dead = (self.usage < 0.03).nonzero().flatten()
        if len(dead):
            flat = z.flatten(0, -2)
            seeds = flat[torch.randint(len(flat), (len(dead),), device=z.device)].to(self.vectors.dtype)
            if together:
                distributed.broadcast(seeds, 0)
            self.vectors[dead] = seeds
            self.usage[dead] = 1.0


def build_quantizer(config: QuantizerConfig) -> Quantizer:
    """The module for a configuration."""
    return FSQ(config.levels) if config.kind == "fsq" else VQ(config.codes, config.dim)
