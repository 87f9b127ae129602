"""A TinyWorlds run with random weights at the project's default size, in the form that the project writes.

For measuring what its worlds cost, without one that was trained.

    python scripts/random_tinyworlds.py RUN
    pocketgenie import RUN -o CHECKPOINT --clips RUN/clips.npz
    pocketgenie export CHECKPOINT -o BUNDLE && pocketgenie check BUNDLE
"""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np
import torch

from pocketgenie.importers.tinyworlds import STAGES
from pocketgenie.importers.tinyworlds_config import (
    ActionSizes,
    DynamicsSizes,
    TinyWorldsConfig,
    TokenizerSizes,
)
from pocketgenie.importers.tinyworlds_model import TinyWorlds

SHARED = {"frame_size": 64, "patch_size": 4, "embed_dim": 32, "num_heads": 8, "hidden_dim": 128}
"""And the blocks below: the project's configuration files of April 2026."""


def default_config() -> TinyWorldsConfig:
    return TinyWorldsConfig(
        name="random",
        tokenizer=TokenizerSizes(**SHARED, num_blocks=4, latent_dim=5, num_bins=4),
        lam=ActionSizes(**SHARED, num_blocks=2, n_actions=4),
        dynamics=DynamicsSizes(**SHARED, num_blocks=8),
        context=4,
        steps=10,
        temperature=0.5,
        fps=10,
    )


def write_run(folder: Path, config: TinyWorldsConfig, seed: int) -> None:
    """Three checkpoint directories and clips.npz."""
    torch.manual_seed(seed)
    model = TinyWorlds(config)
    for weight in model.parameters():
        torch.nn.init.normal_(weight, std=0.1 if weight.ndim == 1 else 1.5 * weight[0].numel() ** -0.5)
    for part, stage in STAGES.items():
        place = folder / f"{stage}_step_0"
        place.mkdir(parents=True)
        torch.save(model.get_submodule(part).state_dict(), place / "model_state_dict.pt")
        sizes = getattr(config, part).model_dump() | {"context_length": config.context + 1}
        torch.save({"config": sizes, "step": 0}, place / "state.pt")
    side, rng = config.tokenizer.frame_size, np.random.default_rng(seed)
    coarse = np.cumsum(rng.integers(-12, 13, (6, 10, side // 8, side // 8, 3)), 1) + 128
    frames = coarse.repeat(8, 2).repeat(8, 3) + rng.integers(-20, 20, (6, 10, side, side, 3))
    np.savez(folder / "clips.npz", frames=frames.clip(0, 255).astype(np.uint8))


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("folder", type=Path, help="the run to write; must not exist")
    parser.add_argument("--seed", type=int, default=0)
    given = parser.parse_args()
    write_run(given.folder, default_config(), given.seed)
