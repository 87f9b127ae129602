"""Small charts as inline SVG. Their colours are the page's (export/style.py): dark where the page is dark."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from html import escape

WIDTH = 420  # units of a chart; a phone shows one unit as 0.85 px, a desktop as 1.2 px
ROW = 34
LEFT, RIGHT = 124, 68  # room for names and for values


@dataclass(frozen=True, kw_only=True)
class Bar:
    """One row of a bar chart."""

    name: str
    value: float
    shown: str
    """The value in words, at the bar's end."""
    ours: bool = False
    """What the report is about: drawn in the page's colour."""
    marks: Sequence[float] = ()
    """Further values: a dot for each."""
    low: float | None = None
    """A tick: how slow the slowest were."""


def bars(rows: Sequence[Bar], label: str) -> str:
    """Horizontal bars from 0."""
    top = max((max(row.value, *row.marks, 0.0) for row in rows), default=1.0) or 1.0
    scale = (WIDTH - LEFT - RIGHT) / top
    parts = []
    for number, row in enumerate(rows):
        y = ROW * number
        kind = "ours" if row.ours else "other"
        length = max(row.value * scale, 1.5)
        parts.append(_text(LEFT - 10, y + 21, row.name, "end"))
        parts.append(f'<rect class="{kind}" x="{LEFT}" y="{y + 8}" width="{length:.1f}" height="18" rx="3"/>')
        parts += [
            f'<circle class="dot" cx="{LEFT + mark * scale:.1f}" cy="{y + 17}" r="2"/>' for mark in row.marks
        ]
        if row.low is not None:
            x = LEFT + row.low * scale
            parts.append(f'<path class="tick" d="M{x:.1f} {y + 5}v24"/>')
        end = max(row.value, *row.marks, 0.0) * scale
        parts.append(_text(LEFT + end + 8, y + 21, row.shown, "start", "value"))
    return _svg(ROW * len(rows) + 4, label, parts)


def ratios(rows: Sequence[Bar], label: str) -> str:
    """Ratios on a logarithmic scale, from 1 outwards: to the right faster, to the left slower."""
    logs = [math.log10(row.value) for row in rows]
    low, high = min(0.0, *logs), max(math.log10(2), *logs)
    scale = (WIDTH - LEFT - RIGHT) / (high - low)
    zero = LEFT - low * scale
    parts = [f'<path class="axis" d="M{zero:.1f} 0v{ROW * len(rows)}"/>']
    for number, (row, log) in enumerate(zip(rows, logs, strict=True)):
        y, x = ROW * number + 17, zero + log * scale
        parts.append(_text(LEFT - 10, y + 4, row.name, "end"))
        parts.append(f'<path class="stem" d="M{zero:.1f} {y}H{x:.1f}"/>')
        parts.append(f'<circle class="ours" cx="{x:.1f}" cy="{y}" r="6"/>')
        parts.append(_text(max(x, zero) + 12, y + 4, row.shown, "start", "value"))
    parts.append(_text(zero, ROW * len(rows) + 14, "1×: as fast", "middle" if low < 0 else "start"))
    return _svg(ROW * len(rows) + 20, label, parts)


def curve(values: Sequence[float], ceiling: float, label: str) -> str:
    """One value per frame, counted from 1. `ceiling` is what equal pictures get; its line says so."""
    height, left, right = 150, 34, WIDTH - 12
    floor = min(40, 20 * math.floor(min(values) / 20))
    step = (right - left) / max(len(values) - 1, 1)

    def y(value: float) -> float:
        return 16 + (height - 16) * (ceiling - min(value, ceiling)) / (ceiling - floor)

    parts = []
    for tick in range(floor, int(ceiling) + 1, 20):
        parts.append(f'<path class="axis" d="M{left} {y(tick):.1f}H{right}"/>')
        parts.append(_text(left - 6, y(tick) + 4, f"{tick}", "end"))
    parts.append(_text(right, 10, "equal pictures", "end"))
    points = " ".join(f"{left + step * i:.1f},{y(value):.1f}" for i, value in enumerate(values))
    parts.append(f'<polyline class="line" points="{points}"/>')
    parts.append(_text(left, height + 18, "frame 1", "start"))
    parts.append(_text(right, height + 18, f"{len(values)}", "end"))
    return _svg(height + 24, label, parts)


def _text(x: float, y: float, text: str, anchor: str, kind: str = "name") -> str:
    return f'<text class="{kind}" x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}">{escape(text)}</text>'


def _svg(height: int, label: str, parts: Sequence[str]) -> str:
    name = escape(label, quote=True)
    return f'<svg viewBox="0 0 {WIDTH} {height}" role="img" aria-label="{name}">{"".join(parts)}</svg>'
