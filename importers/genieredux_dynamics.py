"""GenieRedux's dynamics: a frame's logits come out at the frame before it, under the action between the two.

So the frame that is drawn is no input of the pass that draws it, and a past frame's pass needs the action
that follows it. A memory entry therefore lags: that of frame t holds the tokens of frame t, and what the pass
over frame t - 1 under the action that led to t has left. One pass per frame is all that play needs.
"""

from __future__ import annotations

import torch
from pydantic import Field
from torch import Tensor, nn

from pocketgenie.genie.spec import Frozen
from pocketgenie.importers.genieredux_blocks import Transformer, newest_two
from pocketgenie.importers.genieredux_parts import PositionBias, Sizes

DIGIT = 256
"""Tokens lie in the memory as two digits, which are exact at half precision too."""
TOKEN_GAIN = 10.0
"""Of the tokenizer's codes where `use_token` adds them to the embeddings."""


class DynamicsSizes(Frozen):
    """As the weights show them."""

    codes: int = Field(gt=1)
    embedding: int = Field(gt=0)
    """Width of a token's embedding; guided, the transformer is wider by the number of actions."""
    actions: int = Field(gt=0)
    positions: int = Field(gt=0)
    """Tokens in the longest window of past frames."""
    transformer: Sizes

    @property
    def guided(self) -> bool:
        """Whether actions are one-hot vectors beside the embedding, not codes added to it."""
        return self.transformer.dim != self.embedding


class Dynamics(nn.Module):
    """`settle` makes its tables from the weights: `token_table` [V + 1, D], whose last row is the mask, and
    `action_table` [A + 1, D or A], whose last row, no action, is zeros."""

    def __init__(self, sizes: DynamicsSizes, grid: tuple[int, int]) -> None:
        super().__init__()
        self.sizes, width = sizes, sizes.transformer.dim
        self.places = grid[0] * grid[1]
        self.token_emb = nn.Embedding(sizes.codes + 1, sizes.embedding)
        self.pos_emb = nn.Embedding(sizes.positions, sizes.embedding)
        self.continuous_pos_bias = PositionBias(sizes.transformer.head_dim, sizes.transformer.heads, grid)
        self.transformer = Transformer(sizes.transformer, grid, "st")
        self.to_logits = nn.Linear(width, sizes.codes)
        action_width = sizes.actions if sizes.guided else sizes.embedding
        self.register_buffer("token_table", torch.zeros(sizes.codes + 1, sizes.embedding), persistent=False)
        self.register_buffer("action_table", torch.zeros(sizes.actions + 1, action_width), persistent=False)
        self.token_table: Tensor
        self.action_table: Tensor

    def settle(self, action_codes_AD: Tensor | None, token_codes_VD: Tensor | None) -> None:
        """Make the tables: of the latent action model's codes (None: one-hot), and with `use_token` the
        tokenizer's."""
        self.continuous_pos_bias.settle()
        self.token_table.copy_(self.token_emb.weight)
        if token_codes_VD is not None:
            self.token_table[:-1] += TOKEN_GAIN * token_codes_VD
        one_hot = torch.eye(self.sizes.actions)
        self.action_table[:-1] = one_hot if action_codes_AD is None else action_codes_AD

    def embed(self, tokens: Tensor, actions: Tensor, frames: Tensor) -> Tensor:
        """tokens [..., S], actions [...] that lead on, frame numbers [...] -> [..., S, width]"""
        positions = self.pos_emb.weight[: self._frames * self.places].view(self._frames, self.places, -1)
        x = self.token_table[tokens] + positions[frames]
        action = self.action_table[actions].unsqueeze(-2)
        if not self.sizes.guided:
            return x + action
        return torch.cat([x, action.expand(*x.shape[:-1], -1)], -1)

    @property
    def _frames(self) -> int:
        """How many frames have positions."""
        return self.sizes.positions // self.places

    def forward(self, tokens_BTS: Tensor, actions_BT: Tensor) -> Tensor:
        """A window that starts at position 0 -> logits [B, T, S, V], each of the frame after; actions[t]
        leads on from frame t."""
        embedded = self.embed(tokens_BTS, actions_BT, torch.arange(tokens_BTS.shape[1]))
        hidden = self.transformer(embedded, self.continuous_pos_bias.table)
        logits: Tensor = self.to_logits(hidden)
        return logits

    @property
    def entry(self) -> int:
        """Floats in a memory entry."""
        return self.sizes.transformer.entry(self.places) + 2 * self.places

    def step(
        self, action_1: Tensor, memory_WF: Tensor, ages: Tensor, filled: Tensor
    ) -> tuple[Tensor, Tensor]:
        """The pass over the last frame of the ring -> logits [S, V] of the frame that the action leads to,
        and what that pass leaves for the memory. Without a past frame the logits are zeros.
        """
        counted = filled - 1  # the oldest slot that holds a frame holds nothing of a pass
        past = self.transformer.past(memory_WF, ages, counted)
        digits = newest_two(memory_WF, ages)[1, -2 * self.places :].float()
        high, low = digits[: self.places], digits[self.places :]
        tokens = (high * DIGIT + low).long().clamp(0, self.sizes.codes)  # before the first frame: anything
        x = self.embed(tokens, action_1.long()[0], counted.long().clamp(min=0)[0])
        hidden, left = self.transformer.step(x, self.continuous_pos_bias.table, past)
        logits: Tensor = self.to_logits(hidden) * (filled > 0).to(hidden.dtype)
        return logits, left

    def entry_of(self, tokens_S: Tensor, left: Tensor) -> Tensor:
        """The memory entry of a frame: what the pass that drew it has left, and its tokens."""
        high = tokens_S.div(DIGIT, rounding_mode="floor")
        return torch.cat([left, high.to(left.dtype), (tokens_S - high * DIGIT).to(left.dtype)])
