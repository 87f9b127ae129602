"""Clips in memory: uint8 frames [N, T, H, W, 3], and batches that are a pure function of (seed, step, process)."""

from __future__ import annotations

import zipfile
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from pocketgenie.errors import UserError

Frames = NDArray[np.uint8]


def load_clips(path: Path, size: tuple[int, int] | None = None) -> Frames:
    """`frames` of an .npz (no pickles): uint8 [N, T, H, W, 3], T >= 2. Raises UserError; `size` is the (H, W) asked for."""
    try:
        with np.load(path, allow_pickle=False) as file:
            frames = file["frames"]
    except FileNotFoundError:
        raise UserError(f"no file {path}; record clips with scripts/record_coinrun.py or `pocketgenie clips`") from None
    except KeyError:
        raise UserError(f"{path} has no array `frames`; it should hold uint8 [N, T, H, W, 3]") from None
    except (ValueError, OSError, EOFError, TypeError, zipfile.BadZipFile, zipfile.LargeZipFile, NotImplementedError) as error:
        raise UserError(f"{path} is not a readable .npz ({str(error)[:80]}); write it with numpy.savez") from None
    if frames.dtype != np.uint8 or frames.ndim != 5 or frames.shape[-1] != 3 or frames.shape[1] < 2 or not len(frames):
        raise UserError(
            f"{path}: frames is {frames.dtype} {list(frames.shape)}, not uint8 [N, T >= 2, H, W, 3]"
        )
    if size and frames.shape[2:4] != size:
        raise UserError(f"{path}: frames are {frames.shape[3]}x{frames.shape[2]}, this world is {size[1]}x{size[0]}")
    return np.asarray(frames)


def crop_batch(clips: NDArray, count: int, length: int, rng: np.random.Generator) -> NDArray:
    """`count` random crops of `length` frames from [N, T, ...] -> [count, length, ...]"""
    which = rng.integers(len(clips), size=count)
    start = rng.integers(clips.shape[1] - length + 1, size=count)
    return clips[which[:, None], start[:, None] + np.arange(length)]
