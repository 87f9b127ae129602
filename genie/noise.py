"""Sampling noise as data: small integers drawn by the host, the same in every runtime.

Gumbel noise for S tokens x V codes x N steps would be 2 MB a frame at V = 4096. A graph holds one constant
table of Gumbel variates instead, in rows of 64, and the host sends one row number per token and step: the
token's noise is the table's V + 1 values from there on (one for each logit, one for its confidence). Each
token's noise is exactly Gumbel distributed and independent over its codes; only the table is shared. Row 0
begins zeros: temperature 0.
"""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

from pocketgenie.genie.spec import WorldSpec

ROW = 64
"""Values in a row of the table: a runtime copies whole rows, which is quicker than picking single values."""
TABLE_OFFSETS = 4096
TABLE_SEED = 24021539


def rows_for(values: int) -> int:
    """Rows that hold so many values."""
    return -(-values // ROW)


def gumbel_table(codebook: int) -> NDArray[np.float32]:
    """[R, 64]: rows_for(V + 1) rows of zeros, then Gumbel(0, 1) variates; the same on every platform."""
    rows = rows_for(codebook + 1)
    uniform = np.random.Generator(np.random.PCG64(TABLE_SEED)).random((TABLE_OFFSETS + rows - 1, ROW))
    gumbel = -np.log(-np.log(np.clip(uniform, 1e-12, 1 - 1e-12)))
    return np.concatenate([np.zeros((rows, ROW)), gumbel]).astype(np.float32)


def read_noise(table: NDArray[np.float32], offsets: NDArray[np.int32], codebook: int) -> NDArray[np.float32]:
    """The noise that offsets [S] stand for: float32 [S, V + 1], the last for the confidence."""
    rows = table[offsets[:, None] + np.arange(rows_for(codebook + 1))]
    noise: NDArray[np.float32] = rows.reshape(len(offsets), -1)[:, : codebook + 1]
    return noise


def draw_noise(spec: WorldSpec, seed: int, frame: int, temperature_zero: bool = False) -> NDArray[np.int32]:
    """Row numbers int32 [N, S] for one frame: a pure function of seed and frame number."""
    shape = (spec.steps, spec.tokens)
    if temperature_zero or spec.temperature == 0:
        return np.zeros(shape, np.int32)
    rng = np.random.Generator(np.random.PCG64([seed, frame]))
    first = rows_for(spec.logits + 1)
    return rng.integers(first, first + TABLE_OFFSETS, shape, dtype=np.int32)


def _radical_inverse(index: int, base: int) -> float:
    value, scale = 0.0, 1.0 / base
    while index:
        value += scale * (index % base)
        index //= base
        scale /= base
    return value


def halton_order(rows: int, columns: int) -> NDArray[np.int32]:
    """Every grid position once, int32 [S], each prefix spread evenly (arXiv 2503.17076, bases 2 and 3)."""
    seen: dict[int, None] = {}
    index = 1
    while len(seen) < rows * columns:
        row, column = int(_radical_inverse(index, 2) * rows), int(_radical_inverse(index, 3) * columns)
        seen.setdefault(row * columns + column)
        index += 1
    return np.fromiter(seen, np.int32)


def unmask_counts(tokens: int, steps: int) -> list[int]:
    """How many tokens are final after each of the N steps: MaskGIT's cosine schedule (arXiv 2202.04200)."""
    counts: list[int] = []
    for step in range(1, steps + 1):
        wanted = tokens - math.floor(tokens * math.cos(math.pi / 2 * step / steps) + 1e-9)
        floor, ceiling = (counts[-1] if counts else 0) + 1, tokens - (steps - step)
        counts.append(min(max(wanted, floor), ceiling))
    counts[-1] = tokens
    return counts
