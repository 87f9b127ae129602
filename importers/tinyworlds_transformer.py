"""The space-time transformer of TinyWorlds, over whole windows and frame by frame, in one way.

Post-norm blocks of three: attention within a frame, causal attention in time at each patch, SwiGLU. A pass
takes T new frames and the memory of the W frames before them; a whole window is the pass without a memory.
Module names are those of the project's state dicts.

P patches, E width, h heads, d head dim, J frames that are seen (W + T), N = T * P rows, A numbers of an
action's vector. These worlds are tiny (E 32, d 4 by default): what costs is how often a runtime touches
memory. So rows stay flat, [N, E], and heads are split and joined where that is a transpose or a product.
"""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from pocketgenie.genie.transformer import MASKED
from pocketgenie.importers.tinyworlds_config import DynamicsSizes, TransformerSizes

EPS = 1e-5


class Past(NamedTuple):
    """The memory as the blocks read it, laid out once per frame."""

    keys_WPE: list[Tensor]
    """One per block"""
    values_WPE: list[Tensor]
    mask_W: Tensor
    """0 where the slot counts, MASKED elsewhere"""
    filled: Tensor
    """int32 [1]: frames in the memory, so the place of the next one in the window"""


def past_from_memory(memory_WL2PE: Tensor, ages_W: Tensor, filled: Tensor) -> Past:
    """Read a ring. ages int32 [W] >= 1, filled int32 [1]; in which slot a frame lies does not matter."""
    mask = (ages_W > filled).to(memory_WL2PE.dtype) * MASKED
    layers = range(memory_WL2PE.shape[1])
    keys, values = ([memory_WL2PE[:, layer, part] for layer in layers] for part in (0, 1))
    return Past(keys, values, mask, filled)


def sinusoid(length: int, dim: int) -> Tensor:
    """[length, dim]: sines and cosines of the same angles, interleaved (arXiv 1706.03762, section 3.5)"""
    angles = torch.arange(length)[:, None] / 10000 ** (torch.arange(0, dim, 2) / dim)
    return torch.stack([angles.sin(), angles.cos()], -1).flatten(1)


def place_table(sizes: TransformerSizes) -> Tensor:
    """[P, E]: the column's vector, the row's, zeros where the time's stands."""
    column, row, time = sizes.position_dims
    side = sizes.side
    across = sinusoid(side, column).repeat(side, 1)
    down = sinusoid(side, row).repeat_interleave(side, 0)
    return torch.cat([across, down, torch.zeros(side * side, time)], -1)


def time_table(sizes: TransformerSizes, length: int) -> Tensor:
    """[length, E]: zeros where the place's vectors stand, then the time's."""
    time = sizes.position_dims[-1]
    return F.pad(sinusoid(length, time), (sizes.embed_dim - time, 0))


class Gain(nn.Module):
    def __init__(self, dim: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(dim))


class Norm(nn.Module):
    """After each sub-layer: RMS with a gain; or, where `action_dim` says how wide an action's vector is,
    LayerNorm that the action scales and shifts (FiLM, arXiv 1709.07871)."""

    def __init__(self, dim: int, action_dim: int | None) -> None:
        super().__init__()
        self.dim = dim
        if action_dim is None:
            self.rms = Gain(dim)
        else:
            self.to_gamma_beta = nn.Sequential(nn.SiLU(), nn.Linear(action_dim, 2 * dim))

    def modulation(self, vectors_KA: Tensor) -> Tensor:
        """K action vectors -> gain and shift [K, 2, E]"""
        projected = self.to_gamma_beta(vectors_KA)
        return torch.stack([1 + projected[:, : self.dim], projected[:, self.dim :]], 1)

    def forward(self, x_NE: Tensor, modulation_T2E: Tensor | None) -> Tensor:
        if modulation_T2E is None:
            mean = x_NE.pow(2).mean(-1, keepdim=True)
            return x_NE / (mean + EPS).sqrt() * self.rms.weight  # in the form that runtimes fuse
        gain_TE, shift_TE = modulation_T2E[:, 0], modulation_T2E[:, 1]
        frames = len(modulation_T2E)
        if frames == 1:  # the operator's own gain and shift
            return F.layer_norm(x_NE, (self.dim,), gain_TE[0], shift_TE[0], EPS)
        normed_TPE = F.layer_norm(x_NE, (self.dim,), eps=EPS).view(frames, -1, self.dim)
        return (normed_TPE * gain_TE[:, None] + shift_TE[:, None]).flatten(0, 1)


