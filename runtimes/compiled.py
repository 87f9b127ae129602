"""Runtime `compiled`: torch.compile of the reference, tuned as a good user would (frozen weights, static shapes)."""

from __future__ import annotations

import torch
from torch._inductor import config as inductor

from pocketgenie.export.bundle import Bundle
from pocketgenie.runtimes.reference import Forward, TorchBackend, reference_world
from pocketgenie.runtimes.session import GraphSession


def _compile(module: torch.nn.Module) -> Forward:
    return torch.compile(module, dynamic=False, fullgraph=True)


def load(bundle: Bundle) -> GraphSession:
    inductor.freezing = True  # weights become constants, packed for the CPU's matrix kernels
    world = reference_world(bundle)
    return GraphSession(world.spec, TorchBackend(world.graphs(), _compile))
