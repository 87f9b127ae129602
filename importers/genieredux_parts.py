"""The parts of GenieRedux's transformer, by the project's key names; genieredux_blocks puts them together."""

from __future__ import annotations

from typing import NamedTuple

import torch
from pydantic import Field
from torch import Tensor, nn
from torch.nn import functional as F

from pocketgenie.genie.spec import Frozen
from pocketgenie.genie.transformer import MASKED

SCALE = 8.0
"""Of the scores, whose queries and keys have length one before their learned scales."""


class Sizes(Frozen):
    """One transformer, as its weights show it."""

    dim: int = Field(gt=0)
    heads: int = Field(gt=0)
    head_dim: int = Field(gt=0)
    blocks: int = Field(gt=0)
    ffn: int = Field(gt=0)
    """Width of the feed-forward after its gate."""

    def entry(self, places: int) -> int:
        """Floats that a frame leaves in the memory: [blocks, 2, S, h, d] and [blocks, 2, S, D]."""
        return 2 * self.blocks * places * (self.heads * self.head_dim + self.dim)


class Past(NamedTuple):
    """A memory as the layers read it."""

    keys_ShkW: list[Tensor]
    """One per block"""
    values_ShWk: list[Tensor]
    recent_2PSD: Tensor
    """Inputs of the PEGs of the two frames before this one, the older first; zeros where there is none"""
    ages_W: Tensor
    mask_W: Tensor
    """0 where the slot counts, MASKED elsewhere"""


class Gain(nn.Module):
    """LayerNorm as the project stores it: `gamma`, and a buffer `beta` of zeros."""

    def __init__(self, dim: int) -> None:
        super().__init__()
        self.gamma = nn.Parameter(torch.ones(dim))
        self.register_buffer("beta", torch.zeros(dim))
        self.beta: Tensor

    def forward(self, x: Tensor) -> Tensor:
        return F.layer_norm(x, self.gamma.shape, self.gamma, self.beta)


class Peg(nn.Module):
    """x + a depthwise convolution over time, rows and columns; two frames of zeros before, none after."""

    def __init__(self, dim: int, grid: tuple[int, int]) -> None:
        super().__init__()
        self.grid = grid
        self.dsconv = nn.Conv3d(dim, dim, 3, groups=dim)

    def forward(self, x_BTSD: Tensor) -> Tensor:
        volume = x_BTSD.permute(0, 3, 1, 2).unflatten(-1, self.grid)
        mixed: Tensor = self.dsconv(F.pad(volume, (1, 1, 1, 1, 2, 0)))
        return x_BTSD + mixed.flatten(-2).permute(0, 2, 3, 1)

    def step(self, x_SD: Tensor, recent_2SD: Tensor) -> Tensor:
        """The last of three frames. As three 2-D convolutions: half the time of one in 3-D on ORT."""
        dim = x_SD.shape[-1]
        frames = torch.cat([recent_2SD, x_SD[None]]).transpose(1, 2).reshape(1, 3 * dim, *self.grid)
        weight = self.dsconv.weight[:, 0].transpose(0, 1).reshape(3 * dim, 1, 3, 3)
        mixed = F.conv2d(frames, weight, padding=1, groups=3 * dim).view(3, dim, -1).sum(0)
        assert self.dsconv.bias is not None
        return x_SD + mixed.T + self.dsconv.bias


class Attention(nn.Module):
    """Projections: queries from the normalised input, keys and values from the input as it is."""

    def __init__(self, sizes: Sizes) -> None:
        super().__init__()
        self.heads, inner = sizes.heads, sizes.heads * sizes.head_dim
        self.norm = Gain(sizes.dim)
        self.to_q = nn.Linear(sizes.dim, inner, bias=False)
        self.to_kv = nn.Linear(sizes.dim, 2 * inner, bias=False)
        self.q_scale = nn.Parameter(torch.ones(sizes.head_dim))
        self.k_scale = nn.Parameter(torch.ones(sizes.head_dim))
        self.to_out = nn.Linear(inner, sizes.dim, bias=False)

    def project(self, x: Tensor, *ones: int) -> tuple[Tensor, Tensor, Tensor]:
        """[..., D] -> queries (scaled), keys, values [..., h, *ones, k]; `ones` are axes of length 1"""
        shape, inner = (self.heads, *ones, -1), self.to_q.out_features
        q = self.to_q(self.norm(x)).unflatten(-1, shape)
        rows = self.to_kv.weight  # sliced, not chunked: the exporter folds no node of two outputs
        k, v = (F.linear(x, half).unflatten(-1, shape) for half in (rows[:inner], rows[inner:]))
        return F.normalize(q, dim=-1) * (self.q_scale * SCALE), F.normalize(k, dim=-1) * self.k_scale, v


