"""Many roll-outs of a dynamics model at once, with its streaming memory: what distillation samples from."""

from __future__ import annotations

from collections import deque

import torch
from torch import Tensor

from pocketgenie.genie.config import SamplingConfig
from pocketgenie.genie.dynamics import Dynamics
from pocketgenie.genie.noise import halton_order, unmask_counts
from pocketgenie.genie.transformer import MASKED, Block, Past

HIGH = 1e9


class Streams:
    """B histories of one length. No gradients are kept."""

    def __init__(self, dynamics: Dynamics, grid: tuple[int, int]) -> None:
        self.dynamics, self.grid = dynamics, grid
        block = dynamics.transformer.blocks[0]
        assert isinstance(block, Block) and block.temporal is not None
        self.layer = block.temporal
        """Any of the layers that look back: all have the same window and heads."""
        self.entries: deque[Tensor] = deque(maxlen=self.layer.window)
        self.past: Past | None = None

    @torch.no_grad()
    def observe(self, tokens_BS: Tensor, actions_B: Tensor) -> None:
        """Take a whole frame into the histories; actions[b] led to it."""
        _, entry = self._pass(tokens_BS, actions_B)
        self.entries.append(entry)
        memory = torch.stack(tuple(self.entries), -1)  # [L, 2, B, S, h, k, W]
        count = len(self.entries)
        ages = torch.arange(count, 0, -1, device=memory.device)
        self.past = Past(
            keys_ShkW=[layer[0] for layer in memory],
            values_ShWk=[layer[1].transpose(-1, -2) for layer in memory],
            ages_W=ages,
            mask_W=torch.zeros(count, device=memory.device, dtype=memory.dtype),
        )

    @torch.no_grad()
    def draw(self, actions_B: Tensor, sampling: SamplingConfig) -> Tensor:
        """The next frames, tokens int64 [B, S], as genie.sampler draws them; the histories stay."""
        model = self.dynamics
        size, device = self.grid[0] * self.grid[1], actions_B.device
        order = torch.from_numpy(halton_order(*self.grid)).long().to(device)
        tokens = torch.full((len(actions_B), size), model.mask_id, device=device)
        counts = unmask_counts(size, sampling.steps)
        for step, count in enumerate(counts):
            hidden, _ = self._pass(tokens, actions_B)
            if sampling.order == "halton":
                rows = order[(counts[step - 1] if step else 0) : count]
                logits = model.head(hidden[:, rows]).float()
                tokens[:, rows] = _gumbel(logits, sampling.temperature).argmax(-1)
                continue
            logits = model.head(hidden).float()
            drawn = _gumbel(logits, sampling.temperature).argmax(-1)
            likely = logits.log_softmax(-1).gather(-1, drawn[..., None])[..., 0]
            confidence = _gumbel(likely, sampling.temperature * (1 - (step + 1) / sampling.steps))
            open_ = tokens == model.mask_id
            confidence = torch.where(open_, confidence, torch.full_like(confidence, HIGH))
            kept = confidence.sort(stable=True, dim=-1, descending=True).indices.argsort(-1) < count
            tokens = torch.where(kept, torch.where(open_, drawn, tokens), tokens)
        return tokens

    def _pass(self, tokens_BS: Tensor, actions_B: Tensor) -> tuple[Tensor, Tensor]:
        embedded = self.dynamics.embed(tokens_BS, actions_B)
        past = self.past
        if past is None:  # one slot that does not count
            shape = (*tokens_BS.shape, self.layer.heads, self.layer.head_dim)
            layers = len(self.dynamics.transformer.blocks)
            nothing = embedded.new_zeros(shape)
            keys = [nothing[..., None]] * layers
            values = [nothing[..., None, :]] * layers
            one = torch.ones(1, dtype=torch.long, device=embedded.device)
            past = Past(keys, values, one, embedded.new_full((1,), MASKED))
        hidden, entry = self.dynamics.transformer.step(embedded, past)
        assert entry is not None
        return hidden, entry


def _gumbel(values: Tensor, temperature: float) -> Tensor:
    if temperature == 0:
        return values
    uniform = torch.rand_like(values).clamp(1e-9, 1 - 1e-7)
    return values - temperature * torch.log(-torch.log(uniform))
