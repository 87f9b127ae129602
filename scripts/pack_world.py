"""Pack a trained checkpoint as an embedded world: float16 weights, held-out clips, a gallery, a model card.

    python scripts/pack_world.py runs/coinrun --clips heldout.npz -o assets/coinrun

The card is README.md in the output folder. What a person writes there (data, commands, time) stays; all below
the line `<!-- measured -->` is measured here, on the packed weights.
"""

from __future__ import annotations

import argparse
import json
import os
from pathlib import Path

import numpy as np
import torch
from PIL import Image, ImageDraw

from pocketgenie.genie.checkpoint import Lineage, Part, load_genie, read_world, save_config, save_tensors
from pocketgenie.genie.graphs import load_world
from pocketgenie.genie.spec import Arrow
from pocketgenie.runtimes.pictures import Frame, strip
from pocketgenie.runtimes.player import Player
from pocketgenie.runtimes.reference import world_session
from pocketgenie.runtimes.session import GraphSession
from pocketgenie.training.data import load_clips
from pocketgenie.training.evaluation import evaluate, infer_actions

PARTS: tuple[Part, ...] = ("tokenizer", "lam", "dynamics")
STRIP_FRAMES = (0, 1, 2, 4, 6, 8)
CANDIDATES, LOOK_AHEAD, ACTION_CLIPS = 32, 6, 32
CLEARLY = 0.5  # pixels a frame, on average
MARK = "<!-- measured -->"

MEANINGS = {
    "recon_psnr_db": "the tokenizer's reconstruction of a frame",
    "next_frame_psnr_db": "the next frame, drawn with the inferred action",
    "copy_last_psnr_db": "the last frame repeated, in its place",
    "rollout_psnr_db": "the fourth frame of a roll-out with inferred actions",
    "copy_start_psnr_db": "the start frame repeated, in its place",
    "random_psnr_db": "the fourth frame with random actions",
    "delta_psnr_db": "controllability: inferred minus random actions at t = 4 (paper, section 3)",
    "action_perplexity": "how many of the actions are really used",
    "codebook_perplexity": "how many codes are really used",
    "action_consistency": "how often the action model recognises a random action in what it drew",
}


def distinct_frames(clips: Frame, count: int) -> list[Frame]:
    """`count` first frames [H, W, 3] as unlike as can be: each new one the farthest from those taken."""
    starts = clips[:, 0]
    flat = torch.from_numpy(starts[:, ::2, ::2].reshape(len(starts), -1).astype(np.float32))
    apart = torch.cdist(flat, flat)
    taken = [int(apart.sum(1).argmin())]
    while len(taken) < min(count, len(starts)):
        taken.append(int(apart[:, taken].amin(1).argmax()))
    return [starts[i] for i in taken]


def most_playable(player: Player, candidates: list[Frame], count: int) -> list[Frame]:
    """The candidates in which the choice of action changes most within `LOOK_AHEAD` frames, best first."""

    def spread(start: Frame) -> float:
        ends = []
        for action in range(player.spec.actions):
            player.start(start)
            ends.append([player.step(action) for _ in range(LOOK_AHEAD)][-1])
        return float(np.stack(ends).astype(np.float32).std(0).mean())

    return sorted(candidates, key=spread, reverse=True)[:count]


def sketch() -> Frame:
    """A child's drawing of such a level, 64x64: ground, a crate, a stick figure in the middle."""
    paper = Image.new("RGB", (512, 512))
    pen = ImageDraw.Draw(paper)
    pen.polygon([(0, 290), (300, 300), (305, 380), (512, 385), (512, 512), (0, 512)], (178, 193, 194))
    pen.line([(0, 290), (300, 300), (305, 380), (512, 385)], (196, 128, 60), 14)
    pen.rectangle([(380, 318), (440, 378)], (172, 110, 52))
    pen.ellipse([(236, 214), (272, 250)], (236, 222, 190))
    for line in (
        [(254, 250), (254, 280)],
        [(254, 280), (240, 298)],
        [(254, 280), (268, 298)],
        [(234, 262), (274, 262)],
    ):
        pen.line(line, (236, 222, 190), 12)
    return np.array(paper.resize((64, 64), Image.Resampling.LANCZOS))


def action_strips(player: Player, start: Frame) -> Frame:
    """One row per action, held from the same start frame, temperature 0: uint8 [H, W, 3]"""
    rows = []
    for action in range(player.spec.actions):
        frames = [player.start(start)] + [player.step(action) for _ in range(max(STRIP_FRAMES))]
        captions = [f"action {action + 1}, frame {t}" if t else "start" for t in STRIP_FRAMES]
        rows.append(strip([frames[t] for t in STRIP_FRAMES], captions, scale=2))
    return np.concatenate(rows)


