"""The sweep as one chart: frames per second by world and N for each player, logarithmic. Plain SVG."""

from __future__ import annotations

import math
from collections.abc import Iterator
from html import escape

from pocketgenie.runtimes.sweep_results import Case, Document

COLOURS = {
    "tensorrt": "#0e7c70",
    "ort-cuda": "#5fb3a8",
    "ort-cpu": "#5fb3a8",
    "cuda-graph": "#c2410c",
    "cuda-compiled": "#e39a5b",
    "cuda-eager": "#8a929b",
    "paper-way": "#4a4f57",
}
WIDTH, LEFT, RIGHT, BAR, GAP, HEAD = 720, 190, 70, 15, 12, 74
FONT = "system-ui, -apple-system, Segoe UI, Roboto, DejaVu Sans, sans-serif"


def draw(document: Document) -> str:
    """An SVG document; of cases that were measured."""
    groups: dict[tuple[str, int, str], list[Case]] = {}
    for case in document.cases:
        if case.speed:
            groups.setdefault((case.world, case.steps, case.dtype), []).append(case)
    rates = [case.speed.fps for cases in groups.values() for case in cases if case.speed]
    low = math.floor(math.log10(min(rates, default=1.0)) - 0.05)
    high = math.ceil(math.log10(max(rates, default=10.0)) + 0.05)
    scale = (WIDTH - LEFT - RIGHT) / max(high - low, 1)
    order = list(document.worlds)
    rows = sorted(groups.items(), key=lambda item: (order.index(item[0][0]), item[0][2], item[0][1]))
    height = (
        HEAD + sum(GAP + BAR * len(cases) for _, cases in rows) + 26 * len({key[0] for key, _ in rows}) + 12
    )

    parts = [*_legend({case.player for cases in groups.values() for case in cases})]
    for power in range(low, high + 1):
        x = LEFT + (power - low) * scale
        parts.append(f'<path d="M{x:.1f} {HEAD - 8}V{height - 12}" stroke="#dcd8ce"/>')
        parts.append(_text(x, HEAD - 14, f"{10**power:g}", "middle", "#616a75"))
    y, world = float(HEAD), None
    for (name, steps, dtype), cases in rows:
        if name != world:
            world, y = name, y + 26
            sizes = document.worlds[name]
            head = f"{name}  {sizes['pixels'][0]}×{sizes['pixels'][1]}"
            parts.append(_text(14, y - 6, head, "start", "#1c2026", weight=600))
        parts.append(_text(LEFT - 10, y + BAR * len(cases) / 2 + 4, f"N={steps}  {dtype}", "end", "#1c2026"))
        for case in sorted(cases, key=lambda case: -case.speed.fps if case.speed else 0.0):
            assert case.speed is not None
            length = max((math.log10(case.speed.fps) - low) * scale, 1.0)
            colour = COLOURS.get(case.player, "#8a929b")
            parts.append(
                f'<rect x="{LEFT}" y="{y + 1:.1f}" width="{length:.1f}" height="{BAR - 2}" rx="2" '
                f'fill="{colour}"/>'
            )
            parts.append(_text(LEFT + length + 6, y + BAR - 3, _number(case.speed.fps), "start", "#1c2026"))
            y += BAR
        y += GAP
    device = document.device.name if document.device else "no device"
    trial = ", small twins of the worlds" if document.settings.get("quick") else ""
    title = f"Frames per second on {device}{trial}" + ("" if document.finished else " (unfinished run)")
    label = escape(title, quote=True)
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {height:.0f}" width="{WIDTH}" '
        f'height="{height:.0f}" role="img" aria-label="{label}" font-family="{FONT}" font-size="12">'
        f'<rect width="{WIDTH}" height="{height:.0f}" fill="#fffefb"/>'
        f"{_text(14, 22, title, 'start', '#1c2026', weight=600, size=15)}{''.join(parts)}</svg>\n"
    )


def _legend(players: set[str]) -> Iterator[str]:
    x = 14.0
    for name, colour in COLOURS.items():
        if name in players:
            yield f'<rect x="{x:.1f}" y="33" width="11" height="11" rx="2" fill="{colour}"/>'
            yield _text(x + 16, 43, name, "start", "#616a75")
            x += 34 + 7 * len(name)


def _text(x: float, y: float, text: str, anchor: str, colour: str, weight: int = 400, size: int = 12) -> str:
    return (
        f'<text x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}" fill="{colour}" font-weight="{weight}" '
        f'font-size="{size}" xml:space="preserve">{escape(text)}</text>'
    )


def _number(value: float) -> str:
    return f"{value:.0f}" if value >= 100 else f"{value:.3g}"
