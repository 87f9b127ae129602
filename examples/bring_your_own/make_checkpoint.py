"""Write a checkpoint of the kind `drift` and held-out clips beside it: python make_checkpoint.py FOLDER

The weights are drawn, not trained: the example is about the way from a model to a bundle.
"""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import torch
from drift_world import SIDE, Config, Net

from pocketgenie.genie.checkpoint import SCHEMA, WorldHeader, save_header, save_part


def drifting_squares(count: int, length: int) -> np.ndarray:
    """Clips uint8 [count, length, SIDE, SIDE, 3]: a square that drifts over a plain ground."""
    rng = np.random.default_rng(0)
    clips = np.empty((count, length, SIDE, SIDE, 3), np.uint8)
    for clip in clips:
        ground, colour = rng.integers(0, 256, (2, 3))
        place, pace = rng.integers(0, SIDE - 8, 2), rng.integers(-2, 3, 2)
        for frame in clip:
            row, column = place = np.clip(place + pace, 0, SIDE - 8)
            frame[:] = ground
            frame[row : row + 8, column : column + 8] = colour
    return clips


def main(folder: Path) -> None:
    torch.manual_seed(0)
    config = Config(name="drift", channels=24)
    net = Net(config.channels)
    for weight in net.parameters():
        torch.nn.init.normal_(weight, std=0.3)
    save_header(folder, WorldHeader(schema_version=SCHEMA, kind="drift", config=config.model_dump()))
    save_part(folder, "world", net)
    np.savez_compressed(folder / "clips.npz", frames=drifting_squares(8, 10))


if __name__ == "__main__":
    main(Path(sys.argv[1]))
