"""The space-time transformer of TinyWorlds, over whole windows and frame by frame, in one way.

Post-norm blocks of three: attention within a frame, causal attention in time at each patch, SwiGLU. A pass takes
T new frames and the memory of the W frames before them; a whole window is the pass without a memory. Module names
are those of the project's state dicts. P patches, E width, h heads, A numbers of an action's vector.
"""

from __future__ import annotations

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
    """Read a ring. ages int32 [W] >= 1, filled int32 [1]. Where a slot stands does not matter to attention."""
    mask = (ages_W > filled).to(memory_WL2PE.dtype) * MASKED
    parts = memory_WL2PE.flatten(1, 2).unbind(1)
    return Past(list(parts[0::2]), list(parts[1::2]), mask, filled)


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
    """After each sub-layer: RMS with a gain; or, where `action_dim` says how wide an action's vector is, LayerNorm
    that the action scales and shifts (FiLM, arXiv 1709.07871)."""

    def __init__(self, dim: int, action_dim: int | None) -> None:
        super().__init__()
        self.shape = (dim,)
        if action_dim is None:
            self.rms = Gain(dim)
        else:
            self.to_gamma_beta = nn.Sequential(nn.SiLU(), nn.Linear(action_dim, 2 * dim))

    def forward(self, x_TPE: Tensor, modulation_T2E: Tensor | None) -> Tensor:
        if modulation_T2E is None:
            return F.rms_norm(x_TPE, self.shape, self.rms.weight, EPS)
        gain_TE, shift_TE = modulation_T2E.unbind(1)
        if len(x_TPE) == 1:  # one frame: the operator's own gain and shift
            return F.layer_norm(x_TPE, self.shape, gain_TE[0], shift_TE[0], EPS)
        return F.layer_norm(x_TPE, self.shape, eps=EPS) * gain_TE[:, None] + shift_TE[:, None]


class Attention(nn.Module):
    def __init__(self, sizes: TransformerSizes, action_dim: int | None) -> None:
        super().__init__()
        dim = sizes.embed_dim
        self.heads, self.head_dim = sizes.num_heads, dim // sizes.num_heads
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

    def spatial(self, x_TPE: Tensor) -> Tensor:
        """Every patch of a frame sees all patches of that frame."""
        T, P, _ = x_TPE.shape
        q, k, v = (t.view(T, P, self.heads, -1).transpose(1, 2) for t in self.project(x_TPE))
        mixed = (q @ k.transpose(-2, -1)).softmax(-1) @ v
        out: Tensor = self.out_proj(mixed.transpose(1, 2).reshape(T, P, -1))
        return out

    def temporal(
        self, x_TPE: Tensor, past: tuple[Tensor, Tensor] | None, unseen_TJ11: Tensor
    ) -> tuple[Tensor, ...]:
        """Every patch sees its own place in J frames, the memory's and the new ones ->
        [T, P, E], entries [T, 2, P, E]. `unseen` is 0 or MASKED.

        Heads are a few channels wide in these worlds: they are summed by a product with columns of 0 and 1, which
        reads the memory as it lies and costs less than a tiny product for each place.
        """
        q, k, v = self.project(x_TPE)
        keys, values = (k, v) if past is None else (torch.cat([past[0], k]), torch.cat([past[1], v]))
        scores_TJPh = (q[:, None] * keys) @ self.membership_Eh + unseen_TJ11
        spread_TJPE = scores_TJPh.softmax(1) @ self.membership_Eh.T
        return self.out_proj((spread_TJPE * values).sum(1)), torch.stack([k, v], 1)


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
    """A mixture of SwiGLUs, each token's best few weighed by their softmax (arXiv 2401.04088). All are computed:
    which ones a token takes would be control flow that depends on data."""

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
        parts = [expert(x) * weights[..., i : i + 1] for i, expert in enumerate(self.experts)]
        return torch.stack(parts).sum(0)


class Block(nn.Module):
    def __init__(self, sizes: TransformerSizes, action_dim: int | None) -> None:
        super().__init__()
        self.spatial_attn = Attention(sizes, action_dim)
        self.temporal_attn = Attention(sizes, action_dim)
        mixture = isinstance(sizes, DynamicsSizes) and sizes.use_moe
        self.ffn = Experts(sizes, action_dim) if mixture else FeedForward(sizes, action_dim)

    def forward(
        self,
        x_TPE: Tensor,
        past: tuple[Tensor, Tensor] | None,
        unseen_TJ11: Tensor,
        modulation_T32E: Tensor | None,
    ) -> tuple[Tensor, Tensor]:
        """-> [T, P, E], entries [T, 2, P, E]"""
        space, time, ffn = (None, None, None) if modulation_T32E is None else modulation_T32E.unbind(1)
        x = self.spatial_attn.norm(x_TPE + self.spatial_attn.spatial(x_TPE), space)
        mixed, entries = self.temporal_attn.temporal(x, past, unseen_TJ11)
        x = self.temporal_attn.norm(x + mixed, time)
        return self.ffn.norm(x + self.ffn(x), ffn), entries


class Transformer(nn.Module):
    """`window`: the most frames that a pass sees, memory and new ones together."""

    def __init__(self, sizes: TransformerSizes, window: int, action_dim: int | None = None) -> None:
        super().__init__()
        self.blocks = nn.ModuleList(Block(sizes, action_dim) for _ in range(sizes.num_blocks))
        self.register_buffer("time", time_table(sizes, window), persistent=False)
        self.time: Tensor

    def modulation(self, vectors_NA: Tensor) -> Tensor:
        """Action vectors -> every norm's gain and shift, [N, L, 3, 2, E]"""
        layers = []
        for block in self.blocks:
            for part in (block.spatial_attn, block.temporal_attn, block.ffn):
                projected = part.norm.to_gamma_beta(vectors_NA)
                dim = projected.shape[-1] // 2
                layers.append(torch.stack([1 + projected[:, :dim], projected[:, dim:]], 1))
        return torch.stack(layers, 1).unflatten(1, (len(self.blocks), 3))

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
        x = x_TPE + self.time[place][:, None]
        entries = []
        for layer, block in enumerate(self.blocks):
            before = None if past is None else (past.keys_WPE[layer], past.values_WPE[layer])
            modulation = None if modulation_TL32E is None else modulation_TL32E[:, layer]
            x, entry = block(x, before, unseen_TJ[..., None, None], modulation)
            entries.append(entry)
        return x, torch.stack(entries, 1)
