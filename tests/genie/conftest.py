"""Small worlds with large random weights: fresh ones start as the identity and would hide every fault."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeVar

import pytest
import torch
from hypothesis import settings
from torch import nn

from pocketgenie.genie.config import GenieConfig

settings.register_profile("no deadline", deadline=None)  # a loaded machine is no failure
settings.load_profile("no deadline")

Module = TypeVar("Module", bound=nn.Module)
FSQ = {"kind": "fsq", "levels": [4, 3, 3]}


def block(**changes: object) -> dict[str, object]:
    return {"layers": 2, "dim": 24, "heads": 2, "head_dim": 8, "ffn": 32, "relative_bias": True} | changes


@pytest.fixture
def small_config() -> Callable[..., GenieConfig]:
    """15x12 pixels in 4x4 patches (padded), grid 4x3, 5 actions; keywords replace whole sections."""

    def make(
        *, window: int = 3, tokenizer_window: int = 0, quantizer: object = FSQ, **changes: object
    ) -> GenieConfig:
        both = {"encoder": block(), "decoder": block(layers=1)}
        document = {
            "name": "small",
            "height": 15,
            "width": 12,
            "fps": 10,
            "tokenizer": {"patch": 4, "window": tokenizer_window, "quantizer": quantizer} | both,
            "lam": {"patch": 8, "frames": 2, "quantizer": {"kind": "vq", "codes": 5, "dim": 3}} | both,
            "dynamics": {"window": window, "transformer": block()},
            "sampling": {"steps": 3, "temperature": 1.0},
        }
        return GenieConfig.model_validate(document | changes)

    return make


@pytest.fixture
def randomised() -> Callable[[Module], Module]:
    """Draw every weight anew, biases and norms included; in eval mode, without gradients."""

    def draw(module: Module) -> Module:
        for weight in module.parameters():
            nn.init.normal_(weight, mean=float(weight.ndim == 1), std=0.3)
        return module.eval().requires_grad_(False)

    torch.manual_seed(0)
    return draw
