"""The headline and the speed of a report: what a check says first."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from pocketgenie.export.charts import Bar, bars, ratios
from pocketgenie.export.manifest import Manifest
from pocketgenie.export.page import Block, Charts, Table, Tiles
from pocketgenie.runtimes.results import WAY, CheckDocument, FpsFigures, RuntimeRow


def headline_row(check: CheckDocument | None) -> RuntimeRow | None:
    """The runtime that the report is about: the first that was asked for."""
    if check is None or not check.runtimes:
        return None
    named = {row.name: row for row in check.runtimes}
    return next((named[name] for name in check.settings.runtimes if name in named), check.runtimes[0])


def headline(manifest: Manifest, check: CheckDocument | None, not_checked: str) -> tuple[str, str, str]:
    """Title, lead, verdict."""
    name, row = manifest.spec.name, headline_row(check)
    made = f"{manifest.target} {manifest.precision}"
    if row is None:
        return f"{name} as {made}: built, not run", f"Not run: {not_checked}.", "not run"
    reason = row.reasons[0] if row.reasons else "no reason was given"
    match row.status:
        case "passed":
            return f"{name} on {row.name} plays the same world", _same_world(row), row.status
        case "falls short":
            return f"{name} on {row.name} falls short of the reference", f"{reason}.", row.status
        case "not run":
            how = "built, not run" if manifest.engines else f"not proven on {row.name}"
            told = f"Not run: {reason.removeprefix('built, not run: ')}."
            proven = [one.name for one in check.runtimes if one.status == "passed"] if check else []
            if manifest.engines and proven:
                told += f" The ONNX graphs that the engines were built from pass on {', '.join(proven)}."
            return f"{name} as {made}: {how}", told, row.status


def _same_world(row: RuntimeRow) -> str:
    if (played := row.parity.rollout) is None:
        return "It holds every bound."
    many = f"a roll-out of {played.frames} frames"
    if played.rollouts > 1:
        many = f"{played.rollouts} roll-outs of {played.frames} frames"
    if played.first_difference is None:
        return f"In {many} every token is the one that the float32 PyTorch reference drew."
    where = f"In {many} the first token other than the float32 PyTorch reference's is in frame "
    tie = "" if played.margin is None else f": a tie, {played.margin:.1g} apart"
    return f"{where}{played.first_difference + 1}{tie}."


def tiles(check: CheckDocument, row: RuntimeRow) -> Tiles:
    """Ratios first."""
    fps, reference = row.fps, check.reference
    assert fps is not None
    compiled = next(
        (other.fps.median for other in check.runtimes if other.name == "compiled" and other.fps), None
    )
    rivals = (
        (fps.ratio_paper_way, f"as fast as the {WAY[reference.paper_way_of]}", reference.fps_paper_way),
        (fps.ratio_cached, "as fast as the cached reference", reference.fps_cached),
        (fps.ratio_compiled, "as fast as torch.compile", compiled),
    )
    found = [
        (times(ratio), rival, f"which plays at {number(rate)} fps")
        for ratio, rival, rate in rivals
        if ratio is not None and rate is not None
    ]
    slow = f"95 % of the frames at {number(fps.p95)} fps or faster"
    return Tiles([*found, (f"{number(fps.median)} fps", f"{row.name}, {row.precision}", slow)])


def speed(check: CheckDocument, stages_ms: Mapping[str, float]) -> list[Block]:
    """The charts of the fps, the ratios and a frame's stages, and all speeds in one table."""
    ours = headline_row(check)
    reference = (
        (f"the {WAY[check.reference.paper_way_of]}", check.reference.fps_paper_way),
        ("cached reference", check.reference.fps_cached),
    )
    rows = [
        Bar(name=name, value=fps, shown=f"{number(fps)} fps") for name, fps in reference if fps is not None
    ]
    rows += [_bar(row, row.fps, row is ours) for row in check.runtimes if row.fps]
    charts: list[tuple[str, str]] = []
    if rows:
        charts.append(("Frames per second (dots: rounds, line: p95)", bars(rows, "frames per second")))
    if ours and ours.fps and (compared := _ratios(ours.fps, _rivals(check))):
        charts.append((f"How many times as fast is {ours.name}?", ratios(compared, "ratios")))
    if stages_ms:
        stages = [
            Bar(name=name, value=ms, shown=f"{number(ms)} ms", ours=True) for name, ms in stages_ms.items()
        ]
        charts.append(("Where the time of a frame goes", bars(stages, "milliseconds per stage")))
    head = (
        "",
        "fps",
        "p50",
        "p95",
        *(f"× {rival}" for rival in _rivals(check)),
        "first frame",
        "memory",
        "of the limit",
    )
    return [Charts(charts), Table(head, [_speed_row(row) for row in check.runtimes])]


def _bar(row: RuntimeRow, fps: FpsFigures, ours: bool) -> Bar:
    shown = f"{number(fps.median)} fps"
    return Bar(name=row.name, value=fps.median, shown=shown, ours=ours, marks=fps.rounds, low=fps.p95)


def _rivals(check: CheckDocument) -> tuple[str, str, str]:
    return WAY[check.reference.paper_way_of], "cached", "torch.compile"


def _ratios(fps: FpsFigures, rivals: Sequence[str]) -> list[Bar]:
    found = (fps.ratio_paper_way, fps.ratio_cached, fps.ratio_compiled)
    return [
        Bar(name=name, value=value, shown=times(value))
        for name, value in zip(rivals, found, strict=True)
        if value
    ]


def _speed_row(row: RuntimeRow) -> list[str]:
    name = f"**{row.name}** {row.precision}"
    if (fps := row.fps) is None:
        return [name, "not run", *[""] * 8]
    found = (fps.ratio_paper_way, fps.ratio_cached, fps.ratio_compiled)
    return [
        name,
        *(number(value) for value in (fps.median, fps.p50, fps.p95)),
        *("" if ratio is None else times(ratio) for ratio in found),
        "" if row.first_frame_ms is None else f"{row.first_frame_ms / 1000:.1f} s",
        "" if row.memory_mb is None else f"{row.memory_mb:.0f} MB",
        "" if row.limit_share is None else f"{row.limit_share:.0%}",
    ]


def times(ratio: float) -> str:
    """71.4×: three digits are all that such a measurement holds."""
    return f"{number(ratio)}×"


def number(value: float) -> str:
    """Three digits, never an exponent."""
    return f"{value:.0f}" if value >= 100 else f"{value:.3g}"
