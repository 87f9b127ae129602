# /// script
# requires-python = ">=3.11,<3.13"
# dependencies = ["procgen-mirror==0.10.7", "numpy<2", "pillow"]
# ///
"""Record CoinRun (procgen) as unlabelled clips: to train on and, from other levels, to evaluate on.

Run it with `uv run scripts/record_coinrun.py OUT.npz`, or in a virtual environment of its own: procgen wants
an older numpy.

The player is random but sticky: it keeps an action for 7 frames on average and leans to the right, so that it
travels. Writes one .npz: frames uint8 [N, T, H, W, 3], actions uint8 [N, T - 1] (the true ones, for
evaluation alone: training never reads them) and levels int32 [N]. No clip crosses the end of a level.
Training levels are 0-99999, held-out levels 1000000 and up.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np

# procgen's button combinations, and how often the player picks each when it picks anew
BUTTONS = {"right": 7, "right+jump": 8, "jump": 5, "left": 1, "left+jump": 2, "none": 4}
CHANCES = [0.40, 0.24, 0.06, 0.14, 0.08, 0.08]
STICKY = 6 / 7


def record(
    clips: int, length: int, *, held_out: bool, mode: str, backgrounds: bool, seed: int, players: int = 64
) -> dict[str, np.ndarray]:
    from procgen import ProcgenGym3Env

    rng = np.random.default_rng(seed)
    env = ProcgenGym3Env(
        num=players,
        env_name="coinrun",
        distribution_mode=mode,
        use_backgrounds=backgrounds,
        start_level=1_000_000 if held_out else 0,
        num_levels=100_000,
        rand_seed=seed,
    )
    buttons = np.array(list(BUTTONS.values()))
    action = np.full(players, BUTTONS["right"])
    history: list[list[np.ndarray]] = [[] for _ in range(players)]
    pressed: list[list[int]] = [[] for _ in range(players)]
    frames, actions, levels = [], [], []
    while len(frames) < clips:
        _, observation, first = env.observe()
        info = env.get_info()
        for player in range(players):
            if first[player]:
                history[player], pressed[player] = [], []
            history[player].append(observation["rgb"][player].copy())
            if len(history[player]) == length:
                frames.append(np.stack(history[player]))
                actions.append(np.array(pressed[player], np.uint8))
                levels.append(info[player]["level_seed"])
                history[player], pressed[player] = history[player][-1:], []
        again = rng.random(players) > STICKY
        action = np.where(again, rng.choice(buttons, size=players, p=CHANCES), action)
        for player in range(players):
            pressed[player].append(int(action[player]))
        env.act(action.astype(np.int32))
    keep = rng.permutation(len(frames))[:clips]
    return {
        "frames": np.stack([frames[i] for i in keep]),
        "actions": np.stack([actions[i] for i in keep]),
        "levels": np.array([levels[i] for i in keep], np.int32),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0])
    parser.add_argument("out", type=Path, help="the .npz to write")
    parser.add_argument("--clips", type=int, default=4000)
    parser.add_argument("--length", type=int, default=16, help="frames per clip (T)")
    parser.add_argument("--held-out", action="store_true", help="levels that training never sees")
    parser.add_argument("--mode", choices=["easy", "hard"], default="easy")
    parser.add_argument("--backgrounds", action="store_true", help="draw the pictures behind the level")
    parser.add_argument("--seed", type=int, default=1)
    options = parser.parse_args()
    clips = record(
        options.clips,
        options.length,
        held_out=options.held_out,
        mode=options.mode,
        backgrounds=options.backgrounds,
        seed=options.seed,
    )
    part = options.out.with_suffix(".part.npz")
    np.savez_compressed(part, **clips)
    part.replace(options.out)
    count = len(np.unique(clips["levels"]))
    print(f"{options.out}: {clips['frames'].shape} frames from {count} levels")


if __name__ == "__main__":
    main()
