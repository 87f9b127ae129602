"""How fast each runtime plays, measured side by side.

A frame counts when its uint8 pixels are in host memory: drawing its noise, the `play` graph and every
copy are in its time; loading, compiling and each turn's warm-up are not. Each runtime lives in its own
process, and only one works at a time: in every round each takes a turn, among them the reference as the
paper plays it (25 steps, the full window recomputed; the teacher of a distilled world), the cached reference,
and the machine's own matrix rate; with several bundles, the runtimes of all. What slows the machine for a
while slows them all, though not all alike: cores that lie far apart cost most where operations are small,
so the contest measures in every round how far they lie (core_to_core.py).
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pocketgenie.errors import UserError
from pocketgenie.export.bundle import Bundle
from pocketgenie.runtimes.artefact import gflop_per_frame
from pocketgenie.runtimes.contestants import Contestant, PaperWay
from pocketgenie.runtimes.core_to_core import round_trip_ns
from pocketgenie.runtimes.matrix import MatrixProducts
from pocketgenie.runtimes.results import FpsFigures, MatrixRate, PaperWayOf, ReferenceSpeed, SpeedRow
from pocketgenie.runtimes.worker import Worker, WorkerFailed

Array = NDArray[Any]
Report = Callable[[str], None]

PAPER, MATRIX = "paper-way", "matrix-rate"
TURN_SECONDS = 2.0
"""A turn ends here where the frames of a large world take longer."""


@dataclass(frozen=True, kw_only=True)
class Guest:
    """Another bundle's runtime in the contest of the first one."""

    folder: Path
    runtime: str
    picture: Array


@dataclass(frozen=True, kw_only=True)
class Rivals:
    """Whom a runtime's ratios are made with, by their names in the contest."""

    cached: str = "reference"
    compiled: str = "compiled"
    fp32: str = ""
    """The float32 bundle's own runtime; "" for none."""


HOME = Rivals()


