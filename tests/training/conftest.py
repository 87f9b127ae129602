"""A world so small that each of its parts trains in about a second."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import settings

from pocketgenie.genie.config import GenieConfig

settings.register_profile("no deadline", deadline=None)  # a loaded machine is no failure
settings.load_profile("no deadline")


@pytest.fixture(autouse=True)
def one_thread():
    """Sums in one order, so that two runs can be compared to the bit."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


@pytest.fixture(scope="session")
def config() -> GenieConfig:
    """16x16 pixels, 16 tokens, 4 actions; the codes of both kinds."""
    block = {"layers": 1, "dim": 32, "heads": 2, "head_dim": 16, "ffn": 64, "relative_bias": True}
    both = {"encoder": block, "decoder": block}
    return GenieConfig.model_validate(
        {
            "name": "tiny",
            "height": 16,
            "width": 16,
            "fps": 10,
            "tokenizer": {"patch": 4, "window": 0, "quantizer": {"kind": "fsq", "levels": [5, 5, 5]}} | both,
            "lam": {"patch": 8, "frames": 2, "quantizer": {"kind": "vq", "codes": 4, "dim": 4}} | both,
            "dynamics": {"window": 3, "transformer": block},
            "sampling": {"steps": 2, "temperature": 1.0},
        }
    )


@pytest.fixture(scope="session")
def clips(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """24 clips of 8 frames: a bright square that takes a step of 3 pixels in one of four directions."""
    rng = np.random.default_rng(0)
    frames = np.full((24, 8, 16, 16, 3), 40, np.uint8)
    for clip in frames:
        x, y = rng.integers(13, size=2)
        for frame in clip:
            frame[y : y + 4, x : x + 4] = (220, 180, 90)
            dx, dy = [(3, 0), (-3, 0), (0, 3), (0, -3)][rng.integers(4)]
            x, y = np.clip(x + dx, 0, 12), np.clip(y + dy, 0, 12)
    path = tmp_path_factory.mktemp("clips") / "clips.npz"
    np.savez(path, frames=frames)
    return path
