"""`pocketgenie train tokenizer|lam|dynamics`: clips in, one part of a checkpoint folder out."""

from __future__ import annotations

import hashlib
from contextlib import suppress
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from pocketgenie.errors import UserError
from pocketgenie.genie.checkpoint import Genie, Part, load_part, read_config, save_config, save_part
from pocketgenie.genie.config import GenieConfig
from pocketgenie.training.data import Frames, crop_batch, load_clips
from pocketgenie.training.loop import TrainOptions, fit, make_accelerator
from pocketgenie.training.losses import DynamicsLoss, LamLoss, TokenizerLoss


def train(part: Part, config: GenieConfig, clips: Path, folder: Path, options: TrainOptions) -> None:
    """Train one part into the checkpoint `folder` (made, or gone on with if begun). Raises UserError."""
    if (folder / "world.json").exists() and read_config(folder) != config:
        raise UserError(
            f"{folder} was begun with another configuration; give its own world or another folder"
        )
    frames = load_clips(clips, (config.height, config.width))
    accelerator = make_accelerator(options)
    with accelerator.main_process_first():
        save_config(folder, config)
    torch.manual_seed(options.seed)
    genie = Genie(config)
    work = folder / "training" / part

    def save(loss: nn.Module) -> None:
        assert isinstance(loss.model, nn.Module)
        save_part(folder, part, loss.model)

    if part == "tokenizer":
        length = config.tokenizer.window + 1

        def tokenizer_batch(rng: np.random.Generator) -> tuple[Tensor, ...]:
            return (torch.from_numpy(crop_batch(frames, options.batch, _fits(frames, length), rng)),)

        fit(accelerator, TokenizerLoss(genie.tokenizer), tokenizer_batch, options, work, save, part)
    elif part == "lam":
        _fits(frames, config.lam.frames, exactly=True)

        def lam_batch(rng: np.random.Generator) -> tuple[Tensor, ...]:
            return (torch.from_numpy(crop_batch(frames, options.batch, config.lam.frames, rng)),)

        fit(accelerator, LamLoss(genie.lam), lam_batch, options, work, save, part)
    else:
        load_part(folder, "tokenizer", genie.tokenizer)
        load_part(folder, "lam", genie.lam)
        genie.dynamics.features.copy_(genie.tokenizer.quantizer.features())
        with accelerator.main_process_first():  # the others read what it wrote
            tokens, actions = label_clips(genie, frames, work / "labels.npz")
        length = _fits(frames, config.dynamics.window + 2)
        both = np.concatenate([tokens, actions[..., None]], -1)

        def dynamics_batch(rng: np.random.Generator) -> tuple[Tensor, ...]:
            crop = torch.from_numpy(crop_batch(both, options.batch, length, rng)).long()
            led_by = crop[..., -1]
            led_by[:, 0] = genie.dynamics.no_action  # the first frame of a history follows nothing
            return crop[..., :-1], led_by

        fit(accelerator, DynamicsLoss(genie.dynamics), dynamics_batch, options, work, save, part)


DECODING = ("decoder", "latent_in", "patch_out")
"""Parameters of tokenizer and action model that no token and no action depends on begin like this."""


@torch.no_grad()
def label_clips(genie: Genie, frames: Frames, cache: Path) -> tuple[NDArray[np.int32], NDArray[np.int32]]:
    """Tokens [N, T, S] and the latent action that leads to each frame [N, T] (no action for the first).

    Kept in `cache` under a hash of the clips and of the encoders, so that a student with another decoder
    finds the labels of its teacher.
    """
    digest = hashlib.sha256(frames[:: max(1, len(frames) // 64)].tobytes() + str(frames.shape).encode())
    for name, tensor in (*genie.tokenizer.state_dict().items(), *genie.lam.state_dict().items()):
        if not name.startswith(DECODING):
            digest.update(tensor.numpy().tobytes())
    key = digest.hexdigest()
    with suppress(Exception), np.load(cache, allow_pickle=False) as file:  # absent or damaged: labelled again
        if str(file["key"]) == key:
            return file["tokens"], file["actions"]
    genie.eval()
    tokens, actions = [], []
    length = genie.config.lam.frames
    for start in range(0, len(frames), 32):
        clips = torch.from_numpy(frames[start : start + 32])
        tokens.append(genie.tokenizer.encode(clips).to(torch.int32).numpy())
        led_by = np.full(clips.shape[:2], genie.dynamics.no_action, np.int32)
        windows = clips.unfold(1, length, 1).permute(0, 1, 5, 2, 3, 4)  # [B, T - length + 1, length, H, W, 3]
        named, _ = genie.lam.infer(windows.flatten(0, 1))
        led_by[:, length - 1 :] = named.view(len(clips), -1).numpy()
        actions.append(led_by)
    cache.parent.mkdir(parents=True, exist_ok=True)
    part = cache.with_suffix(".part.npz")
    np.savez(part, key=key, tokens=np.concatenate(tokens), actions=np.concatenate(actions))
    part.replace(cache)
    return np.concatenate(tokens), np.concatenate(actions)


def _fits(frames: Frames, length: int, exactly: bool = False) -> int:
    """`length`, or the clips' own length where they are shorter."""
    have: int = frames.shape[1]
    if exactly and have < length:
        raise UserError(
            f"the clips have {have} frames, this world's action model needs {length}; cut longer clips"
        )
    return min(length, have)
