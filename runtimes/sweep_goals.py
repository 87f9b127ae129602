"""What the sweep is for: three goals, met or missed by what was measured in this run, never without."""

from __future__ import annotations

from collections.abc import Iterable

from pocketgenie.runtimes.sweep_plan import EMBEDDED, LARGE, RIVAL
from pocketgenie.runtimes.sweep_results import Case, Document, Goal

LARGE_FPS, EMBEDDED_FPS = 10.0, 1000.0
OURS = ("tensorrt", "ort-cuda")
"""Players of exported graphs: what is compared with CUDA-graphed PyTorch."""


def goals(document: Document) -> list[Goal]:
    """Each judged by the fastest player of its world at N = 2."""
    if document.device is None or document.device.kind != "cuda" or document.settings.get("quick"):
        why = "that takes a card, and the worlds at their own size"
        return [Goal(goal=name, status="not run", detail=why) for name in NAMES]
    measured = [case for case in document.cases if case.steps == 2 and case.speed]
    return [
        _fast_enough(NAMES[0], (case for case in measured if case.world == LARGE), LARGE_FPS),
        _fast_enough(NAMES[1], (case for case in measured if case.world == EMBEDDED), EMBEDDED_FPS),
        _ahead(NAMES[2], [case for case in measured if case.world == EMBEDDED]),
    ]


NAMES = (
    f"10.7B world, N=2: at least {LARGE_FPS:g} fps (the paper: about 1)",
    f"embedded world: at least {EMBEDDED_FPS:g} fps",
    "ours ahead of CUDA-graphed PyTorch, embedded world",
)


def _fast_enough(name: str, cases: Iterable[Case], least: float) -> Goal:
    best = _best(cases)
    if best is None or best.speed is None:
        return Goal(goal=name, status="not run", detail="no player of it was measured")
    return Goal(goal=name, status="met" if best.speed.fps >= least else "missed", detail=_in_words(best))


def _ahead(name: str, cases: list[Case]) -> Goal:
    rival = _best(case for case in cases if case.player == RIVAL)
    ours = _best(case for case in cases if case.player in OURS and rival and case.dtype == rival.dtype)
    if rival is None or rival.speed is None:
        return Goal(goal=name, status="not run", detail=f"{RIVAL} was not measured")
    if ours is None or ours.speed is None:
        return Goal(goal=name, status="not run", detail=f"neither {' nor '.join(OURS)} was measured")
    return Goal(
        goal=name,
        status="met" if ours.speed.fps > rival.speed.fps else "missed",
        detail=f"{_in_words(ours)}; {_in_words(rival)}",
    )


def _best(cases: Iterable[Case]) -> Case | None:
    return max(
        (case for case in cases if case.speed),
        key=lambda case: case.speed.fps if case.speed else 0.0,
        default=None,
    )


def _in_words(case: Case) -> str:
    assert case.speed is not None
    return f"{case.player} {case.dtype}: {case.speed.fps:.4g} fps"
