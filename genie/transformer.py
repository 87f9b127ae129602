"""The ST-transformer: attention within a frame, causal attention in time per position, one feed-forward.

(arXiv 2402.15391, section 2.1; pre-norm, QK-norm.) It runs in two ways that agree to float error:
`forward` passes a whole clip under a banded causal mask, `step` passes one frame against a memory of past
frames. Temporal position is relative: a learned bias per head and age, so a memory slot is never recomputed.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from pocketgenie.genie.config import TransformerConfig

MASKED = -1e4
"""Finite, so that exporters need no guard against NaN."""


class Past(NamedTuple):
    """A memory as the layers read it, laid out once per frame and shared by all refinement passes."""

    keys_ShkW: list[Tensor]
    """One per layer"""
    values_ShWk: list[Tensor]
    ages_W: Tensor
    """int64, 1..W"""
    mask_W: Tensor
    """0 where the slot counts, MASKED elsewhere"""


def past_from_memory(memory_WL2Shk: Tensor, ages_W: Tensor, filled: Tensor) -> Past:
    """Read a ring. ages int32 [W] >= 1, filled int32 [1]."""
    mask = (ages_W > filled).to(memory_WL2Shk.dtype) * MASKED
    parts = memory_WL2Shk.flatten(1, 2).unbind(1)  # one copy for all layers: keys, values, keys, values, ...
    keys = [part.permute(1, 2, 3, 0) for part in parts[0::2]]
    values = [part.permute(1, 2, 0, 3) for part in parts[1::2]]
    return Past(keys, values, ages_W.long(), mask)


class Attention(nn.Module):
    """Projections of multi-head attention with QK-norm; the mixing itself differs in space and time."""

    def __init__(self, config: TransformerConfig) -> None:
        super().__init__()
        self.heads, self.head_dim = config.heads, config.head_dim
        inner = config.heads * config.head_dim
        self.norm = nn.LayerNorm(config.dim, bias=False)
        self.qkv = nn.Linear(config.dim, 3 * inner, bias=False)
        self.q_norm = nn.LayerNorm(config.head_dim, bias=False)
        self.k_norm = nn.LayerNorm(config.head_dim, bias=False)
        self.out = nn.Linear(inner, config.dim, bias=False)

    def project(self, x: Tensor, *ones: int) -> tuple[Tensor, Tensor, Tensor]:
        """[..., D] -> queries (scaled), keys, values [..., h, *ones, k]; `ones` are axes of length 1"""
        normed, inner = self.norm(x), self.heads * self.head_dim
        shape = (self.heads, *ones, self.head_dim)
        q, k, v = (  # three products: cheaper for a runtime than one product and a split
            F.linear(normed, self.qkv.weight[i * inner : (i + 1) * inner]).unflatten(-1, shape)
            for i in range(3)
        )
        scaled = self.q_norm.weight * self.head_dim**-0.5
        return F.layer_norm(q, (self.head_dim,), scaled), self.k_norm(k), v


class SpatialAttention(Attention):
    """Every token of a frame sees all tokens of that frame."""

    def __init__(self, config: TransformerConfig, grid: tuple[int, int]) -> None:
        super().__init__(config)
        self.bias_table: nn.Parameter | None = None
        if config.relative_bias:
            rows, columns = grid
            self.bias_table = nn.Parameter(torch.zeros(config.heads, (2 * rows - 1) * (2 * columns - 1)))
            r, c = torch.arange(rows), torch.arange(columns)
            dr = (r[:, None] - r[None]) + rows - 1
            dc = (c[:, None] - c[None]) + columns - 1
            index = dr[:, None, :, None] * (2 * columns - 1) + dc[None, :, None, :]
            self.register_buffer("offsets", index.reshape(rows * columns, -1), persistent=False)
            self.offsets: Tensor

    def forward(self, x: Tensor) -> Tensor:
        """[..., S, D] -> [..., S, D]"""
        q, k, v = (t.transpose(-3, -2) for t in self.project(x))  # [..., h, S, k]
        scores = q @ k.transpose(-2, -1)
        if self.bias_table is not None:
            scores = scores + self.bias_table[:, self.offsets]
        mixed: Tensor = self.out((scores.softmax(-1) @ v).transpose(-3, -2).flatten(-2))
        return mixed


class TemporalAttention(Attention):
    """Every token sees itself and the same position of at most W past frames."""

    def __init__(self, config: TransformerConfig, window: int) -> None:
        super().__init__(config)
        self.window = window
        self.age_bias = nn.Parameter(torch.zeros(config.heads, window + 1))

    def forward(self, x_BTSD: Tensor, streams: int = 1) -> Tensor:
        """One banded causal pass. With `streams` = 2 the batch holds clean clips, then their masked twins: a
        masked frame sees its *clean* past and its masked self, which is just what play shows it."""
        q, k, v = (t.permute(0, 2, 3, 1, 4).flatten(0, 1) for t in self.project(x_BTSD))  # [B * S, h, T, k]
        clean_k, clean_v = k, v
        if streams == 2:
            clean_k, clean_v = (t[: t.shape[0] // 2].repeat(2, 1, 1, 1) for t in (k, v))
        B, T = x_BTSD.shape[:2]
        age = torch.arange(T, device=x_BTSD.device)[:, None] - torch.arange(T, device=x_BTSD.device)[None]
        outside = (age < 0) | (age > self.window)
        bias = self.age_bias[:, age.clamp(0, self.window)].masked_fill(outside, MASKED)
        own = torch.eye(T, dtype=torch.bool, device=x_BTSD.device)
        scores = q @ clean_k.transpose(-2, -1)
        if streams == 2:
            scores = torch.where(own, (q * k).sum(-1, keepdim=True), scores)
        weights = (scores + bias).softmax(-1)
        if streams == 2:
            to_self = weights.diagonal(dim1=-2, dim2=-1).unsqueeze(-1)
            mixed = weights.masked_fill(own, 0.0) @ clean_v + to_self * v
        else:
            mixed = weights @ clean_v
        out: Tensor = self.out(mixed.unflatten(0, (B, -1)).permute(0, 3, 1, 2, 4).flatten(-2))
        return out

    def step(self, x_SD: Tensor, past: Past, layer: int) -> tuple[Tensor, Tensor]:
        """One frame against its memory -> ([S, D], this layer's entry [2, S, h, k])"""
        q, k, v = self.project(x_SD, 1)  # [S, h, 1, k]
        bias_h1W = (self.age_bias[:, past.ages_W] + past.mask_W).unsqueeze(1)
        from_past = q @ past.keys_ShkW[layer] + bias_h1W  # [S, h, 1, W]
        from_self = (q * k).sum(-1, keepdim=True) + self.age_bias[:, None, :1]
        weights = torch.cat([from_past, from_self], -1).softmax(-1)
        mixed = weights[..., :-1] @ past.values_ShWk[layer] + weights[..., -1:] * v
        return self.out(mixed.flatten(-3)), torch.stack([k, v]).squeeze(-2)


class Block(nn.Module):
    def __init__(self, config: TransformerConfig, grid: tuple[int, int], window: int) -> None:
        super().__init__()
        self.spatial = SpatialAttention(config, grid)
        self.temporal = TemporalAttention(config, window) if window else None
        self.ffn = nn.Sequential(
            nn.LayerNorm(config.dim, bias=False),
            nn.Linear(config.dim, config.ffn, bias=False),
            nn.GELU(),
            nn.Linear(config.ffn, config.dim, bias=False),
        )


class STTransformer(nn.Module):
    """Blocks over x [B, T, S, D]; `window` past frames, 0 for a transformer without time."""

    def __init__(self, config: TransformerConfig, grid: tuple[int, int], window: int) -> None:
        super().__init__()
        self.blocks = nn.ModuleList(Block(config, grid, window) for _ in range(config.layers))
        self.norm = nn.LayerNorm(config.dim, bias=False)
        for name, weight in self.named_parameters():
            if weight.ndim == 2 and name.endswith(("out.weight", "ffn.3.weight")):
                nn.init.zeros_(weight)  # every block starts as the identity

    def forward(self, x_BTSD: Tensor, streams: int = 1, seen: list[Tensor] | None = None) -> Tensor:
        """[B, T, S, D] -> normalised [B, T, S, D]; see TemporalAttention for `streams`. The result of every
        block is put into `seen`, where there is one."""
        x = x_BTSD
        for block in self.blocks:
            assert isinstance(block, Block)
            x = x + block.spatial(x.flatten(0, 1)).view(x.shape)  # no fifth axis: Inductor stumbles over it
            if block.temporal is not None:
                x = x + block.temporal(x, streams)
            x = x + block.ffn(x)
            if seen is not None:
                seen.append(x)
        normalised: Tensor = self.norm(x)
        return normalised

    def step(self, x_SD: Tensor, past: Past | None) -> tuple[Tensor, Tensor | None]:
        """One frame [S, D] -> normalised [S, D] and its memory entry [L, 2, S, h, k] (None without time)."""
        x = x_SD
        entries: list[Tensor] = []
        for layer, block in enumerate(self.blocks):
            assert isinstance(block, Block)
            x = x + block.spatial(x)
            if block.temporal is not None:
                assert past is not None
                mixed, entry = block.temporal.step(x, past, layer)
                x = x + mixed
                entries.append(entry)
            x = x + block.ffn(x)
        return self.norm(x), torch.stack(entries) if entries else None
