"""A research world model of one's own: plain convolutions over the last three frames, no transformer.

It meets pocketgenie's world contract (docs/import.md): a spec, one module per graph with static shapes, and
`full_logits` without a memory, to be measured against. A frame leaves its embedded tokens in the memory.
"""

from __future__ import annotations

from pathlib import Path

import torch
from torch import Tensor, nn

from pocketgenie.genie.checkpoint import load_part
from pocketgenie.genie.contract import GraphDef, sampler_of, signatures
from pocketgenie.genie.spec import Frozen, MemorySpec, WorldSpec

GRID, PATCH, CODES, WINDOW, ACTIONS, WIDTH = 8, 4, 32, 3, 4, 12
SIDE, TOKENS, MASK, NO_ACTION = GRID * PATCH, GRID * GRID, CODES, ACTIONS
ARROWS = {"left": 0, "right": 1, "up": 2, "down": 3}


class Config(Frozen):
    """The `config` of this kind's world.json; refused by name where it does not fit."""

    name: str
    channels: int
    """Of the hidden layers."""
    steps: int = 2
    """N, refinement steps a frame."""


class Net(nn.Module):
    """Tokenizer and dynamics: 32x32 pixels, 8x8 tokens of 32 codes, 4 actions."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.look = nn.Conv2d(3, WIDTH, PATCH, stride=PATCH)
        self.codes = nn.Parameter(torch.randn(CODES, WIDTH))
        self.paint = nn.Linear(WIDTH, PATCH * PATCH * 3)
        self.embedding = nn.Embedding(CODES + 1, WIDTH)
        self.actions = nn.Embedding(ACTIONS + 1, channels)
        self.mix = nn.Conv2d((WINDOW + 1) * WIDTH, channels, 3, padding=1)
        self.deeper = nn.Conv2d(channels, channels, 3, padding=1)
        self.head = nn.Linear(channels, CODES)

    def encode(self, frame: Tensor) -> tuple[Tensor]:
        """uint8 [H, W, 3] -> tokens int32 [S]: the nearest code of each patch"""
        seen = self.look(frame.float().permute(2, 0, 1)[None] / 255)[0].flatten(1).T
        return ((seen[:, None] - self.codes).square().sum(-1).argmin(-1).int(),)

    def decode(self, tokens: Tensor) -> tuple[Tensor]:
        """tokens [S] -> uint8 [H, W, 3]"""
        patches = self.paint(self.codes[tokens.long()]).sigmoid().view(GRID, GRID, PATCH, PATCH, 3)
        pixels = torch.floor(patches.transpose(1, 2).reshape(SIDE, SIDE, 3) * 255 + 0.5)
        return (pixels.to(torch.uint8),)

    def entry(self, tokens: Tensor) -> Tensor:
        """tokens [S], MASK where masked -> [WIDTH, GRID, GRID]"""
        return self.embedding(tokens.long()).T.unflatten(1, (GRID, GRID))

    def hidden(self, tokens: Tensor, action: Tensor, past: Tensor) -> Tensor:
        """past [WINDOW, WIDTH, GRID, GRID], the frame before this one first -> [S, channels]"""
        frames = torch.cat([past.flatten(0, 1), self.entry(tokens)])[None]
        first = torch.relu(self.mix(frames) + self.actions(action.long()).view(1, -1, 1, 1))
        return (first + torch.relu(self.deeper(first)))[0].flatten(1).T

    def observe(self, tokens: Tensor, action: Tensor, *ring: Tensor) -> tuple[Tensor]:
        return (self.entry(tokens),)

    def logits(self, tokens: Tensor, action: Tensor, *ring: Tensor) -> tuple[Tensor]:
        return (self.head(self.hidden(tokens, action, by_age(*ring))),)


def by_age(memory: Tensor, ages: Tensor, filled: Tensor) -> Tensor:
    """The ring, youngest frame first, zeros where there is none yet. Slots lie in any order of age."""
    wanted = torch.arange(1, WINDOW + 1, dtype=torch.int32)[:, None]
    pick = ((ages[None] == wanted) & (wanted <= filled)).float()
    return (pick @ memory.flatten(1)).view(memory.shape)


class Graph(nn.Module):
    """One graph: a function, and the modules whose weights it reads."""

    def __init__(self, function, *parts: nn.Module) -> None:
        super().__init__()
        self.function, self.parts = function, nn.ModuleList(parts)

    def forward(self, *inputs: Tensor) -> tuple[Tensor, ...]:
        return self.function(*inputs)


class DriftWorld:
    """The contract: spec, graphs, full_logits."""

    def __init__(self, config: Config, net: Net) -> None:
        self.net = net
        self.spec = WorldSpec(
            name=config.name,
            height=SIDE,
            width=SIDE,
            grid=(GRID, GRID),
            codebook=CODES,
            actions=ACTIONS,
            steps=config.steps,
            temperature=1.0,
            fps=10,
            action_frames=0,  # no action model
            arrows=ARROWS,
            memories={"dynamics": MemorySpec(slots=WINDOW, entry=(WIDTH, GRID, GRID))},
        )
        self.sampler = sampler_of(self)

    def step(self, action: Tensor, noise: Tensor, *ring: Tensor) -> tuple[Tensor, Tensor]:
        """All refinement steps of a frame -> its tokens, its memory entry"""
        past = by_age(*ring)
        tokens = self.sampler(lambda masked: self.net.hidden(masked, action, past), self.net.head, noise)
        return tokens.int(), self.net.entry(tokens)

    def play(self, *inputs: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """`step` and `decode` in one -> tokens, frame, entry"""
        tokens, entry = self.step(*inputs)
        return tokens, *self.net.decode(tokens), entry

    def graphs(self) -> dict[str, GraphDef]:
        net = self.net
        functions = {"encode": net.encode, "observe": net.observe, "decode": net.decode, "logits": net.logits}
        functions |= {"step": self.step, "play": self.play}
        shapes = signatures(self.spec)
        return {
            name: GraphDef(Graph(function, net, self.sampler).eval(), *shapes[name])
            for name, function in functions.items()
        }

    def full_logits(self, tokens_TS: Tensor, actions_T: Tensor) -> Tensor:
        past = torch.zeros(WINDOW, WIDTH, GRID, GRID)
        for age, tokens in enumerate(tokens_TS[:-1].flip(0)[:WINDOW]):
            past[age] = self.net.entry(tokens)
        return self.net.head(self.net.hidden(tokens_TS[-1], actions_T[-1:], past))


def load(folder: Path, config: Config) -> DriftWorld:
    """A checkpoint folder as a world: world.json and world.safetensors."""
    net = Net(config.channels)
    load_part(folder, "world", net)
    return DriftWorld(config, net.eval().requires_grad_(False))


def with_steps(config: Config, steps: int) -> Config:
    """For `distill steps` and the precision search: the same world in N steps."""
    return config.model_copy(update={"steps": steps})


def trained(world: DriftWorld) -> tuple[str, nn.Module]:
    """For `distill steps`: the file's stem and what it holds."""
    return "world", world.net
