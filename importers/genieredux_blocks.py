"""GenieRedux's space-time transformer: its parts have the project's key names, its passes are ours.

A block has a spatial and a temporal part, each of a depthwise 3-D convolution (PEG), attention and a gated
feed-forward. All of it is causal in time: attention by its mask, a PEG because it looks two frames back and
none ahead. So it runs in two ways that agree to float error: `forward` passes a whole window, `step` one
frame against a memory, which has to hold, of every past frame, each block's temporal keys and values and the
inputs of its two PEGs (of these the last two frames' are read; before the window's first frame are zeros).
"""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor, nn

from pocketgenie.genie.transformer import MASKED
from pocketgenie.importers.genieredux_parts import (
    Gain,
    Past,
    Peg,
    Sizes,
    SpatialAttention,
    TemporalAttention,
    feed_forward,
)


class Block(nn.Module):
    """The spatial, then the temporal part, or the other way round; nothing around the two."""

    def __init__(self, sizes: Sizes, grid: tuple[int, int], order: Literal["st", "ts"]) -> None:
        super().__init__()
        self.order = order
        self.spatial_peg, self.temporal_peg = Peg(sizes.dim, grid), Peg(sizes.dim, grid)
        self.spatial_attention, self.temporal_attention = SpatialAttention(sizes), TemporalAttention(sizes)
        self.spatial_ff, self.temporal_ff = feed_forward(sizes), feed_forward(sizes)

    def forward(self, x: Tensor, bias_hSS: Tensor) -> Tensor:
        for part in self.order:
            if part == "s":
                x = self.spatial_peg(x)
                x = x + self.spatial_attention(x, bias_hSS)
                x = x + self.spatial_ff(x)
            else:
                x = self.temporal_peg(x)
                x = x + self.temporal_attention(x)
                x = x + self.temporal_ff(x)
        return x

    def step(self, x: Tensor, bias_hSS: Tensor, past: Past, block: int) -> tuple[Tensor, list[Tensor]]:
        """One frame -> [S, D]; its keys, its values, the input of the spatial PEG and of the temporal one"""
        entering: dict[str, Tensor] = {}
        kept: tuple[Tensor, ...] = ()
        for part in self.order:
            entering[part] = x
            if part == "s":
                x = self.spatial_peg.step(x, past.recent_2PSD[:, 2 * block])
                x = x + self.spatial_attention(x, bias_hSS)
                x = x + self.spatial_ff(x)
            else:
                x = self.temporal_peg.step(x, past.recent_2PSD[:, 2 * block + 1])
                mixed, *kept_here = self.temporal_attention.step(x, past, block)
                x, kept = x + mixed, tuple(kept_here)
                x = x + self.temporal_ff(x)
        return x, [*kept, entering["s"], entering["t"]]


class Transformer(nn.Module):
    """Blocks over x [B, T, S, D]; `bias_hSS` is the position net's table, the same for every block."""

    def __init__(self, sizes: Sizes, grid: tuple[int, int], order: Literal["st", "ts"]) -> None:
        super().__init__()
        self.sizes, self.places = sizes, grid[0] * grid[1]
        self.layers = nn.ModuleList(nn.ModuleList([Block(sizes, grid, order)]) for _ in range(sizes.blocks))
        self.norm_out = Gain(sizes.dim)

    def blocks(self) -> list[Block]:
        return [layer[0] for layer in self.layers]  # type: ignore[index]

    def forward(self, x_BTSD: Tensor, bias_hSS: Tensor) -> Tensor:
        for block in self.blocks():
            x_BTSD = block(x_BTSD, bias_hSS)
        normalised: Tensor = self.norm_out(x_BTSD)
        return normalised

    def past(self, memory_WF: Tensor, ages_W: Tensor, counted_1: Tensor) -> Past:
        """Read a ring: ages int32 [W], W >= 2; the slots aged 1 to `counted` count."""
        own, pegs = self.sizes, 2 * self.sizes.blocks
        one = self.places * own.heads * own.head_dim
        slots, floats = memory_WF.shape
        parts = memory_WF.split([one] * pegs + [floats - pegs * one], -1)
        heads = [part.view(slots, self.places, own.heads, own.head_dim) for part in parts[:-1]]
        near = newest_two(memory_WF, ages_W)
        recent = near[:, pegs * one : pegs * (one + self.places * own.dim)]
        there = (torch.tensor([2, 1], device=ages_W.device) <= counted_1).to(memory_WF.dtype)
        return Past(
            [part.permute(1, 2, 3, 0) for part in heads[0::2]],
            [part.permute(1, 2, 0, 3) for part in heads[1::2]],
            (recent * there[:, None]).view(2, pegs, self.places, own.dim),
            ages_W.to(memory_WF.dtype),
            (ages_W > counted_1).to(memory_WF.dtype) * MASKED,
        )

    def step(self, x_SD: Tensor, bias_hSS: Tensor, past: Past) -> tuple[Tensor, Tensor]:
        """One frame [S, D] -> normalised [S, D] and its memory entry, flat: first keys and values"""
        attended: list[Tensor] = []
        entered: list[Tensor] = []
        for number, block in enumerate(self.blocks()):
            x_SD, (keys, values, *pegs) = block.step(x_SD, bias_hSS, past, number)
            attended += [keys.flatten(), values.flatten()]
            entered += [peg.flatten() for peg in pegs]
        return self.norm_out(x_SD), torch.cat(attended + entered)


def newest_two(memory_WF: Tensor, ages_W: Tensor) -> Tensor:
    """The entries of the two last frames [2, F], the older first."""
    before = torch.tensor([2, 1], device=ages_W.device)
    return memory_WF.index_select(0, (ages_W == before[:, None]).to(memory_WF.dtype).argmax(-1))