class SpatialAttention(Attention):
    """Every place of a frame sees all places of that frame."""

    def forward(self, x: Tensor, bias_hSS: Tensor) -> Tensor:
        """[..., S, D] -> [..., S, D]"""
        q, k, v = (part.transpose(-3, -2) for part in self.project(x))
        weights = (q @ k.transpose(-2, -1) + bias_hSS).softmax(-1)
        mixed: Tensor = self.to_out((weights @ v).transpose(-3, -2).flatten(-2))
        return mixed


class TemporalAttention(Attention):
    """Every place sees itself and the same place of past frames; the bias falls linearly with age (ALiBi)."""

    def __init__(self, sizes: Sizes) -> None:
        super().__init__(sizes)
        self.register_buffer("slopes_h", alibi_slopes(sizes.heads), persistent=False)
        self.slopes_h: Tensor

    def forward(self, x_BTSD: Tensor) -> Tensor:
        q, k, v = (part.permute(0, 2, 3, 1, 4) for part in self.project(x_BTSD))  # [B, S, h, T, k]
        time = torch.arange(x_BTSD.shape[1])
        age = time[:, None] - time[None]
        bias = -self.slopes_h[:, None, None] * age + MASKED * (age < 0)
        weights = (q @ k.transpose(-2, -1) + bias).softmax(-1)
        mixed: Tensor = self.to_out((weights @ v).permute(0, 3, 1, 2, 4).flatten(-2))
        return mixed

    def step(self, x_SD: Tensor, past: Past, block: int) -> tuple[Tensor, Tensor, Tensor]:
        """One frame -> [S, D], its keys and values [S, h, k]"""
        q, k, v = self.project(x_SD, 1)  # [S, h, 1, k]
        bias_h1W = (past.mask_W - self.slopes_h[:, None] * past.ages_W).unsqueeze(1)
        from_past = q @ past.keys_ShkW[block] + bias_h1W
        from_self = (q * k).sum(-1, keepdim=True)
        weights = torch.cat([from_past, from_self], -1).softmax(-1)
        mixed = weights[..., :-1] @ past.values_ShWk[block] + weights[..., -1:] * v
        return self.to_out(mixed.flatten(-3)), k.squeeze(-2), v.squeeze(-2)


class Gate(nn.Module):
    """[u, gate] -> u * GELU(gate)"""

    def forward(self, x: Tensor) -> Tensor:
        u, gate = x.chunk(2, -1)
        return u * F.gelu(gate)


def feed_forward(sizes: Sizes) -> nn.Sequential:
    return nn.Sequential(
        nn.LayerNorm(sizes.dim),
        nn.Linear(sizes.dim, 2 * sizes.ffn, bias=False),
        Gate(),
        nn.Identity(),  # the project's dropout: keeps the key names
        nn.Linear(sizes.ffn, sizes.dim, bias=False),
    )


class PositionBias(nn.Module):
    """A small net from the signed logarithms of two places' distances to a bias per head."""

    def __init__(self, width: int, heads: int, grid: tuple[int, int]) -> None:
        super().__init__()
        self.grid = grid
        self.net = nn.Sequential(
            nn.Sequential(nn.Linear(2, width), nn.LeakyReLU(0.1)),
            nn.Sequential(nn.Linear(width, width), nn.LeakyReLU(0.1)),
            nn.Linear(width, heads),
        )
        self.register_buffer("table", torch.zeros(heads, self.places, self.places), persistent=False)
        self.table: Tensor
        """[h, S, S], of query a with key b: made from the weights by `settle`"""

    @property
    def places(self) -> int:
        return self.grid[0] * self.grid[1]

    def settle(self) -> None:
        """Run the net, once for each distance that occurs."""
        rows, columns = self.grid
        r, c = torch.arange(1 - rows, rows), torch.arange(1 - columns, columns)
        apart = torch.cartesian_prod(r, c).float()
        biases = self.net(apart.sign() * apart.abs().log1p())  # [(2 rows - 1) * (2 columns - 1), h]
        place = torch.cartesian_prod(torch.arange(rows), torch.arange(columns))
        index = place[:, None] - place[None] + torch.tensor([rows - 1, columns - 1])
        self.table.copy_(biases[index[..., 0] * len(c) + index[..., 1]].permute(2, 0, 1))


def alibi_slopes(heads: int) -> Tensor:
    """float32 [h]; of other counts than powers of two, the rest comes from between (arXiv 2108.12409)"""

    def of(power: int) -> list[float]:
        return [2 ** (-8 * (i + 1) / power) for i in range(power)]

    whole: int = 1 << (heads.bit_length() - 1)
    return torch.tensor((of(whole) + of(2 * whole)[0::2])[:heads])
