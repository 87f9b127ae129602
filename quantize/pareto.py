"""What a precision search found: every point that was run, the front, the choice and why. No torch.

`search.json` in a bundle is a SearchDocument, `pareto.csv` its points as a table.
"""

from __future__ import annotations

import csv
import io
from collections.abc import Sequence
from typing import Final, Literal

from pydantic import Field

from pocketgenie.errors import UserError
from pocketgenie.genie.spec import Frozen

SEARCH, PARETO, SENSITIVITY = "search.json", "pareto.csv", "sensitivity.json"
SCHEMA: Final = 1
JUDGED = {
    "recon_psnr_db": "reconstruction",
    "next_frame_psnr_db": "next frame",
    "rollout_psnr_db": "fourth frame",
    "delta_psnr_db": "controllability",
}
"""The figures of L4 (training/evaluation.py) that the budget is about: those of them that a world has, since
controllability takes an action model."""
TEACHERS = ", teacher's decoder"
"""What the name of a point with that decoder says after its steps."""
Decoder = Literal["own", "teacher"]


class Goal(Frozen):
    """What is searched for, always within the budget: the fastest, or the smallest that reaches `fps`."""

    budget_db: float = Field(ge=0)
    """dB by which no figure of L4 may be worse than the baseline's."""
    fps: float | None = Field(gt=0, default=None)
    """Frames a second on this machine."""


class Point(Frozen):
    """One bundle that was really made and run."""

    name: str
    steps: int
    """N"""
    decoder: Decoder
    """Whose decoder draws the pixels."""
    precision: str
    bits: dict[str, str]
    """Group of products -> fp32, int8 or int4."""
    fps: float
    """Median over the rounds."""
    ratio: float
    """Times the fps of the checkpoint at float32, in the same run."""
    size_mb: float
    """Of the graphs and their weights, MB = 10^6 bytes."""
    figures: dict[str, float]
    """L4, dB"""
    quality_db: float
    """The worst figure of L4 minus the baseline's: negative is a loss."""

    @property
    def loss_db(self) -> float:
        """What counts against the budget; being better than the baseline counts as no loss."""
        return max(0.0, -self.quality_db)


class Baseline(Frozen):
    """What the quality is measured against."""

    name: str
    figures: dict[str, float]


class SearchDocument(Frozen):
    """search.json"""

    schema_version: Literal[1] = SCHEMA
    world: str
    checkpoint_hash: str
    goal: Goal
    baseline: Baseline
    points: tuple[Point, ...]
    """The checkpoint at float32 first, then in the order in which they were tried."""
    chosen: str
    why: dict[str, str]
    """Candidate -> why it was chosen or why not; also of those that could not be run, which are no points."""
    front: tuple[str, ...]
    """The points that no other is both faster and better than, the slowest first."""
    machine: str
    cores: int
    clips: int
    """Held-out clips that L4 was measured on."""
    rounds: int
    seconds: float
    """What the search took."""

    def point(self, name: str) -> Point:
        """KeyError for one that was not run."""
        return {point.name: point for point in self.points}[name]


def quality(figures: dict[str, float], baseline: dict[str, float]) -> float:
    """The worst of the judged figures minus the baseline's, dB."""
    return min(figures[name] - baseline[name] for name in JUDGED if name in baseline)


def front(points: Sequence[Point]) -> list[Point]:
    """Those that no other point beats in both fps and quality (nor in one, at a tie), the slowest first."""
    found: list[Point] = []
    for point in sorted(points, key=lambda point: (-point.fps, -point.quality_db)):
        if not found or point.quality_db > found[-1].quality_db:
            found.append(point)
    return found[::-1]


def choose(points: Sequence[Point], goal: Goal) -> Point:
    """The fastest within the budget, or the smallest that reaches the frame rate. UserError for none."""
    within = [point for point in points if point.loss_db <= goal.budget_db]
    if not within:
        near = min(points, key=lambda point: (point.loss_db, -point.fps))
        raise UserError(
            f"nothing that was tried stays within {goal.budget_db:g} dB: the nearest, {near.name}, loses "
            f"{near.loss_db:.2f} dB; allow it with --budget-db {_upwards(near.loss_db)}"
        )
    if goal.fps is None:
        return max(within, key=lambda point: (point.fps, point.quality_db))
    wanted = goal.fps
    if not (enough := [point for point in within if point.fps >= wanted]):
        near = max(within, key=lambda point: point.fps)
        raise UserError(
            f"nothing within {goal.budget_db:g} dB reaches {wanted:g} fps here: the fastest, {near.name}, "
            f"plays at {near.fps:.1f}; ask for less with --fps, or allow more loss with --budget-db"
        )
    return min(enough, key=lambda point: (point.size_mb, -point.quality_db))


def explain(points: Sequence[Point], chosen: Point, goal: Goal) -> dict[str, str]:
    """Every point -> why it was chosen or why not, in a few words."""
    return {point.name: _verdict(point, chosen, goal) for point in points}


def _verdict(point: Point, chosen: Point, goal: Goal) -> str:
    if point is chosen:
        what = "the fastest" if goal.fps is None else f"the smallest that reaches {goal.fps:g} fps"
        return f"chosen: {what} within {goal.budget_db:g} dB"
    if point.loss_db > goal.budget_db:
        return f"over the budget by {point.loss_db - goal.budget_db:.2f} dB"
    if goal.fps is None:
        return f"{1 - point.fps / chosen.fps:.0%} slower"
    if point.fps < goal.fps:
        return f"{1 - point.fps / goal.fps:.0%} too slow"
    return f"{point.size_mb / chosen.size_mb - 1:.0%} larger"


def to_csv(document: SearchDocument) -> str:
    """One line a point, the fastest first."""
    file = io.StringIO()
    writer = csv.writer(file, lineterminator="\n")
    head = ("point", "steps", "decoder", "precision", "fps", "times_fp32", "size_mb", "quality_db", *JUDGED)
    writer.writerow((*head, "on_front", "verdict"))
    for point in sorted(document.points, key=lambda point: -point.fps):
        numbers = (point.fps, point.ratio, point.size_mb, point.quality_db)
        writer.writerow(
            (
                *(point.name, point.steps, point.decoder, point.precision),
                *(f"{number:.3f}" for number in numbers),
                *(f"{point.figures[name]:.3f}" if name in point.figures else "" for name in JUDGED),
                *(point.name in document.front, document.why[point.name]),
            )
        )
    return file.getvalue()


def _upwards(loss_db: float) -> str:
    """Two digits that are not below."""
    return f"{int(loss_db * 100) / 100 + 0.01:.2f}"
