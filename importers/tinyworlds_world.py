"""A TinyWorlds model as a world: its graphs, batch 1, static shapes, with the memory of W frames."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from pocketgenie.genie.contract import GraphDef, signatures
from pocketgenie.genie.graphs import Play
from pocketgenie.genie.pixels import to_uint8
from pocketgenie.importers.tinyworlds_model import Dynamics, TinyWorlds, VideoTokenizer, to_float
from pocketgenie.importers.tinyworlds_sampler import ConfidenceSampler
from pocketgenie.importers.tinyworlds_transformer import Past, past_from_memory


class Encode(nn.Module):
    def __init__(self, tokenizer: VideoTokenizer) -> None:
        super().__init__()
        self.tokenizer = tokenizer

    def forward(self, frame: Tensor, *ring: Tensor) -> tuple[Tensor, Tensor]:
        tokens, entries = self.tokenizer.encode(to_float(frame)[None], past_from_memory(*ring))
        return tokens[0].int(), entries[0]


class Decode(nn.Module):
    def __init__(self, tokenizer: VideoTokenizer) -> None:
        super().__init__()
        self.tokenizer = tokenizer

    def forward(self, tokens: Tensor, *ring: Tensor) -> tuple[Tensor, Tensor]:
        frames, entries = self.tokenizer.decode(tokens.long()[None], past_from_memory(*ring))
        return to_uint8(frames[0]), entries[0]


class NextFrame(nn.Module):
    """One frame after the memory: what `observe`, `logits` and `step` share."""

    def __init__(self, dynamics: Dynamics) -> None:
        super().__init__()
        self.dynamics = dynamics

    def modulation(self, action: Tensor, past: Past) -> Tensor:
        """Of the action that leads to the frame; the first of a window follows none."""
        none = torch.full_like(action, len(self.dynamics.action_vectors))
        return self.dynamics.modulation(torch.where(past.filled == 0, none, action).long())

    def run(self, tokens_P: Tensor, modulation: Tensor, past: Past) -> tuple[Tensor, Tensor]:
        """-> hidden [P, E], entry [L, 2, P, E]"""
        embedded = self.dynamics.embed(tokens_P)[None]
        hidden, entries = self.dynamics.transformer(embedded, past, modulation)
        return hidden[0], entries[0]


class Observe(NextFrame):
    def forward(self, tokens: Tensor, action: Tensor, *ring: Tensor) -> tuple[Tensor]:
        past = past_from_memory(*ring)
        return (self.run(tokens.long(), self.modulation(action, past), past)[1],)


class Logits(NextFrame):
    def forward(self, tokens: Tensor, action: Tensor, *ring: Tensor) -> tuple[Tensor]:
        past = past_from_memory(*ring)
        return (self.dynamics.output_mlp(self.run(tokens.long(), self.modulation(action, past), past)[0]),)


class Step(NextFrame):
    """The refinement passes, then one over the finished frame for its memory entry."""

    def __init__(self, dynamics: Dynamics, sampler: ConfidenceSampler) -> None:
        super().__init__(dynamics)
        self.sampler = sampler

    def forward(self, action: Tensor, noise: Tensor, *ring: Tensor) -> tuple[Tensor, Tensor]:
        past = past_from_memory(*ring)
        modulation = self.modulation(action, past)
        tokens = self.sampler(
            lambda masked: self.run(masked, modulation, past)[0], self.dynamics.output_mlp, noise
        )
        return tokens.int(), self.run(tokens, modulation, past)[1]


class Prefill(nn.Module):
    """A whole window again from its first frame, as `observe` and `decode` would take it frame by frame."""

    def __init__(self, dynamics: Dynamics, tokenizer: VideoTokenizer) -> None:
        super().__init__()
        self.dynamics, self.tokenizer = dynamics, tokenizer

    def forward(self, tokens: Tensor, actions: Tensor) -> tuple[Tensor, ...]:
        none = torch.full_like(actions[:1], len(self.dynamics.action_vectors))
        modulation = self.dynamics.modulation(torch.cat([none, actions[1:]]).long())
        _, entries = self.dynamics.transformer(self.dynamics.embed(tokens.long()), None, modulation)
        _, decoder_entries = self.tokenizer.decode(tokens.long())
        return tuple(entry for pair in zip(entries, decoder_entries, strict=True) for entry in pair)


class InferAction(nn.Module):
    def __init__(self, world: TinyWorlds) -> None:
        super().__init__()
        self.lam = world.lam

    def forward(self, frames: Tensor) -> tuple[Tensor, Tensor]:
        z_A = self.lam.encoder(to_float(frames))[-1]
        distances = (torch.tanh(z_A) - self.lam.quantizer.vectors()).square().sum(-1)
        return self.lam.quantizer.ids(z_A)[None].int(), distances


class TinyWorldsWorld:
    """Meets the world contract (pocketgenie.genie.contract.World)."""

    def __init__(self, model: TinyWorlds) -> None:
        self.model = model
        self.spec = model.config.spec()

    def sampler(self) -> ConfidenceSampler:
        return ConfidenceSampler(self.spec)

    def graphs(self) -> dict[str, GraphDef]:
        tokenizer, dynamics = self.model.tokenizer, self.model.dynamics
        step, decode = Step(dynamics, self.sampler()), Decode(tokenizer)
        modules: dict[str, nn.Module] = {
            "encode": Encode(tokenizer),
            "observe": Observe(dynamics),
            "step": step,
            "decode": decode,
            "play": Play(step, decode),
            "logits": Logits(dynamics),
            "infer_action": InferAction(self.model),
            "prefill": Prefill(dynamics, tokenizer),
        }
        shapes = signatures(self.spec)
        return {name: GraphDef(module.eval(), *shapes[name]) for name, module in modules.items()}

    def full_logits(self, tokens_TS: Tensor, actions_T: Tensor) -> Tensor:
        window = self.spec.memories["dynamics"].slots + 1
        none = actions_T.new_full((1,), self.spec.no_action)
        actions_T = torch.cat([none, actions_T[-window:][1:]])
        logits: Tensor = self.model.dynamics(tokens_TS[-window:], actions_T)[-1]
        return logits
