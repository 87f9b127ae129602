"""The native Genie as a world: one small module per graph, batch 1, static shapes.

As a kind of world (importers/kinds.py) this module is the row of NATIVE: Config, load, with_steps, trained.
"""

from __future__ import annotations

from pathlib import Path
from typing import Protocol

from torch import Tensor, nn

from pocketgenie.genie.checkpoint import Genie, load_genie
from pocketgenie.genie.config import GenieConfig
from pocketgenie.genie.contract import GraphDef, signatures
from pocketgenie.genie.lam import LatentActionModel
from pocketgenie.genie.sampler import Sampler
from pocketgenie.genie.transformer import Past, past_from_memory

Config = GenieConfig


class Pictures(Protocol):
    """What the graphs need of a tokenizer; with `past`, an entry for its memory comes back too."""

    def encode_step(self, frame_HWC: Tensor, past: Past | None) -> tuple[Tensor, Tensor | None]: ...
    def decode_step(self, tokens_S: Tensor, past: Past | None) -> tuple[Tensor, Tensor | None]: ...


class Predictor(Protocol):
    """What the graphs need of a dynamics model."""

    def step(self, tokens_S: Tensor, action_1: Tensor, past: Past) -> tuple[Tensor, Tensor]: ...
    def head(self, hidden: Tensor) -> Tensor: ...


class Encode(nn.Module):
    def __init__(self, tokenizer: Pictures) -> None:
        super().__init__()
        self.tokenizer = tokenizer

    def forward(self, frame: Tensor, *ring: Tensor) -> tuple[Tensor, ...]:
        tokens, entry = self.tokenizer.encode_step(frame, past_from_memory(*ring) if ring else None)
        return (tokens.int(),) if entry is None else (tokens.int(), entry)


class Decode(nn.Module):
    def __init__(self, tokenizer: Pictures) -> None:
        super().__init__()
        self.tokenizer = tokenizer

    def forward(self, tokens: Tensor, *ring: Tensor) -> tuple[Tensor, ...]:
        frame, entry = self.tokenizer.decode_step(tokens.long(), past_from_memory(*ring) if ring else None)
        return (frame,) if entry is None else (frame, entry)


class Observe(nn.Module):
    def __init__(self, dynamics: Predictor) -> None:
        super().__init__()
        self.dynamics = dynamics

    def forward(
        self, tokens: Tensor, action: Tensor, memory: Tensor, ages: Tensor, filled: Tensor
    ) -> tuple[Tensor]:
        _, entry = self.dynamics.step(tokens.long(), action, past_from_memory(memory, ages, filled))
        return (entry,)


class Logits(nn.Module):
    def __init__(self, dynamics: Predictor) -> None:
        super().__init__()
        self.dynamics = dynamics

    def forward(
        self, tokens: Tensor, action: Tensor, memory: Tensor, ages: Tensor, filled: Tensor
    ) -> tuple[Tensor]:
        hidden, _ = self.dynamics.step(tokens.long(), action, past_from_memory(memory, ages, filled))
        return (self.dynamics.head(hidden),)


class Step(nn.Module):
    """N refinement passes, then one pass over the finished frame for its memory entry."""

    def __init__(self, dynamics: Predictor, sampler: Sampler) -> None:
        super().__init__()
        self.dynamics, self.sampler = dynamics, sampler

    def forward(
        self, action: Tensor, noise: Tensor, memory: Tensor, ages: Tensor, filled: Tensor
    ) -> tuple[Tensor, Tensor]:
        past = past_from_memory(memory, ages, filled)
        tokens = self.sampler(
            lambda masked: self.dynamics.step(masked, action, past)[0], self.dynamics.head, noise
        )
        _, entry = self.dynamics.step(tokens, action, past)
        return tokens.int(), entry


class Play(nn.Module):
    """`step` and `decode` fused, of any world: one call per displayed frame."""

    def __init__(self, step: nn.Module, decode: nn.Module) -> None:
        super().__init__()
        self.step, self.decode = step, decode

    def forward(
        self, action: Tensor, noise: Tensor, memory: Tensor, ages: Tensor, filled: Tensor, *ring: Tensor
    ) -> tuple[Tensor, ...]:
        tokens, entry = self.step(action, noise, memory, ages, filled)
        frame, *decoder_entry = self.decode(tokens, *ring)
        return (tokens, frame, entry, *decoder_entry)


class InferAction(nn.Module):
    def __init__(self, lam: LatentActionModel) -> None:
        super().__init__()
        self.lam = lam

    def forward(self, frames: Tensor) -> tuple[Tensor, Tensor]:
        # float first, same values: TensorRT takes uint8 at a graph's edge only
        action, distances = self.lam.infer(frames.float().unsqueeze(0))
        return action.int(), distances[0]


class GenieWorld:
    """A native Genie that meets the world contract (pocketgenie.genie.contract.World)."""

    def __init__(self, genie: Genie) -> None:
        self.genie = genie
        self.spec = genie.config.spec()

    def graphs(self) -> dict[str, GraphDef]:
        dynamics, tokenizer = self.genie.dynamics, self.genie.tokenizer
        step, decode = Step(dynamics, Sampler(self.spec)), Decode(tokenizer)
        modules: dict[str, nn.Module] = {
            "encode": Encode(tokenizer),
            "observe": Observe(dynamics),
            "step": step,
            "decode": decode,
            "play": Play(step, decode),
            "logits": Logits(dynamics),
            "infer_action": InferAction(self.genie.lam),
        }
        shapes = signatures(self.spec)
        return {name: GraphDef(module.eval(), *shapes[name]) for name, module in modules.items()}

    def full_logits(self, tokens_TS: Tensor, actions_T: Tensor) -> Tensor:
        dynamics = self.genie.dynamics
        embedded = dynamics.embed(tokens_TS[None], actions_T[None])
        return dynamics.head(dynamics.transformer(embedded)[0, -1])


def load_world(folder: Path) -> GenieWorld:
    """A checkpoint folder as a world. Raises UserError."""
    return GenieWorld(load_genie(folder))


def load(folder: Path, config: GenieConfig) -> GenieWorld:
    """The world of a checkpoint folder. Raises UserError."""
    return load_world(folder)


def with_steps(config: GenieConfig, steps: int) -> GenieConfig:
    """The same world in N steps a frame. Raises ValidationError."""
    document = config.model_dump()
    document["sampling"]["steps"] = steps
    return GenieConfig.model_validate(document)


def trained(world: GenieWorld) -> tuple[str, nn.Module]:
    """What distillation of steps trains, and its file's stem."""
    return "dynamics", world.genie.dynamics
