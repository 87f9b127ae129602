"""Frames as characters: two pixels in each cell of a terminal."""

from __future__ import annotations

from collections.abc import Iterator
from functools import lru_cache
from itertools import groupby

import numpy as np
from PIL import Image
from rich.color import Color
from rich.segment import Segment
from rich.style import Style
from textual.strip import Strip

from pocketgenie.runtimes.pictures import Frame, enlarge


def fit(frame: Frame, columns: int, rows: int) -> Frame:
    """Scale a frame to at most columns x 2 * rows pixels, an even number of rows.

    Larger: whole pixels, as sharp as they are. Smaller: the mean of an area.
    """
    height, width, _ = frame.shape
    scale = min(columns / width, 2 * rows / height)
    if scale >= 1:
        frame = enlarge(frame, int(scale))
    else:
        size = max(1, int(width * scale)), max(1, int(height * scale))
        frame = np.array(Image.fromarray(frame).resize(size, Image.Resampling.BOX))
    return np.pad(frame, ((0, len(frame) % 2), (0, 0), (0, 0)))


@lru_cache(maxsize=65536)
def _color(packed: int) -> Color:
    return Color.from_rgb(packed >> 16, packed >> 8 & 255, packed & 255)


@lru_cache(maxsize=65536)
def _half_block(top: int, bottom: int) -> Style:
    return Style.from_color(_color(top), _color(bottom))


def half_blocks(frame: Frame) -> Iterator[Strip]:
    """One strip per two rows of pixels: a half block's colour is the upper, its background the lower."""
    # Colours in steps of 4, which no eye sees here: more cells are alike, in runs and in the cache.
    packed = (frame & 252).astype(np.int32) @ np.array([65536, 256, 1], np.int32)
    for top, bottom in zip(packed[::2].tolist(), packed[1::2].tolist(), strict=True):
        runs = ((pair, len(list(same))) for pair, same in groupby(zip(top, bottom, strict=True)))
        yield Strip([Segment("▀" * length, _half_block(*pair)) for pair, length in runs], len(top))
