"""A GenieRedux as a world: one small module per graph, batch 1, static shapes."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from pocketgenie.genie.checkpoint import Part
from pocketgenie.genie.contract import GraphDef, signatures
from pocketgenie.genie.graphs import Play
from pocketgenie.genie.sampler import Sampler
from pocketgenie.importers.genieredux_config import GenieReduxConfig
from pocketgenie.importers.genieredux_dynamics import Dynamics
from pocketgenie.importers.genieredux_video import LatentActionModel, Tokenizer


class Encode(nn.Module):
    def __init__(self, tokenizer: Tokenizer) -> None:
        super().__init__()
        self.tokenizer = tokenizer

    def forward(self, frame: Tensor, *ring: Tensor) -> tuple[Tensor, Tensor]:
        tokens, entry = self.tokenizer.encode_step(frame, *ring)
        return tokens.int(), entry


class Decode(nn.Module):
    def __init__(self, tokenizer: Tokenizer) -> None:
        super().__init__()
        self.tokenizer = tokenizer

    def forward(self, tokens: Tensor, *ring: Tensor) -> tuple[Tensor, Tensor]:
        pixels, entry = self.tokenizer.decode_step(tokens.long(), *ring)
        return to_uint8(pixels), entry


class Observe(nn.Module):
    def __init__(self, dynamics: Dynamics) -> None:
        super().__init__()
        self.dynamics = dynamics

    def forward(self, tokens: Tensor, action: Tensor, *ring: Tensor) -> tuple[Tensor]:
        _, left = self.dynamics.step(action, *ring)
        return (self.dynamics.entry_of(tokens.long(), left),)


class Logits(nn.Module):
    """The new frame's own tokens are no input of the pass that draws it."""

    def __init__(self, dynamics: Dynamics) -> None:
        super().__init__()
        self.dynamics = dynamics

    def forward(self, tokens: Tensor, action: Tensor, *ring: Tensor) -> tuple[Tensor]:
        return (self.dynamics.step(action, *ring)[0],)


class Step(nn.Module):
    """One pass over the last frame gives the new one's logits, and the rest of the last one's memory."""

    def __init__(self, dynamics: Dynamics, sampler: Sampler) -> None:
        super().__init__()
        self.dynamics, self.sampler = dynamics, sampler

    def forward(self, action: Tensor, noise: Tensor, *ring: Tensor) -> tuple[Tensor, Tensor]:
        logits, left = self.dynamics.step(action, *ring)
        tokens = self.sampler(lambda _: logits, lambda rows: rows, noise)
        return tokens.int(), self.dynamics.entry_of(tokens, left)


class InferAction(nn.Module):
    """The action of a clip's last transition; the distances are those to codes of unit length, of which the
    project takes the nearest."""

    def __init__(self, lam: LatentActionModel) -> None:
        super().__init__()
        self.lam = lam

    def forward(self, frames: Tensor) -> tuple[Tensor, Tensor]:
        hidden = self.lam.hidden(self.lam.embed(frames.float().unsqueeze(0)))  # TensorRT: no uint8 inside
        distances = 2 - 2 * self.lam.vq.likeness(self.lam.action(hidden[0, -1]))
        return distances[None].argmin(-1).int(), distances


class GenieReduxWorld:
    """Meets the world contract (pocketgenie.genie.contract.World)."""

    def __init__(self, config: GenieReduxConfig) -> None:
        """Weights are loaded into the three parts, then `settle`d."""
        self.config, self.spec = config, config.spec()
        self.tokenizer = Tokenizer(config.tokenizer, config.grid, config.patch)
        self.dynamics = Dynamics(config.dynamics, config.grid)
        self.lam = LatentActionModel(config.lam, config.grid, config.patch) if config.lam else None

    def parts(self) -> dict[Part, nn.Module]:
        """By the names of their safetensors files."""
        parts: dict[Part, nn.Module] = {"tokenizer": self.tokenizer, "dynamics": self.dynamics}
        return parts | ({"lam": self.lam} if self.lam else {})

    @torch.no_grad()
    def settle(self) -> None:
        """Make what depends on the weights alone; they stay as they are from here on."""
        for part in self.parts().values():
            part.eval().requires_grad_(False)
        self.tokenizer.settle()
        if self.lam:
            self.lam.settle()
        self.dynamics.settle(
            self.lam.vq.codes() if self.lam else None,
            self.tokenizer.vq.codes() if self.config.use_token else None,
        )

    def graphs(self) -> dict[str, GraphDef]:
        step, decode = Step(self.dynamics, Sampler(self.spec)), Decode(self.tokenizer)
        modules: dict[str, nn.Module] = {
            "encode": Encode(self.tokenizer),
            "observe": Observe(self.dynamics),
            "step": step,
            "decode": decode,
            "play": Play(step, decode),
            "logits": Logits(self.dynamics),
        }
        if self.lam:
            modules["infer_action"] = InferAction(self.lam)
        shapes = signatures(self.spec)
        return {name: GraphDef(module.eval(), *shapes[name]) for name, module in modules.items()}

    def full_logits(self, tokens_TS: Tensor, actions_T: Tensor) -> Tensor:
        """Of the last W past frames, the first of them at position 0; zeros without a past frame."""
        past, led_on = tokens_TS[:-1][-self.config.window :], actions_T[1:][-self.config.window :]
        if not len(past):
            return torch.zeros(self.spec.tokens, self.spec.codebook)
        logits: Tensor = self.dynamics(past[None], led_on[None])
        return logits[0, -1]


def to_uint8(frames_HWC: Tensor) -> Tensor:
    """float in [0, 1] (clamped) -> uint8, rounded half up, in float32 whatever comes in"""
    return torch.floor(frames_HWC.float().clamp(0, 1) * 255 + 0.5).to(torch.uint8)
