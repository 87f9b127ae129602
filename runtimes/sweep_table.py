"""The sweep's document as text for a terminal of 80 columns. Plain text: rich may not be there."""

from __future__ import annotations

import textwrap
from collections.abc import Iterable, Iterator

from pocketgenie.runtimes.sweep_results import Case, DeviceFacts, Document, Limits, Parity

WIDTH = 80
NOTHING = "-"
HEAD = ("N", "dtype", "player", "fps", "p50", "p95", "noise", "refine", "decode", "limit", "GB")
FORMAT = "{:>2} {:8} {:13} {:>6} {:>5} {:>5} {:>5} {:>6} {:>6} {:>5} {:>5}"
LEGEND = (
    "fps: median over rounds, pixels in host memory. p50, p95, noise (and copies), refine, decode: "
    "milliseconds. limit: share of the measured limit that binds, o: operations, b: bandwidth. "
    "GB: peak that torch took on the card (host memory without one)."
)


def render(document: Document) -> str:
    """All that a person wants to know; lines of at most 80 columns."""
    lines = [_title(document.device, document), *_limits(document.limits)]
    if document.settings.get("quick"):
        lines += ["", "A trial: small twins of the worlds, few frames."]
    for world, sizes in document.worlds.items():
        width, height = sizes["pixels"]
        lines += [
            "",
            f"{world}: {width}x{height}, {sizes['tokens']} tokens, {_count(sizes['parameters'])} parameters",
        ]
        cases = [case for case in document.cases if case.world == world]
        if any(case.speed for case in cases):
            lines.append(FORMAT.format(*HEAD).rstrip())
            lines += [_row(case) for case in sorted(cases, key=_order) if case.speed]
        lines += _reasons(cases)
    if document.parity:
        lines += ["", "the trained embedded world"]
        for row in document.parity:
            lines += _parity(row)
    lines += [
        "",
        *(
            _goal
            for goal in document.goals
            for _goal in _wrap(f"{goal.status:8} {goal.goal}: {goal.detail}", 9)
        ),
    ]
    lines += ["", *textwrap.wrap(LEGEND, WIDTH)]
    return "\n".join(lines) + "\n"


def _title(device: DeviceFacts | None, document: Document) -> str:
    if device is None:
        return "no device was reached"
    card = f", compute capability {device.capability}, driver {device.driver}" if device.capability else ""
    until = "" if document.finished else " (unfinished)"
    return f"{device.name[:30]}{card}, torch {device.torch}{until}"[:WIDTH]


def _limits(limits: Limits) -> Iterator[str]:
    matrix = [f"{name} {_number(rate.best)}" for name, rate in limits.matrix.items()]
    parts = [f"TFLOP/s: {', '.join(matrix)}"] if matrix else []
    if limits.bandwidth:
        parts.append(f"memory: {_number(limits.bandwidth.best)} GB/s")
    if limits.launches:
        each = [f"{name} {_number(value)}" for name, value in limits.launches.by_case.items()]
        parts.append(f"us a launch: {', '.join(each)}")
    if limits.host_copies:
        each = [f"{_number(value)} {name}" for name, value in limits.host_copies.by_case.items()]
        parts.append(f"PCIe GB/s: {', '.join(each)}")
    yield from _wrap("; ".join(parts), 0)
    for name, reason in limits.reasons.items():
        yield from _wrap(f"{name}: not measured: {reason}", 2)


def _order(case: Case) -> tuple[int, str, float]:
    return case.steps, case.dtype, -case.speed.fps if case.speed else 0.0


def _row(case: Case) -> str:
    assert case.speed is not None
    stages: list[float | None] = [*(case.stages_ms or {}).values()] or [None] * 3
    share = NOTHING if case.bound is None else f"{case.bound.share:.0%}{case.bound.binds[0]}"
    memory = case.device_mb if case.device_mb is not None else case.host_mb
    return FORMAT.format(
        case.steps,
        case.dtype,
        case.player,
        _number(case.speed.fps),
        _number(case.speed.p50_ms),
        _number(case.speed.p95_ms),
        *map(_number, stages),
        share,
        _number(None if memory is None else memory / 1000),
    ).rstrip()


def _reasons(cases: Iterable[Case]) -> Iterator[str]:
    """Cases with the same reason on one line."""
    together: dict[tuple[str, str, str], list[str]] = {}
    for case in cases:
        if case.reason:
            key = (case.player, case.status, case.reason)
            together.setdefault(key, []).append(f"N={case.steps} {case.dtype}")
    for (player, status, reason), which in together.items():
        told = "" if status == "measured" else f"{status}: "
        yield from _wrap(f"{player} ({', '.join(which)}): {told}{reason}", 2)


def _parity(row: Parity) -> Iterator[str]:
    name = f"{row.target} {row.precision}"
    if row.check is None:
        which = ", ".join(row.runtimes)
        yield from _wrap(f"{name} {which}: {row.status}: {row.reason}", 2)
        return
    for found in row.check["runtimes"]:
        fps = f"{_number(found['fps']['median'])} fps" if found["fps"] else "no fps"
        why = f": {found['reasons'][0]}" if found["reasons"] else ""
        yield from _wrap(f"{name} {found['name']}: {found['status']}, {fps}{why}", 2)


def _wrap(text: str, indent: int) -> list[str]:
    return textwrap.wrap(text, WIDTH, subsequent_indent=" " * indent, break_on_hyphens=False)


def _count(parameters: int) -> str:
    size, unit = (1e9, "B") if parameters >= 1e9 else (1e6, "M") if parameters >= 1e6 else (1e3, "K")
    return f"{parameters / size:.1f} {unit}"


def _number(value: float | None) -> str:
    """Three digits are all that such a measurement holds."""
    if value is None:
        return NOTHING
    return f"{value:.0f}" if value >= 100 else f"{value:.3g}" if value >= 0.001 else "0"