class Attention(nn.Module):
    def __init__(self, sizes: TransformerSizes, action_dim: int | None) -> None:
        super().__init__()
        dim, self.heads = sizes.embed_dim, sizes.num_heads
        self.head_dim = dim // self.heads
        self.q_proj, self.k_proj = nn.Linear(dim, dim), nn.Linear(dim, dim)
        self.v_proj, self.out_proj = nn.Linear(dim, dim), nn.Linear(dim, dim)
        self.norm = Norm(dim, action_dim)
        membership = torch.eye(self.heads).repeat_interleave(self.head_dim, 0)
        self.register_buffer("membership_Eh", membership, persistent=False)
        self.membership_Eh: Tensor

    def project(self, x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """-> queries (scaled, in the weights), keys, values, each like x"""
        scale = self.head_dim**-0.5
        q = F.linear(x, self.q_proj.weight * scale, self.q_proj.bias * scale)
        return q, self.k_proj(x), self.v_proj(x)

    def spatial(self, x_NE: Tensor, frames: int) -> Tensor:
        """Every patch of a frame sees all patches of that frame. All products are of [d, P]: of such, both
        operands' transposes are part of a runtime's product, those of [P, h, d] are copies."""
        dim = x_NE.shape[-1]
        q, k, v = (
            t.view(frames, -1, dim).transpose(1, 2).reshape(frames, self.heads, self.head_dim, -1)
            for t in self.project(x_NE)
        )
        weights_ThPP = (q.transpose(-2, -1) @ k).softmax(-1)
        mixed = (v @ weights_ThPP.transpose(-2, -1)).view(frames, dim, -1).transpose(1, 2)
        out: Tensor = self.out_proj(mixed.reshape(-1, dim))
        return out

    def temporal(
        self, x_NE: Tensor, past: tuple[Tensor, Tensor] | None, unseen_TJ: Tensor
    ) -> tuple[Tensor, Tensor]:
        """Every patch sees its own place in J frames, the memory's and the new ones -> [N, E], entries
        [T, 2, P, E]. `unseen` is 0 or MASKED.

        Heads are summed by a product with columns of 0 and 1, which reads the memory as it lies.
        """
        frames, dim = len(unseen_TJ), x_NE.shape[-1]
        q, k, v = (t.view(frames, -1, dim) for t in self.project(x_NE))
        keys, values = (k, v) if past is None else (torch.cat([past[0], k]), torch.cat([past[1], v]))
        scores = (q[:, None] * keys).view(-1, dim) @ self.membership_Eh
        scores_TJX = scores.view(*unseen_TJ.shape, -1) + unseen_TJ[..., None]  # X: place and head
        risen = (scores_TJX - scores_TJX.amax(1, keepdim=True)).exp()  # a runtime's Softmax would transpose
        weights = (risen / risen.sum(1, keepdim=True)).view(-1, self.heads)
        spread_TJPE = (weights @ self.membership_Eh.T).view(*unseen_TJ.shape, -1, dim)
        mixed = (spread_TJPE * values).sum(1).view(-1, dim)
        return self.out_proj(mixed), torch.stack([k, v], 1)


class SwiGlu(nn.Module):
    """arXiv 2002.05202; the project calls the branch with the activation `w_v`."""

    def __init__(self, sizes: TransformerSizes) -> None:
        super().__init__()
        self.w_v, self.w_g = (nn.Linear(sizes.embed_dim, sizes.ffn) for _ in range(2))
        self.w_o = nn.Linear(sizes.ffn, sizes.embed_dim)

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.w_o(F.silu(self.w_v(x)) * self.w_g(x))
        return out


class FeedForward(SwiGlu):
    def __init__(self, sizes: TransformerSizes, action_dim: int | None) -> None:
        super().__init__(sizes)
        self.norm = Norm(sizes.embed_dim, action_dim)


class Experts(nn.Module):
    """A mixture of SwiGLUs, each token's best few weighed by their softmax (arXiv 2401.04088). All of them
    are computed: which ones a token takes would be control flow that depends on data."""

    def __init__(self, sizes: DynamicsSizes, action_dim: int | None) -> None:
        super().__init__()
        self.kept = sizes.top_k_experts
        self.router = nn.Linear(sizes.embed_dim, sizes.num_experts, bias=False)
        self.experts = nn.ModuleList(SwiGlu(sizes) for _ in range(sizes.num_experts))
        self.norm = Norm(sizes.embed_dim, action_dim)

    def forward(self, x: Tensor) -> Tensor:
        scores = self.router(x)
        index = torch.arange(scores.shape[-1], device=x.device)
        ours, theirs = scores.unsqueeze(-1), scores.unsqueeze(-2)
        ahead = (theirs > ours) | ((theirs == ours) & (index[None] < index[:, None]))
        left_out = ahead.to(torch.int32).sum(-1) >= self.kept
        weights = torch.where(left_out, scores + MASKED, scores).softmax(-1)
        parts = [expert(x) * weights[:, i : i + 1] for i, expert in enumerate(self.experts)]
        return torch.stack(parts).sum(0)


class Block(nn.Module):
    def __init__(self, sizes: TransformerSizes, action_dim: int | None) -> None:
        super().__init__()
        self.spatial_attn = Attention(sizes, action_dim)
        self.temporal_attn = Attention(sizes, action_dim)
        self.ffn: Experts | FeedForward
        if isinstance(sizes, DynamicsSizes) and sizes.use_moe:
            self.ffn = Experts(sizes, action_dim)
        else:
            self.ffn = FeedForward(sizes, action_dim)

    def norms(self) -> tuple[Norm, Norm, Norm]:
        """In the order of the sub-layers"""
        return self.spatial_attn.norm, self.temporal_attn.norm, self.ffn.norm

    def forward(
        self,
        x_NE: Tensor,
        past: tuple[Tensor, Tensor] | None,
        unseen_TJ: Tensor,
        modulation_T32E: Tensor | None,
    ) -> tuple[Tensor, Tensor]:
        """-> [N, E], entries [T, 2, P, E]"""
        norms = [
            partial(norm, modulation_T2E=None if modulation_T32E is None else modulation_T32E[:, i])
            for i, norm in enumerate(self.norms())
        ]
        x = norms[0](x_NE + self.spatial_attn.spatial(x_NE, len(unseen_TJ)))
        mixed, entries = self.temporal_attn.temporal(x, past, unseen_TJ)
        x = norms[1](x + mixed)
        return norms[2](x + self.ffn(x)), entries


class Transformer(nn.Module):
    """`window`: the most frames that a pass sees, memory and new ones together."""

    def __init__(self, sizes: TransformerSizes, window: int, action_dim: int | None = None) -> None:
        super().__init__()
        self.blocks = nn.ModuleList(Block(sizes, action_dim) for _ in range(sizes.num_blocks))
        self.register_buffer("time", time_table(sizes, window), persistent=False)
        self.time: Tensor

    def modulation(self, vectors_KA: Tensor) -> Tensor:
        """K action vectors -> every norm's gain and shift, [K, L, 3, 2, E]"""
        norms = [
            torch.stack([norm.modulation(vectors_KA) for norm in block.norms()], 1) for block in self.each()
        ]
        return torch.stack(norms, 1)

    def each(self) -> Iterator[Block]:
        for block in self.blocks:
            assert isinstance(block, Block)
            yield block

    def forward(
        self, x_TPE: Tensor, past: Past | None = None, modulation_TL32E: Tensor | None = None
    ) -> tuple[Tensor, Tensor]:
        """T new frames after the memory's -> [T, P, E], their entries [T, L, 2, P, E]"""
        new = torch.arange(len(x_TPE), device=x_TPE.device)
        unseen_TJ = (new[None] > new[:, None]).to(x_TPE.dtype) * MASKED
        place = new
        if past is not None:
            place = new + past.filled
            unseen_TJ = torch.cat([past.mask_W.expand(len(new), -1), unseen_TJ], 1)
        x = (x_TPE + self.time[place][:, None]).flatten(0, 1)
        entries = []
        for layer, block in enumerate(self.each()):
            before = None if past is None else (past.keys_WPE[layer], past.values_WPE[layer])
            x, entry = block(
                x, before, unseen_TJ, None if modulation_TL32E is None else modulation_TL32E[:, layer]
            )
            entries.append(entry)
        return x.view(x_TPE.shape), torch.stack(entries, 1)