def camera_shift(before: Frame, after: Frame, reach: int = 8) -> tuple[int, int]:
    """Pixels (right, down) by which the camera moved: the shift that differs least in the overlap."""
    height, width, _ = before.shape
    best = (np.inf, 0, 0, 0)
    for right in range(-reach // 2, reach // 2 + 1):
        for down in range(-reach, reach + 1):
            a = before[max(0, down) : height + min(0, down), max(0, right) : width + min(0, right)]
            b = after[max(0, -down) : height + min(0, -down), max(0, -right) : width + min(0, -right)]
            apart = float(np.abs(a.astype(np.int16) - b).mean())
            best = min(best, (apart, abs(right) + abs(down), right, down))
    return best[2], best[3]


def action_shifts(session: GraphSession, clips: Frame) -> list[Frame]:
    """For each action, the camera's shifts [n, 2] (right, down) in the real transitions that it names."""
    shifts: list[list[tuple[int, int]]] = [[] for _ in range(session.spec.actions)]
    for clip in clips:
        for action, before, after in zip(infer_actions(session, clip)[1:], clip, clip[1:], strict=False):
            shifts[action].append(camera_shift(before, after))
    return [np.array(seen or [(0, 0)]) for seen in shifts]


def arrows_of(shifts: list[Frame]) -> dict[Arrow, int]:
    """The action that moves most to each side, where one clearly does."""
    right, down = np.array([seen.mean(0) for seen in shifts]).T
    strength: dict[Arrow, Frame] = {"left": -right, "right": right, "up": -down, "down": down}
    return {arrow: int(moved.argmax()) for arrow, moved in strength.items() if moved.max() >= CLEARLY}


def action_table(shifts: list[Frame], arrows: dict[Arrow, int]) -> list[str]:
    """The shifts as lines of a table."""
    total = sum(map(len, shifts))
    lines = ["| action | share | camera, pixels right | pixels up | arrow key |", "|---|---|---|---|---|"]
    for action, seen in enumerate(shifts):
        right, down = seen.T
        moved = f"{right.mean():+.1f} ± {right.std():.1f} | {-down.mean():+.1f} ± {down.std():.1f}"
        keys = ", ".join(arrow for arrow, named in arrows.items() if named == action)
        lines.append(f"| {action + 1} | {len(seen) / total:.0%} | {moved} | {keys} |")
    return lines


def moved(lineage: Lineage | None, source: Path, out: Path) -> Lineage | None:
    """The lineage with its teacher's path as it is from the new folder."""
    if lineage is None:
        return None
    teacher = (source / lineage.teacher).resolve()
    path = Path(os.path.relpath(teacher, out.resolve())).as_posix()
    return lineage.model_copy(update={"teacher": path})


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n\n")[0])
    parser.add_argument("checkpoint", type=Path)
    parser.add_argument("--clips", type=Path, required=True, help="held-out clips (.npz)")
    parser.add_argument(
        "--gallery", type=int, default=8, help="how many prompt pictures to take from the clips"
    )
    parser.add_argument("-o", "--out", type=Path, required=True)
    options = parser.parse_args()
    out: Path = options.out
    genie = load_genie(options.checkpoint)
    clips = load_clips(options.clips, (genie.config.height, genie.config.width))
    lineage = moved(read_world(options.checkpoint).lineage, options.checkpoint, out)
    save_config(out, genie.config, lineage)
    for name in PARTS:
        weights = genie.part(name).state_dict()
        save_tensors(out / f"{name}.safetensors", {key: value.half() for key, value in weights.items()})
    np.savez_compressed(out / "clips.npz", frames=clips)
    session = world_session(load_world(out))  # as packed: float16 weights, played at float32
    shifts = action_shifts(session, clips[:ACTION_CLIPS])
    save_config(out, genie.config.model_copy(update={"arrows": arrows_of(shifts)}), lineage)
    player = Player(session, temperature_zero=True)
    gallery = most_playable(player, distinct_frames(clips, CANDIDATES), options.gallery)
    (out / "gallery").mkdir(exist_ok=True)
    for number, frame in enumerate(gallery, 1):
        Image.fromarray(frame).save(out / "gallery" / f"{number:02d}.png")
    if genie.config.name == "coinrun":
        Image.fromarray(sketch()).save(out / "gallery" / "sketch.png")
    figures = evaluate(session, clips)
    (out / "evaluation.json").write_text(json.dumps(figures, indent=2) + "\n")
    Image.fromarray(action_strips(player, gallery[0])).save(out / "actions.png")
    millions = {name: sum(p.numel() for p in genie.part(name).parameters()) / 1e6 for name in PARTS}
    card = out / "README.md"
    written = card.read_text().split(MARK)[0] if card.exists() else f"# {genie.config.name}"
    lines = [
        written.rstrip(),
        "",
        MARK,
        "",
        "## Size",
        "",
        *(f"- {name}: {count:.1f} M parameters" for name, count in millions.items()),
        *([] if lineage is None else ["", "## Distilled", ""]),
        *([] if lineage is None else [f"- {part}: {how}" for part, how in lineage.recipe.items()]),
        "",
        f"## Figures on {len(clips)} held-out clips",
        "",
        "Measured on the packed weights: PSNR of pooled squared errors, temperature 0.",
        "",
        "| figure | value | what it is |",
        "|---|---|---|",
        *(f"| `{name}` | {figures[name]:.2f} | {meaning} |" for name, meaning in MEANINGS.items()),
        "",
        "## What each action does",
        "",
        "How the camera (and so the player) moves in held-out transitions that the action model gives this",
        "name, mean and standard deviation; and below, each action held from the same start frame.",
        "",
        *action_table(shifts, arrows_of(shifts)),
        "",
        "![each action held from the same start frame](actions.png)",
    ]
    card.write_text("\n".join(lines) + "\n")
    print(json.dumps(figures, indent=2))


if __name__ == "__main__":
    main()
