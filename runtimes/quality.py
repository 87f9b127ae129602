"""L4 against the teacher: does a distilled bundle play as well as the world that it was distilled from?

The teacher plays as in the paper (float32, 25 steps, the most confident tokens first; one that another
project trained, as that project plays it) with its streaming memory, which draws the full window's frames
without recomputing it. Both play the same held-out clips
(training/evaluation.py). What distillation took is judged from one side: not more than 0.3 dB less; a better
figure is shown as it is. The error of a difference comes from drawing the clips anew (both worlds' errors of
a clip are drawn together, since a hard clip is hard for both).

Are all actions still distinct? From the same real past every action is held for four frames, with two
noises. The separation of two actions is the RMS distance in pixels between their last frames, over that
between frames of one action that differ by the noise alone, both as means over several pasts. 1 means that
the action says no more than chance. The pair with the lowest separation is reported, and the teacher's
lowest beside it.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pocketgenie.export.bundle import Bundle
from pocketgenie.genie.spec import WorldSpec
from pocketgenie.runtimes.contestants import TEACHER, Contestant
from pocketgenie.runtimes.results import TeacherFigures
from pocketgenie.runtimes.worker import Worker
from pocketgenie.training.evaluation import HORIZON, psnr_db

Array = NDArray[Any]
Report = Callable[[str], None]

JUDGED = {"next_frame": "next frame", "rollout": "fourth frame", "delta": "controllability"}
LEAST_DB = -0.3
PASTS, HELD, NOISES = 6, 4, 2
QUIET = 0.5
"""RMS grey levels that no noise counts below: a world without noise tells any two actions apart."""
KEPT_SEPARATION = 0.8
"""Share of the teacher's lowest separation that has to be left."""
DRAWS = 1000


def teacher_of(bundle: Bundle, picture: Array) -> Worker:
    """The teacher in a process of its own. Raises WorkerFailed, as for a bundle that has none."""
    return Worker(TEACHER, Contestant, bundle.folder, TEACHER, picture, time.time())


def not_comparable(spec: WorldSpec) -> str:
    """Why a world cannot be held against its teacher, in words; empty where it can."""
    if spec.frames == "tokens":
        return "it has tokens and no pixels: how far its frames are from the teacher's cannot be said in dB"
    if spec.actions == 1:
        return "it has one action, and there are no two to tell apart"
    return ""


def against_teacher(
    teacher: Worker, worker: Worker, spec: WorldSpec, clips: Array, seed: int, report: Report
) -> TeacherFigures:
    """Judge a running contestant by its running teacher; minutes on a CPU. Raises WorkerFailed."""
    (taught, bar), (own, errors) = (_evaluated(player, clips, seed, report) for player in (teacher, worker))
    given = max(1, min(clips.shape[1] - HORIZON, spec.memories["dynamics"].slots))
    pasts = clips[np.linspace(0, len(clips) - 1, PASTS).round().astype(int), :given]
    theirs, ours = (_separation(player, pasts, spec.actions, report) for player in (teacher, worker))
    first, second = np.unravel_index(np.nanargmin(ours), ours.shape)
    figures = [name for name in (*JUDGED, "recon") if f"{name}_psnr_db" in own]
    return TeacherFigures(
        runtime=worker.name,
        own=own,
        teacher=taught,
        difference_db={
            f"{name}_psnr_db": own[f"{name}_psnr_db"] - taught[f"{name}_psnr_db"] for name in figures
        },
        error_db={f"{name}_psnr_db": _error(errors, bar, name) for name in figures if name in JUDGED},
        separation=float(np.nanmin(ours)),
        separation_teacher=float(np.nanmin(theirs)),
        hardest=(int(first), int(second)),
    )


def shortfalls(found: TeacherFigures) -> list[str]:
    """What a distilled world lost too much of, one line each."""
    faults = [
        f"L4 teacher: {words} is {found.difference_db[f'{name}_psnr_db']:+.2f} dB, below {LEAST_DB:g}"
        for name, words in JUDGED.items()
        if not found.difference_db.get(f"{name}_psnr_db", 0.0) >= LEAST_DB
    ]
    if not found.separation >= (least := least_separation(found)):
        pair = " and ".join(str(action + 1) for action in found.hardest)
        faults.append(f"L4 teacher: actions {pair} have separation {found.separation:.2f}, below {least:.2f}")
    return faults


def least_separation(found: TeacherFigures) -> float:
    """More than chance, and most of what the teacher has."""
    return max(1.0, KEPT_SEPARATION * found.separation_teacher)


def _evaluated(
    player: Worker, clips: Array, seed: int, report: Report
) -> tuple[dict[str, float], dict[str, list[float]]]:
    for number, clip in enumerate(clips):
        report(f"{player.name}: clip {number + 1} of {len(clips)}")
        player.call("evaluate_clip", clip, seed, number == 0)
    figures, errors = player.call("evaluated")
    return figures, errors


def _error(own: Mapping[str, list[float]], teacher: Mapping[str, list[float]], figure: str) -> float:
    """Standard error of own minus teacher, dB."""
    rng, count = np.random.default_rng(0), len(own["rollout"])
    draws = rng.integers(count, size=(DRAWS, count))
    return float(np.std([_decibels(own, figure, draw) - _decibels(teacher, figure, draw) for draw in draws]))


def _decibels(errors: Mapping[str, list[float]], figure: str, draw: Array) -> float:
    if figure == "delta":
        return _decibels(errors, "rollout", draw) - _decibels(errors, "random", draw)
    return psnr_db(float(np.array(errors[figure])[draw].mean()))


def _separation(player: Worker, pasts: Array, actions: int, report: Report) -> Array:
    """Of every two actions, [A, A], nan on and below the diagonal. pasts: uint8 [P, T, H, W, 3]"""
    apart = np.zeros((actions, actions))
    for number, past in enumerate(pasts):
        report(f"{player.name}: each action from past {number + 1} of {len(pasts)}")
        history = player.call("read", past)
        seeds = range(number * NOISES, (number + 1) * NOISES)
        ends = [
            [player.call("play", history, [action] * HELD, seed)[1][-1] for seed in seeds]
            for action in range(actions)
        ]
        apart += distances(np.array(ends)) / len(pasts)
    return separations(apart)


def distances(ends: Array) -> Array:
    """Frames uint8 [A, E, H, W, 3], E noises each -> mean RMS distance of frames with other noises, [A, A]"""
    flat = ends.reshape(*ends.shape[:2], -1).astype(np.float32)
    noises = len(flat[0])
    others = [(i, j) for i in range(noises) for j in range(noises) if i != j]
    rms = [np.sqrt(np.square(flat[:, None, i] - flat[None, :, j]).mean(-1)) for i, j in others]
    return np.asarray(np.mean(rms, axis=0))


def separations(apart: Array) -> Array:
    """Distances [A, A] -> between two actions / within them, nan on and below the diagonal"""
    within = np.diagonal(apart)
    ratios = apart / np.maximum((within[:, None] + within[None]) / 2, QUIET)
    ratios[np.tril_indices(len(ratios))] = np.nan
    return np.asarray(ratios)
