"""Small charts as inline SVG. Their colours are the page's (export/style.py): dark where the page is dark."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from html import escape
from itertools import pairwise

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


@dataclass(frozen=True, kw_only=True)
class Dot:
    """One point of a scatter plot."""

    name: str
    x: float
    y: float
    ours: bool = False
    """The one that the report is about: large, in the page's colour."""
    joined: bool = False
    """On the line."""


def scatter(dots: Sequence[Dot], limit: float, limit_name: str, label: str, axes: tuple[str, str]) -> str:
    """Points with their names, the joined ones on a line, `limit` as a dashed line across, 0 as a plain one.

    axes: what x and y are. A name goes beside its point where it covers least.
    """
    height, left, right, low = 320, 34, WIDTH - 14, 282
    xs, ys = _ticks([dot.x for dot in dots]), _ticks([0.0, limit, *(dot.y for dot in dots)])

    def place(x: float, y: float) -> tuple[float, float]:
        across = (x - xs[0]) / (xs[-1] - xs[0])
        up = (y - ys[0]) / (ys[-1] - ys[0])
        return left + across * (right - left), low - up * (low - 40)

    parts = [_text(left - 28, 10, axes[1], "start"), _text(right, height, axes[0], "end")]
    for tick in ys:
        y = place(xs[0], tick)[1]
        parts.append(f'<path class="axis" d="M{left} {y:.1f}H{right}"/>')
        parts.append(_text(left - 6, y + 4, f"{tick:+g}" if tick else "0", "end"))
    parts += [_text(place(tick, ys[0])[0], low + 17, f"{tick:g}", "middle") for tick in xs]
    y = place(xs[0], limit)[1]
    parts.append(f'<path class="limit" d="M{left} {y:.1f}H{right}"/>')
    parts.append(_text(left + 4, y + 13, limit_name, "start"))
    line = sorted((dot for dot in dots if dot.joined), key=lambda dot: dot.x)
    points = " ".join("{:.1f},{:.1f}".format(*place(dot.x, dot.y)) for dot in line)
    parts.append(f'<polyline class="line" points="{points}"/>')
    marks = {dot: place(dot.x, dot.y) for dot in dots}
    taken = [(x - 6, y - 6, x + 6, y + 6) for x, y in marks.values()]
    taken.append((left, y, left + 6.4 * len(limit_name), y + 15))
    corners = [place(dot.x, dot.y) for dot in line]
    for (a, b), (c, d) in pairwise(corners):
        many = max(1, round(math.dist((a, b), (c, d)) / 6))
        middles = [(a + (c - a) * i / many, b + (d - b) * i / many) for i in range(many)]
        taken += [(x - 3, y - 3, x + 3, y + 3) for x, y in middles]
    for dot in sorted(dots, key=lambda dot: (not dot.ours, not dot.joined)):
        x, y = marks[dot]
        kind, radius = ("ours", 7) if dot.ours else ("front", 5) if dot.joined else ("other", 4.5)
        parts.append(f'<circle class="{kind}" cx="{x:.1f}" cy="{y:.1f}" r="{radius}"/>')
        box = min(_beside(x, y, dot.name), key=lambda box: _covered(box, taken, (left, 14, right + 14, low)))
        taken.append(box)
        near = (min(max(x, box[0]), box[2]), min(max(y, box[1]), box[3]))
        if math.dist(near, (x, y)) > 14:
            parts.append(f'<path class="leader" d="M{near[0]:.1f} {near[1]:.1f}L{x:.1f} {y:.1f}"/>')
        parts.append(_text(box[0], box[3] - 3, dot.name, "start", "value" if dot.ours else "name"))
    return _svg(height + 4, label, parts)


Box = tuple[float, float, float, float]
"""left, top, right, bottom"""


def _beside(x: float, y: float, name: str) -> list[Box]:
    """Where a name may go, the best first: right, left, above, below, and further off."""
    wide, high = 6.8 * len(name), 13.0
    sides = [(x + 9, y - 6), (x - 9 - wide, y - 6)]
    for away in (0, 14, 28):
        for across in (x - wide / 2, x + 4, x - wide - 4):
            sides += [(across, y - 21 - away), (across, y + 8 + away)]
    return [(a, b, a + wide, b + high) for a, b in sides]


def _covered(box: Box, taken: Sequence[Box], frame: Box) -> float:
    """How much of other boxes and of what lies outside of the frame a box covers."""

    def common(other: Box) -> float:
        wide = min(box[2], other[2]) - max(box[0], other[0])
        high = min(box[3], other[3]) - max(box[1], other[1])
        return max(wide, 0.0) * max(high, 0.0)

    area = (box[2] - box[0]) * (box[3] - box[1])
    return sum(map(common, taken)) + 4 * (area - common(frame))


def _ticks(values: Sequence[float]) -> list[float]:
    """Round numbers, four to eight of them, around all values."""
    low, high = min(values), max(values)
    span = max(high - low, 1e-3 * max(abs(high), 1.0))
    step = 10 ** math.floor(math.log10(span / 4))
    step = next(step * factor for factor in (1, 2, 2.5, 5, 10) if span / (step * factor) <= 6)
    first, last = math.floor(low / step), math.ceil(high / step)
    return [round(step * number, 9) for number in range(first, max(last, first + 1) + 1)]


def _text(x: float, y: float, text: str, anchor: str, kind: str = "name") -> str:
    return f'<text class="{kind}" x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}">{escape(text)}</text>'


def _svg(height: int, label: str, parts: Sequence[str]) -> str:
    name = escape(label, quote=True)
    return f'<svg viewBox="0 0 {WIDTH} {height}" role="img" aria-label="{name}">{"".join(parts)}</svg>'
