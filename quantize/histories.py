"""Real clips as a world reads them: the tokens and actions that distillation of any world begins with."""

from __future__ import annotations

import hashlib
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from rich.progress import track
from torch import Tensor

from pocketgenie.errors import UserError
from pocketgenie.genie.checkpoint import checkpoint_hash
from pocketgenie.genie.spec import WorldSpec
from pocketgenie.importers.kinds import load_world
from pocketgenie.runtimes.reference import world_session
from pocketgenie.runtimes.token_pictures import clips_of_tokens, holds_tokens
from pocketgenie.training.data import load_clips
from pocketgenie.training.evaluation import infer_actions

Array = NDArray[Any]
MOST = 1 << 16
"""Frames that are read of one file of token ids."""


@dataclass(frozen=True)
class Clips:
    """Windows cut from clips, each read from its own first frame: where positions or the tokenizer's memory
    count from there, a part of a window would have other tokens."""

    spec: WorldSpec
    tokens_NTS: Array
    actions_NT: Array
    """The action that led to each frame, as the action model names it."""

    def draw(self, rng: np.random.Generator) -> tuple[Tensor, list[int]]:
        """Any of them -> tokens int64 [T, S], actions; those at random where nobody can name them."""
        spec, number = self.spec, int(rng.integers(len(self.tokens_NTS)))
        actions = self.actions_NT[number]
        if not spec.action_frames:
            actions = rng.integers(spec.actions, size=len(actions))
        return torch.from_numpy(self.tokens_NTS[number]).long(), [spec.no_action, *map(int, actions[1:])]


def read_clips(source: Path, clips: Path, cache: Path, shown: bool) -> Clips:
    """The windows of a file of clips (frames or, of a world of tokens, token ids), as the world of the folder
    `source` reads them. What took long is kept in `cache`; `shown`: with a progress bar. Raises UserError."""
    world = load_world(source)
    spec = world.spec
    slots = spec.memories["dynamics"].slots
    longest = slots + (1 if spec.window == "absolute" else 2)
    if spec.frames == "tokens" and holds_tokens(clips):
        ids = windows(clips_of_tokens(clips, spec, MOST), longest)
        return Clips(spec, ids, np.zeros(ids.shape[:2], np.int32))
    cut = windows(load_clips(clips, (spec.height, spec.width)), longest)
    key = f"{checkpoint_hash(source)} {hashlib.sha256(cut.tobytes()).hexdigest()} {cut.shape}"
    with suppress(Exception), np.load(cache, allow_pickle=False) as file:  # absent or damaged: read again
        if str(file["key"]) == key:
            return Clips(spec, file["tokens"], file["actions"])
    session = world_session(world)
    tokens, actions = [], []
    for frames in track(cut, "reading the clips", disable=not shown):
        session.reset()
        tokens.append([session.encode(frame) for frame in frames])
        actions.append(infer_actions(session, frames)[: len(frames)])
    made = Clips(spec, np.array(tokens, np.int32), np.array(actions, np.int32))
    cache.parent.mkdir(parents=True, exist_ok=True)
    part = cache.with_suffix(".part.npz")
    np.savez(part, key=key, tokens=made.tokens_NTS, actions=made.actions_NT)
    part.replace(cache)
    return made


def windows(clips_NT: Array, longest: int) -> Array:
    """[N, T, ...] -> windows of at most `longest` frames side by side, the last one flush with the end."""
    total = clips_NT.shape[1]
    length = min(longest, total)
    if length < 2:
        raise UserError("the clips are single frames; a clip has two or more")
    starts = dict.fromkeys((*range(0, total - length + 1, length), total - length))
    return np.concatenate([clips_NT[:, start : start + length] for start in starts])
