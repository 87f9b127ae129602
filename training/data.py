"""Clips in memory: uint8 frames [N, T, H, W, 3], and batches drawn from them."""

from __future__ import annotations

from pathlib import Path
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

from pocketgenie.errors import UserError

Frames = NDArray[np.uint8]
Item = TypeVar("Item", bound=np.generic)


def load_clips(path: Path, size: tuple[int, int] | None = None) -> Frames:
    """`frames` of an .npz (no pickles): uint8 [N, T >= 2, H, W, 3] of `size` (H, W). Raises UserError."""
    try:
        with np.load(path, allow_pickle=False) as file:
            frames = np.asarray(file["frames"])
    except FileNotFoundError:
        raise UserError(
            f"no file {path}; record clips with scripts/record_coinrun.py or `pocketgenie clips`"
        ) from None
    except KeyError:
        raise UserError(f"{path} has no array `frames`; it should hold uint8 [N, T, H, W, 3]") from None
    except Exception as error:  # zipfile, zlib and numpy raise a dozen kinds over damaged bytes
        reason = " ".join(str(error).split())[:80]
        raise UserError(f"{path} is not a readable .npz ({reason}); write it with numpy.savez") from None
    good = frames.dtype == np.uint8 and frames.ndim == 5 and frames.size and frames.shape[-1] == 3
    if not good or frames.shape[1] < 2:
        raise UserError(
            f"{path}: frames is {frames.dtype} {list(frames.shape)}, not uint8 [N, T >= 2, H, W, 3]"
        )
    if size and frames.shape[2:4] != size:
        raise UserError(
            f"{path}: frames are {frames.shape[3]}x{frames.shape[2]}, this world is {size[1]}x{size[0]}"
        )
    return frames


def crop_batch(clips: NDArray[Item], count: int, length: int, rng: np.random.Generator) -> NDArray[Item]:
    """`count` random crops of `length` frames from [N, T, ...] -> [count, length, ...]"""
    which = rng.integers(len(clips), size=count)
    start = rng.integers(clips.shape[1] - length + 1, size=count)
    batch: NDArray[Item] = clips[which[:, None], start[:, None] + np.arange(length)]
    return batch
