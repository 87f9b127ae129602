"""One frame through an ST-transformer as a GPU likes it: `STTransformer.step` in fewer and fuller kernels.

What differs: one product for queries, keys and values (three of a third of the width leave more of the card
idle in their last wave of tiles), fused spatial attention below float32, position biases gathered once, the
entry written in place. A layer is one module whose inputs are tensors alone, so that torch.compile compiles
one layer, and all layers and refinement passes share it.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Mapping
from dataclasses import replace

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from pocketgenie.genie.contract import GraphDef
from pocketgenie.genie.dynamics import Dynamics
from pocketgenie.genie.tokenizer import Tokenizer
from pocketgenie.genie.transformer import Attention, Block, Past, STTransformer

Compile = Callable[[nn.Module], Callable[..., Tensor]]
"""What a layer is run as: itself, or compiled."""


class Heads(nn.Module):
    """[S, D] -> queries (scaled), keys, values [S, h, k] from one product. Shares the weights of `plain`."""

    def __init__(self, plain: Attention) -> None:
        super().__init__()
        self.shape = (3, plain.heads, plain.head_dim)
        self.norm, self.qkv, self.k_norm = plain.norm, plain.qkv, plain.k_norm
        scaled = plain.q_norm.weight.detach() * plain.head_dim**-0.5
        self.register_buffer("q_scale", scaled, persistent=False)
        self.q_scale: Tensor

    def forward(self, x_SD: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        q, k, v = self.qkv(self.norm(x_SD)).unflatten(-1, self.shape).unbind(-3)
        return F.layer_norm(q, self.shape[2:], self.q_scale), self.k_norm(k), v


class Layer(nn.Module):
    """One block. Shares the weights of `plain`."""

    def __init__(self, plain: Block) -> None:
        super().__init__()
        spatial, temporal = plain.spatial, plain.temporal
        self.space, self.space_out = Heads(spatial), spatial.out
        self.time = Heads(temporal) if temporal is not None else None
        self.time_out = temporal.out if temporal is not None else None
        self.ffn = plain.ffn
        bias = None if spatial.bias_table is None else spatial.bias_table.detach()[:, spatial.offsets]
        self.register_buffer("space_bias", bias, persistent=False)
        self.space_bias: Tensor | None

    def forward(
        self,
        x_SD: Tensor,
        keys_ShkW: Tensor | None = None,
        values_ShWk: Tensor | None = None,
        bias_hW1: Tensor | None = None,
        entry_2Shk: Tensor | None = None,
    ) -> Tensor:
        """[S, D] -> [S, D]; writes this layer's keys and values into `entry_2Shk`. The last of the W + 1 ages
        is the frame itself. Without time, `x_SD` is all there is."""
        x = x_SD + self._within_the_frame(x_SD)
        if self.time is not None and self.time_out is not None:
            assert keys_ShkW is not None and values_ShWk is not None
            assert bias_hW1 is not None and entry_2Shk is not None
            q, k, v = self.time(x)
            entry_2Shk[0].copy_(k)
            entry_2Shk[1].copy_(v)
            from_past = (q.unsqueeze(-2) @ keys_ShkW).squeeze(-2)
            from_self = (q * k).sum(-1, keepdim=True)
            weights = (torch.cat([from_past, from_self], -1) + bias_hW1).softmax(-1)
            mixed = (weights[..., None, :-1] @ values_ShWk).squeeze(-2) + weights[..., -1:] * v
            x = x + self.time_out(mixed.flatten(-2))
        fed: Tensor = self.ffn(x)
        return x + fed

    def _within_the_frame(self, x_SD: Tensor) -> Tensor:
        q, k, v = (t.transpose(0, 1) for t in self.space(x_SD))  # [h, S, k]
        if (
            x_SD.dtype == torch.float32
        ):  # parity is judged there: no kernel that might round to TensorFloat-32
            scores = q @ k.transpose(-2, -1)
            if self.space_bias is not None:
                scores = scores + self.space_bias
            mixed = scores.softmax(-1) @ v
        else:
            q, k, v = (t.unsqueeze(0) for t in (q, k, v))
            mixed = F.scaled_dot_product_attention(q, k, v, self.space_bias, scale=1.0)[0]
        out: Tensor = self.space_out(mixed.transpose(0, 1).flatten(-2))
        return out


class FrameTransformer(nn.Module):
    """Takes the place of an STTransformer where one frame is played: it has `step`, not `forward`."""

    def __init__(self, plain: STTransformer, compile_layer: Compile) -> None:
        super().__init__()
        blocks = [block for block in plain.blocks if isinstance(block, Block)]
        self.layers = nn.ModuleList(Layer(block) for block in blocks)
        self.norm = plain.norm
        times = [block.temporal for block in blocks if block.temporal is not None]
        biases = torch.stack([time.age_bias.detach() for time in times]) if times else None
        self.register_buffer("age_bias_LhW1", biases, persistent=False)
        self.age_bias_LhW1: Tensor | None
        self.entry_2hk = (2, times[0].heads, times[0].head_dim) if times else None
        self.run: list[Callable[..., Tensor]] = [compile_layer(layer) for layer in self.layers]

    def step(self, x_SD: Tensor, past: Past | None) -> tuple[Tensor, Tensor | None]:
        """One frame [S, D] -> normalised [S, D] and its memory entry [L, 2, S, h, k] (None without time)."""
        x, entry = x_SD, None
        if past is not None and self.age_bias_LhW1 is not None and self.entry_2hk is not None:
            two, heads, head_dim = self.entry_2hk
            entry = x.new_empty(len(self.run), two, len(x), heads, head_dim)
            ages_W1, mask_W1 = F.pad(past.ages_W, (0, 1)), F.pad(past.mask_W, (0, 1))
            biases = self.age_bias_LhW1[:, :, ages_W1] + mask_W1
            for index, layer in enumerate(self.run):
                x = layer(x, past.keys_ShkW[index], past.values_ShWk[index], biases[index], entry[index])
        else:
            for layer in self.run:
                x = layer(x)
        return self.norm(x), entry


class FrameDynamics(nn.Module):
    """Takes the place of Dynamics likewise; what its tables make of the weights alone is made once."""

    def __init__(self, plain: Dynamics, compile_layer: Compile) -> None:
        super().__init__()
        described = plain.features @ plain.feature_in
        table = plain.code_in + torch.cat([described, torch.zeros_like(described[:1])])
        self.register_buffer("table_in", table.detach(), persistent=False)
        self.register_buffer(
            "table_out", (plain.code_out + plain.features @ plain.feature_out).detach(), persistent=False
        )
        self.table_in: Tensor
        self.table_out: Tensor
        self.position, self.action_in = plain.position, plain.action_in
        self.transformer = FrameTransformer(plain.transformer, compile_layer)

    def step(self, tokens_S: Tensor, action_1: Tensor, past: Past) -> tuple[Tensor, Tensor]:
        """Dynamics.step"""
        embedded = F.embedding(tokens_S, self.table_in) + self.position
        hidden, entry = self.transformer.step(embedded + F.embedding(action_1, self.action_in), past)
        assert entry is not None
        return hidden, entry

    def head(self, hidden: Tensor) -> Tensor:
        """[..., D] -> logits [..., V]"""
        return F.linear(hidden, self.table_out)


def with_frame_steps(graphs: Mapping[str, GraphDef], compile_layer: Compile) -> dict[str, GraphDef]:
    """The same graphs, weights shared, with the modules above wherever they step frame by frame. The latent
    action model stays as it is: it passes whole clips."""
    modules = {name: graph.module for name, graph in graphs.items()}
    tensors = [t for module in modules.values() for t in (*module.parameters(), *module.buffers())]
    copies = copy.deepcopy(modules, {id(tensor): tensor for tensor in tensors})
    made: dict[nn.Module, nn.Module] = {}
    for module in copies.values():
        for parent in list(module.modules()):
            for name, child in list(parent.named_children()):
                if child not in made and isinstance(child, Dynamics):
                    made[child] = FrameDynamics(child, compile_layer)
                if child not in made and isinstance(child, STTransformer) and isinstance(parent, Tokenizer):
                    made[child] = FrameTransformer(child, compile_layer)
                if child in made:
                    setattr(parent, name, made[child])
    return {name: replace(graph, module=copies[name]) for name, graph in graphs.items()}
