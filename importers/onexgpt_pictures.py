"""Token pictures: what stands in for frames in a world that has tokens but no pixels.

A token becomes a square of one colour, and a picture of such squares the same tokens again: red, green and
blue are the token's three digits to the base ceil(V^(1/3)), spread over 0..255. Nothing of it is learned, and
nothing in it looks like what the tokens stand for.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from pocketgenie.genie.transformer import Past
from pocketgenie.importers.onexgpt_model import all_but_last_digit


class TokenPictures(nn.Module):
    """tokens [S] <-> picture uint8 [rows * cell, columns * cell, 3]"""

    def __init__(self, grid: tuple[int, int], codebook: int, cell: int) -> None:
        super().__init__()
        self.grid, self.codebook, self.cell = grid, codebook, cell
        self.levels = next(n for n in range(2, codebook + 1) if n**3 >= codebook)
        shades = (torch.arange(self.levels) * 255 / (self.levels - 1)).round()
        self.register_buffer("shades", shades, persistent=False)
        self.shades: Tensor

    def encode_step(self, frame_HWC: Tensor, past: Past | None) -> tuple[Tensor, None]:
        """uint8 [H, W, 3] -> int64 [S]: each square's mean colour; any picture gives some tokens"""
        rows, columns = self.grid
        cells = frame_HWC.float().view(rows, self.cell, columns, self.cell, 3)
        mean = cells.mean((1, 3)).flatten(0, 1)  # [S, 3]
        red, green, blue = (mean * ((self.levels - 1) / 255)).round().long().unbind(-1)
        return ((red * self.levels + green) * self.levels + blue).clamp(max=self.codebook - 1), None

    def decode_step(self, tokens_S: Tensor, past: Past | None) -> tuple[Tensor, None]:
        """int64 [S] -> uint8 [H, W, 3]"""
        rows, columns = self.grid
        higher = all_but_last_digit(tokens_S, self.levels)
        red = all_but_last_digit(higher, self.levels)
        digits = torch.stack([red, higher - red * self.levels, tokens_S - higher * self.levels], -1)
        colours = self.shades[digits].view(rows, 1, columns, 1, 3)
        cells = colours.expand(rows, self.cell, columns, self.cell, 3)
        return cells.reshape(rows * self.cell, columns * self.cell, 3).to(torch.uint8), None
