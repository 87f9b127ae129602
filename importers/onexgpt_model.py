"""The dynamics of 1xGPT ("GENIE" of github.com/1x-technologies/1xgpt): an ST-transformer over image tokens.

Attention within a frame, causal attention in time per place, one feed-forward; no action; learned positions
by frame and place. Parameters keep the names of the project's files. It runs in two ways that agree to float
error: `forward` passes a whole window, `step` one frame against a memory of the past ones.
(arXiv 2402.15391, section 2.1; muP: arXiv 2203.03466.)
"""

from __future__ import annotations

import math

import torch
from pydantic import Field, model_validator
from torch import Tensor, nn
from torch.nn import functional as F

from pocketgenie.genie.spec import Frozen, whole_root
from pocketgenie.genie.transformer import MASKED, Past

MUP_WIDTH = 256
"""The width that muP's readout is measured against; fixed in the project."""


class Architecture(Frozen):
    """What a forward pass needs of the project's config.json; defaults are those of files without a key."""

    num_layers: int = Field(gt=0, le=1024)
    num_heads: int = Field(gt=0, le=1024)
    d_model: int = Field(gt=0, le=1 << 16)
    T: int = Field(default=16, gt=1, le=4096)
    """Frames of the window."""
    S: int = Field(default=256, gt=0, le=1 << 16)
    """Tokens per frame, a square."""
    image_vocab_size: int = Field(default=262144, gt=1, le=1 << 22)
    num_factored_vocabs: int = Field(default=1, gt=0, le=24)
    """F: a token is F digits, the least significant first, each with embeddings and logits of its own."""
    use_mup: bool = False
    qk_norm: bool = True
    """LayerNorm of queries and keys, in place of norm1 and norm2."""
    qkv_bias: bool = False
    proj_bias: bool = True
    mlp_bias: bool = True
    mlp_ratio: float = Field(default=4.0, gt=0)

    @model_validator(mode="after")
    def _consistent(self) -> Architecture:
        if self.d_model % self.num_heads:
            raise ValueError(f"num_heads {self.num_heads} does not divide d_model {self.d_model}")
        if self.grid**2 != self.S:
            raise ValueError(f"S {self.S} is not a square")
        if self.values**self.num_factored_vocabs != self.image_vocab_size:
            raise ValueError(
                f"image_vocab_size {self.image_vocab_size} has no whole root of {self.num_factored_vocabs}, "
                "the num_factored_vocabs"
            )
        return self

    @property
    def grid(self) -> int:
        """Rows, and columns, of a frame."""
        return math.isqrt(self.S)

    @property
    def values(self) -> int:
        """V, of each factor."""
        return whole_root(self.image_vocab_size, self.num_factored_vocabs)


def all_but_last_digit(numbers: Tensor, base: int) -> Tensor:
    """int64 below 2^22 -> int64, divided by `base` and rounded down: exact in float32 with a half added, and
    half as many operations in a graph as integers take"""
    return ((numbers.float() + 0.5) / base).floor().long()


class Attention(nn.Module):
    """Projections of multi-head attention; the mixing itself differs in space and time."""

    def __init__(self, config: Architecture) -> None:
        super().__init__()
        width = config.d_model
        self.heads, self.head_dim = config.num_heads, width // config.num_heads
        # muP scales by 1/d, with 8/d so that it is the usual scale at d = 64
        self.scale = 8 / self.head_dim if config.use_mup else self.head_dim**-0.5
        self.qkv = nn.Linear(width, 3 * width, bias=config.qkv_bias)
        self.proj = nn.Linear(width, width, bias=config.proj_bias)
        self.norm = nn.LayerNorm(self.head_dim) if config.qk_norm else None

    def project(self, x: Tensor, *ones: int) -> tuple[Tensor, Tensor, Tensor]:
        """[..., C] -> queries (scaled), keys, values [..., h, *ones, k]; `ones` are axes of length 1"""
        width = self.heads * self.head_dim
        parts = []
        for start in (0, width, 2 * width):  # three products: cheaper for a runtime than one and a split
            rows = slice(start, start + width)
            bias = None if self.qkv.bias is None else self.qkv.bias[rows]
            parts.append(
                F.linear(x, self.qkv.weight[rows], bias).unflatten(-1, (self.heads, *ones, self.head_dim))
            )
        q, k, v = parts
        if self.norm is None:
            return q * self.scale, k, v
        scaled = self.norm.weight * self.scale, self.norm.bias * self.scale
        return F.layer_norm(q, (self.head_dim,), *scaled), self.norm(k), v


class SpatialAttention(Attention):
    """Every token of a frame sees all tokens of that frame."""

    def forward(self, x: Tensor) -> Tensor:
        """[..., S, C] -> [..., S, C]"""
        q, k, v = (t.transpose(-3, -2) for t in self.project(x))  # [..., h, S, k]
        weights = (q @ k.transpose(-2, -1)).softmax(-1)
        mixed: Tensor = self.proj((weights @ v).transpose(-3, -2).flatten(-2))
        return mixed


