"""The project's bars for a distilled and quantized bundle: what is asked, what was measured, met or not.

`pocketgenie bench BUNDLE FP32_BUNDLE --bars`: the first is judged, the second is the float32 bundle of the
same checkpoint. What could not be measured is "not run", with the reason; it never counts as met.
"""

from __future__ import annotations

from collections.abc import Mapping

from pocketgenie.runtimes.quality import JUDGED, LEAST_DB, least_separation
from pocketgenie.runtimes.results import (
    WAY,
    BarRow,
    BarStatus,
    BenchDocument,
    LongFigures,
    SpeedRow,
    TeacherFigures,
)

FP32_RATIO, SIZE_RATIO, COMPILED_RATIO, PAPER_RATIO, FPS = 1.7, 0.35, 2.0, 300.0, 60.0
LEAST_MOTION = 0.1
"""Of real clips' motion, in every window of 100 frames (longplay.py); the least of real play is a third."""
MOST_FRECHET = 4.0
"""The last 100 frames, times what real clips have: as 2 % of misplaced tokens."""


def bars(document: BenchDocument, why_not: Mapping[str, str]) -> tuple[BarRow, ...]:
    """Every bar. `why_not`: "quality" or "long_play" -> why it was not run."""
    played = [row for row in document.runtimes if row.name in document.settings.runtimes]
    row = next((one for one in played if one.fps), None)
    return (
        *_speed(document, row, "no runtime was timed" if row is None else ""),
        *_quality(document.quality, why_not.get("quality", "not asked for")),
        *_long(document.long_play, why_not.get("long_play", "not asked for")),
    )


def _speed(document: BenchDocument, row: SpeedRow | None, why: str) -> list[BarRow]:
    fps = row.fps if row else None
    plain = why or "the float32 bundle of the same checkpoint took no part"
    paper = why or "the paper's way was not played: " + "; ".join(document.reference.reasons)
    precision, size = document.bundle.precision, document.bundle.size_ratio
    return [
        _least(f"fps, {precision} to fp32", FP32_RATIO, fps.ratio_fp32 if fps else None, "x", plain),
        _judged(
            f"size, {precision} to fp32",
            f"<= {SIZE_RATIO:.0%}",
            None if size is None else f"{size:.1%}",
            size is not None and size <= SIZE_RATIO,
            plain,
        ),
        _least(
            "fps, to torch.compile",
            COMPILED_RATIO,
            fps.ratio_compiled if fps else None,
            "x",
            why or "compiled did not play",
        ),
        _least(
            f"fps, to the {WAY[document.reference.paper_way_of]}",
            PAPER_RATIO,
            fps.ratio_paper_way if fps else None,
            "x",
            paper,
        ),
        _least(f"fps, {document.machine.in_cores}", FPS, fps.median if fps else None, "", why),
    ]


def _quality(found: TeacherFigures | None, why: str) -> list[BarRow]:
    rows = []
    for name, words in JUDGED.items():
        key = f"{name}_psnr_db"
        value = found.difference_db.get(key) if found else None
        told = f"{value:+.2f} ± {found.error_db[key]:.2f} dB" if found and value is not None else None
        asked = f">= {LEAST_DB:g} dB"
        rows.append(
            _judged(f"to teacher, {words}", asked, told, value is not None and value >= LEAST_DB, why)
        )
    least = least_separation(found) if found else None
    asked = "> chance" if least is None else f">= {least:.2f}"
    told = f"{found.separation:.2f}, teacher {found.separation_teacher:.2f}" if found else None
    met = found is not None and least is not None and found.separation >= least
    return [*rows, _judged("actions distinct, lowest", asked, told, met, why)]


def _long(found: LongFigures | None, why: str) -> list[BarRow]:
    frames = found.frames if found else 1000
    still = min(found.motion_lowest) if found else None
    frozen = sum(lowest < LEAST_MOTION for lowest in found.motion_lowest) if found else 0
    told = None if found is None or still is None else f"{still:.2f}, {frozen} of {found.rollouts} below"
    last = found.frechet_last if found else None
    return [
        _judged(
            f"{frames} frames, stillest window",
            f">= {LEAST_MOTION:g}x real",
            told,
            still is not None and still >= LEAST_MOTION,
            why,
        ),
        _judged(
            f"{frames} frames, Fréchet at end",
            f"<= {MOST_FRECHET:g}x real",
            None if last is None else f"{last:.1f}x",
            last is not None and last <= MOST_FRECHET,
            why,
        ),
    ]


def _least(name: str, least: float, value: float | None, unit: str, why: str) -> BarRow:
    told = None if value is None else f"{value:.3g}{unit}" if value < 1000 else f"{value:.0f}{unit}"
    return _judged(name, f">= {least:g}{unit}", told, value is not None and value >= least, why)


def _judged(name: str, asked: str, measured: str | None, met: bool, why: str) -> BarRow:
    status: BarStatus = "not run" if measured is None else "met" if met else "falls short"
    return BarRow(
        name=name,
        asked=asked,
        measured=measured or "-",
        status=status,
        reason=why if measured is None else "",
    )
