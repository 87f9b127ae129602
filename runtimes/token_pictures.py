"""Token pictures without torch: what a world of tokens alone (WorldSpec.frames) starts from and is judged by.

The same squares of colour as the world's own graphs draw (importers/onexgpt_pictures.py): a token is three
digits to the base ceil(V^(1/3)), spread over 0..255 as red, green and blue. Token ids come as .npy, as .npz
(the array `tokens`, or the only one) or as .bin (uint32, as the 1X data files are).
"""

from __future__ import annotations

from pathlib import Path
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from pocketgenie.errors import UserError
from pocketgenie.genie.spec import WorldSpec

SUFFIXES: Final = (".npy", ".npz", ".bin")
CLIP = 16
"""Frames of a clip, where the file does not say how its frames belong together."""
MOST = 1024
"""Frames that are read of one file, where a part of it can be read and more are of no use."""


def levels(codebook: int) -> int:
    """The base of a colour's three digits."""
    return next(n for n in range(2, codebook + 1) if n**3 >= codebook)


def draw(tokens: NDArray[Any], spec: WorldSpec) -> NDArray[np.uint8]:
    """Token ids [..., S] -> pictures uint8 [..., H, W, 3]"""
    base = levels(spec.codebook)
    shades = np.rint(np.arange(base, dtype=np.float32) * 255 / (base - 1)).astype(np.uint8)
    digits = np.stack([tokens // base**2, tokens // base % base, tokens % base], -1)
    rows, columns = spec.grid
    small = shades[digits].reshape(*tokens.shape[:-1], rows, columns, 3)
    large: NDArray[np.uint8] = small.repeat(spec.height // rows, -3).repeat(spec.width // columns, -2)
    return large


def is_token_picture(frame: NDArray[np.uint8], spec: WorldSpec) -> bool:
    """Whether every square of a frame uint8 [H, W, 3] has one colour, and that of a token."""
    rows, columns = spec.grid
    base = levels(spec.codebook)
    corners = frame[:: spec.height // rows, :: spec.width // columns].reshape(-1, 3).astype(np.int64)
    digits = np.rint(corners * (base - 1) / 255).astype(np.int64)
    tokens = digits @ np.array([base**2, base, 1])
    return bool(tokens.max() < spec.codebook) and np.array_equal(draw(tokens, spec), frame)


def holds_tokens(path: Path) -> bool:
    """Whether a file is one of token ids, and not of clips (an .npz with `frames`)."""
    if path.suffix != ".npz":
        return path.suffix in SUFFIXES
    try:
        with np.load(path, allow_pickle=False) as file:
            return "frames" not in file.files
    except Exception:  # whoever reads it says what is wrong
        return False


def read_tokens(path: Path, spec: WorldSpec, most: int = MOST) -> NDArray[np.int64]:
    """A file of token ids [..., S] or [..., rows, columns] -> int64 [..., S]; of a .bin [T, S]. Of a .npy or
    .bin at most `most` frames. Raises UserError."""
    found = _array(path, spec, most)
    rows, columns = spec.grid
    if found.ndim > 1 and found.shape[-2:] == (rows, columns):
        found = found.reshape(*found.shape[:-2], spec.tokens)
    if found.dtype.kind not in "iu" or not found.ndim or found.shape[-1] != spec.tokens or not found.size:
        raise UserError(
            f"{path} holds {found.dtype} {list(found.shape)}; token ids of this world are whole numbers "
            f"[frames, {spec.tokens}] or [frames, {rows}, {columns}]"
        )
    if found.min() < 0 or found.max() >= spec.codebook:
        raise UserError(
            f"{path} holds tokens from {found.min()} to {found.max()}; this world's are 0 to "
            f"{spec.codebook - 1}"
        )
    return np.asarray(found, np.int64)


def token_clips(path: Path, spec: WorldSpec) -> NDArray[np.uint8]:
    """Clips of token pictures from a file of token ids: uint8 [N, T >= 2, H, W, 3]. Raises UserError."""
    return draw(clips_of_tokens(path, spec), spec)


def clips_of_tokens(path: Path, spec: WorldSpec, most: int = MOST) -> NDArray[np.int64]:
    """Clips from a file of token ids: int64 [N, T >= 2, S]. Raises UserError."""
    tokens = read_tokens(path, spec, most)
    if tokens.ndim != 3:
        frames = tokens.reshape(-1, spec.tokens)
        length = min(CLIP, len(frames))
        tokens = frames[: len(frames) // length * length].reshape(-1, length, spec.tokens)
    if tokens.shape[1] < 2:
        raise UserError(f"{path} holds single frames; a clip has two or more: [clips, frames, {spec.tokens}]")
    return tokens


def _array(path: Path, spec: WorldSpec, most: int) -> NDArray[Any]:
    try:
        if path.suffix == ".bin":
            count = min(path.stat().st_size // (4 * spec.tokens), most)
            return np.fromfile(path, "<u4", count * spec.tokens).reshape(count, spec.tokens)
        loaded = np.load(path, mmap_mode="r" if path.suffix == ".npy" else None, allow_pickle=False)
        if isinstance(loaded, np.ndarray):
            return loaded[: max(1, most * spec.tokens * len(loaded) // max(1, loaded.size))]
        with loaded:
            name = "tokens" if "tokens" in loaded.files else next(iter(loaded.files), "")
            return np.asarray(loaded[name])
    except FileNotFoundError:
        raise UserError(f"no file {path}; name a file of token ids") from None
    except Exception as error:  # numpy and zipfile raise a dozen kinds over damaged bytes
        why = " ".join(str(error).split())[:80] or type(error).__name__
        raise UserError(f"{path} is no file of token ids ({why}); write it with numpy.save") from None