class TemporalAttention(Attention):
    """Every token sees itself and the same place of all past frames."""

    def forward(self, x_BTSC: Tensor) -> Tensor:
        """[B, T, S, C] -> [B, T, S, C], causal"""
        q, k, v = (t.permute(0, 2, 3, 1, 4) for t in self.project(x_BTSC))  # [B, S, h, T, k]
        future = torch.ones(q.shape[-2], q.shape[-2], dtype=torch.bool, device=q.device).triu(1)
        weights = (q @ k.transpose(-2, -1) + future.to(q.dtype) * MASKED).softmax(-1)
        mixed: Tensor = self.proj((weights @ v).permute(0, 3, 1, 2, 4).flatten(-2))
        return mixed

    def step(self, x_SC: Tensor, past: Past, layer: int) -> tuple[Tensor, Tensor]:
        """One frame against its memory -> ([S, C], this layer's entry [2, S, h, k])"""
        q, k, v = self.project(x_SC, 1)  # [S, h, 1, k]
        from_past = q @ past.keys_ShkW[layer] + past.mask_W
        weights = torch.cat([from_past, (q * k).sum(-1, keepdim=True)], -1).softmax(-1)
        mixed = weights[..., :-1] @ past.values_ShWk[layer] + weights[..., -1:] * v
        return self.proj(mixed.flatten(-3)), torch.stack([k, v]).squeeze(-2)


class Mlp(nn.Module):
    def __init__(self, config: Architecture) -> None:
        super().__init__()
        hidden = int(config.d_model * config.mlp_ratio)
        self.fc1 = nn.Linear(config.d_model, hidden, bias=config.mlp_bias)
        self.fc2 = nn.Linear(hidden, config.d_model, bias=config.mlp_bias)

    def forward(self, x: Tensor) -> Tensor:
        mixed: Tensor = self.fc2(F.gelu(self.fc1(x)))
        return mixed


class Layer(nn.Module):
    """Time is never normalised; with QK-norm nothing is, but queries and keys."""

    def __init__(self, config: Architecture) -> None:
        super().__init__()
        self.norm1 = nn.Identity() if config.qk_norm else nn.LayerNorm(config.d_model)
        self.spatial_attn = SpatialAttention(config)
        self.temporal_attn = TemporalAttention(config)
        self.norm2 = nn.Identity() if config.qk_norm else nn.LayerNorm(config.d_model)
        self.mlp = Mlp(config)

    def forward(self, x_BTSC: Tensor) -> Tensor:
        x = x_BTSC + self.spatial_attn(self.norm1(x_BTSC))
        x = x + self.temporal_attn(x)
        out: Tensor = x + self.mlp(self.norm2(x))
        return out

    def step(self, x_SC: Tensor, past: Past, layer: int) -> tuple[Tensor, Tensor]:
        """One frame -> [S, C], this layer's entry [2, S, h, k]"""
        x = x_SC + self.spatial_attn(self.norm1(x_SC))
        mixed, entry = self.temporal_attn.step(x, past, layer)
        x = x + mixed
        return x + self.mlp(self.norm2(x)), entry


class TokenEmbed(nn.Module):
    """The sum of a token's digits' embeddings; the mask has one of its own."""

    def __init__(self, config: Architecture) -> None:
        super().__init__()
        self.mask, self.values = config.image_vocab_size, config.values
        self.factored_embeds = nn.ModuleList(
            nn.Embedding(config.values, config.d_model) for _ in range(config.num_factored_vocabs)
        )
        self.mask_token_embed = nn.Parameter(torch.zeros(1, config.d_model))

    def forward(self, tokens: Tensor) -> Tensor:
        """int64 [...] in [0, image_vocab_size], the last being the mask -> [..., C]"""
        rest, parts = tokens.clamp(max=self.mask - 1), []
        for table in self.factored_embeds:
            higher = all_but_last_digit(rest, self.values)
            parts.append(table(rest - higher * self.values))
            rest = higher
        masked = (tokens == self.mask).unsqueeze(-1)
        return torch.where(masked, self.mask_token_embed[0], torch.stack(parts).sum(0))


class Decoder(nn.Module):
    def __init__(self, config: Architecture) -> None:
        super().__init__()
        self.layers = nn.ModuleList(Layer(config) for _ in range(config.num_layers))


class Dynamics(nn.Module):
    """Which tokens the masked places of a frame hold, given the frames before it."""

    def __init__(self, config: Architecture) -> None:
        super().__init__()
        self.config = config
        self.pos_embed_TSC = nn.Parameter(torch.zeros(1, config.T, config.S, config.d_model))
        self.token_embed = TokenEmbed(config)
        self.decoder = Decoder(config)
        self.out_x_proj = nn.Linear(config.d_model, config.num_factored_vocabs * config.values)
        self.readout = MUP_WIDTH / config.d_model if config.use_mup else 1.0

    def forward(self, tokens_BTS: Tensor) -> Tensor:
        """One causal pass over the first frames of a window -> hidden [B, T, S, C]"""
        x: Tensor = self.token_embed(tokens_BTS) + self.pos_embed_TSC[:, : tokens_BTS.shape[1]]
        for layer in self.decoder.layers:
            x = layer(x)
        return x

    def step(self, tokens_S: Tensor, action_1: Tensor, past: Past) -> tuple[Tensor, Tensor]:
        """One frame -> hidden [S, C], its memory entry [L, 2, S, h, k]. No action: `action_1` is not read.

        The frame's index in the window is the number of frames in the memory.
        """
        index = (past.mask_W == 0).sum().reshape(1)
        x = self.token_embed(tokens_S) + self.pos_embed_TSC[0].index_select(0, index)[0]
        entries = []
        for number, layer in enumerate(self.decoder.layers):
            assert isinstance(layer, Layer)
            x, entry = layer.step(x, past, number)
            entries.append(entry)
        return x, torch.stack(entries)

    def head(self, hidden: Tensor) -> Tensor:
        """[..., C] -> logits [..., F * V], factor 0 (the least significant) first"""
        logits: Tensor = self.out_x_proj(hidden * self.readout)
        return logits
