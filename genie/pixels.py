"""Frames as patches and back: uint8 pixels at the edge of the model, floats in [-1, 1] inside."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F


def to_float(frames_HWC: Tensor) -> Tensor:
    """uint8 (or floats of the same values) [..., H, W, 3] in [0, 255] -> float32 in [-1, 1]"""
    return frames_HWC.float() / 127.5 - 1


def to_uint8(frames_HWC: Tensor) -> Tensor:
    """float in [-1, 1] (clamped) -> uint8, rounded half up, in float32 whatever comes in"""
    return torch.floor((frames_HWC.float().clamp(-1, 1) + 1) * 127.5 + 0.5).to(torch.uint8)


def patchify(frames_HWC: Tensor, patch: int) -> Tensor:
    """[..., H, W, 3] -> [..., S, patch * patch * 3]; padded with -1 at bottom and right to whole patches"""
    *batch, height, width, _ = frames_HWC.shape
    rows, columns = -(-height // patch), -(-width // patch)
    if height % patch or width % patch:
        pad = (0, 0, 0, columns * patch - width, 0, rows * patch - height)
        frames_HWC = F.pad(frames_HWC, pad, value=-1.0)
    x = frames_HWC.reshape(*batch, rows, patch, columns, patch, 3).transpose(-4, -3)
    return x.reshape(*batch, rows * columns, patch * patch * 3)


def unpatchify(patches: Tensor, patch: int, height: int, width: int) -> Tensor:
    """The inverse of `patchify`: [..., S, patch * patch * 3] -> [..., H, W, 3]"""
    rows, columns = -(-height // patch), -(-width // patch)
    x: Tensor = patches.unflatten(-1, (patch, patch, 3)).unflatten(-4, (rows, columns)).transpose(-4, -3)
    x = x.flatten(-5, -4).flatten(-3, -2)
    if height % patch or width % patch:
        x = x[..., :height, :width, :]
    return x