@dataclass
class Contest:
    """The processes of a contest, and how long their frames took. A `with` block ends them all."""

    folder: Path
    names: Sequence[str]
    """Runtimes; the reference, the paper's way and the matrix rate take part in any case."""
    picture: Array
    guests: Mapping[str, Guest] = field(default_factory=dict)
    """Of further bundles, by the names they have here."""
    paper: Path | None = None
    """The bundle that plays the paper's way, where it is not `folder`."""
    workers: dict[str, Worker] = field(default_factory=dict)
    failures: dict[str, str] = field(default_factory=dict)
    """Why a contestant did not start, or failed in its turn."""
    first_frame_ms: dict[str, float] = field(default_factory=dict)
    memory_mb: dict[str, float] = field(default_factory=dict)
    turns: dict[str, list[list[float]]] = field(default_factory=dict)
    """Milliseconds of each frame of each round."""
    rates: list[dict[tuple[str, tuple[int, int, int]], float]] = field(default_factory=list)
    core_to_core_ns: list[float] = field(default_factory=list)
    """Of each round; none where it cannot be measured."""

    def __post_init__(self) -> None:
        self._stack = ExitStack()

    def __enter__(self) -> Contest:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: object) -> None:
        self.close(error)

    def close(self, error: BaseException | None = None) -> None:
        """End every process; at once after an error."""
        self._stack.__exit__(type(error) if error else None, error, None)

    def start(self, report: Report) -> None:
        """Start every process, one after the other, and play one frame."""
        for name in dict.fromkeys(("reference", *self.names)):
            report(f"starting {name}")
            self._enter(name, self.folder, name, self.picture)
        for name, guest in self.guests.items():
            report(f"starting {name}")
            self._enter(name, guest.folder, guest.runtime, guest.picture)
        report(f"starting {PAPER}")
        self._start(PAPER, PaperWay, self.paper or self.folder, self.picture)
        self._start(MATRIX, MatrixProducts)

    def _enter(self, name: str, folder: Path, runtime: str, picture: Array) -> None:
        self._start(name, Contestant, folder, runtime, picture, time.time())
        if name in self.workers:
            self.first_frame_ms[name] = self.workers[name].call("first_frame")

    def _start(self, name: str, make: Callable[..., object], *args: Any) -> None:
        try:
            self.workers[name] = self._stack.enter_context(Worker(name, make, *args))
        except WorkerFailed as failure:
            self.failures[name] = f"did not start: {failure}"

    def run(self, rounds: int, frames: int, report: Report) -> None:
        """Every contestant takes a turn in every round; the order turns about."""
        for number in range(rounds):
            report(f"round {number + 1} of {rounds}")
            if (apart := round_trip_ns()) is not None:
                self.core_to_core_ns.append(apart)
            order = [name for name in self.workers if name not in self.failures]
            for name in order if number % 2 else reversed(order):
                try:
                    if name == MATRIX:
                        self.rates.append(self.workers[name].call("turn"))
                    else:
                        count = 1 if name == PAPER else frames
                        turn = self.workers[name].call("turn", count, TURN_SECONDS)
                        self.turns.setdefault(name, []).append(turn)
                        if name != PAPER:
                            self.memory_mb[name] = self.workers[name].call("memory_mb")
                except WorkerFailed as failure:
                    self.failures[name] = f"failed in round {number + 1}: {failure}"

    def fps(self, name: str) -> float | None:
        """Median over the rounds of frames / seconds; None for one that did not finish."""
        if name in self.failures or not self.turns.get(name):
            return None
        return float(np.median(per_round(self.turns[name])))

    def matrix(self) -> MatrixRate | None:
        """The best of the medians."""
        if not self.rates:
            return None
        medians = {key: float(np.median([rate[key] for rate in self.rates])) for key in self.rates[0]}
        (library, shape), best = max(medians.items(), key=lambda item: item[1])
        return MatrixRate(gflops=best, library=library, shape=shape)

    def limits(self) -> dict[str, Any]:
        """Of the machine, by the names they have in results.Machine."""
        return {"matrix": self.matrix(), "core_to_core_ns": tuple(self.core_to_core_ns)}

    def reference(self, of: PaperWayOf, rivals: Rivals = HOME) -> ReferenceSpeed:
        """The two paces of the reference, which the ratios are made of."""
        names = rivals.cached, PAPER
        reasons = [f"{name}: {self.failures[name]}" for name in names if name in self.failures]
        return ReferenceSpeed(
            fps_paper_way=self.fps(PAPER),
            paper_way_of=of,
            fps_cached=self.fps(rivals.cached),
            reasons=tuple(reasons),
        )

    def row(self, name: str, precision: str, gflop: float | None, rivals: Rivals = HOME) -> SpeedRow:
        """One runtime's figures, as far as it came."""
        fps = None if self.fps(name) is None else self._figures(name, rivals)
        rate = self.matrix()
        return SpeedRow(
            name=name,
            precision=precision,
            reasons=(self.failures[name],) if name in self.failures else (),
            fps=fps,
            memory_mb=self.memory_mb.get(name),
            first_frame_ms=self.first_frame_ms.get(name),
            limit_share=gflop * fps.median / rate.gflops if gflop and fps and rate else None,
        )

    def _figures(self, name: str, rivals: Rivals) -> FpsFigures:
        rounds = per_round(self.turns[name])
        frames = np.concatenate(self.turns[name])
        median = float(np.median(rounds))
        ratios = {
            f"ratio_{key}": self._ratio(rounds, rival)
            for key, rival in {"paper_way": PAPER, **vars(rivals)}.items()
        }
        return FpsFigures(
            p50=1000 / float(np.percentile(frames, 50)),
            p95=1000 / float(np.percentile(frames, 95)),
            median=median,
            rounds=tuple(rounds),
            **ratios,
        )

    def _ratio(self, rounds: Sequence[float], rival: str) -> float | None:
        """Median over the rounds of the ratio within a round, whose turns are seconds apart."""
        if self.fps(rival) is None:
            return None
        return float(np.median(np.divide(rounds, per_round(self.turns[rival]))))


def per_round(turns: Sequence[Sequence[float]]) -> list[float]:
    """Frames / seconds of each turn."""
    return [1000 * len(turn) / sum(turn) for turn in turns]


def count_gflop(bundle: Bundle) -> tuple[float | None, str]:
    """Matrix operations of the `play` graph in 10^9, or None and why not."""
    try:
        return gflop_per_frame(bundle.path(bundle.manifest.graphs["play"].file)), ""
    except (UserError, KeyError) as error:
        return None, str(error)
