"""`make gpu-check`: the limits of the card, then one contest after the other until the time is up.

Every process may crash, hang or run out of memory: that is a row with its reason, and the next one starts.
The document is saved after each case, so that a run that is killed leaves all that was measured.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import replace
from typing import Any

from pocketgenie.runtimes.sweep_bundles import prove
from pocketgenie.runtimes.sweep_contest import (
    OUT_OF_TIME,
    RESERVE,
    ContestRun,
    Home,
    Processes,
    Settings,
    world_home,
)
from pocketgenie.runtimes.sweep_goals import goals
from pocketgenie.runtimes.sweep_plan import Contest, plan
from pocketgenie.runtimes.sweep_results import Document, Parity
from pocketgenie.runtimes.worker import WorkerFailed

Proven = tuple[tuple[str, str, tuple[str, ...]], ...]
"""Target, precision and runtimes of each bundle."""
MATRICES = ("bfloat16", "float16", "float8", "float32")
PROVEN: dict[str, Proven] = {
    "cuda": (
        ("onnx", "fp32", ("cuda-graph", "cuda-eager", "ort-cuda")),
        ("tensorrt", "fp16", ("tensorrt", "ort-cuda", "cuda-graph")),
    ),
    "cpu": (("onnx", "fp32", ("ort-cpu",)), ("tensorrt", "fp16", ("tensorrt",))),
}
"""Bundles of the trained world by device, and the runtimes that are checked in each."""
PROVEN_LAST: dict[str, Proven] = {"cuda": (("onnx", "fp32", ("compiled", "cuda-compiled")),), "cpu": ()}
"""If there is time: what Inductor compiles for minutes."""
PROVE_AFTER = 3
"""Contests that come before the parity: the large world and the embedded one at N = 2."""
PROVE_SHARE = 0.5
"""Of the time that is left, at most, for one bundle's parity."""


class Sweep:
    """One run. `save` writes the document, `say` tells what is being done."""

    def __init__(
        self, settings: Settings, document: Document, save: Callable[[], None], say: Callable[[str], None]
    ) -> None:
        self.settings, self.document, self.say = settings, document, say
        self.write = save
        self.began = time.monotonic()
        self.processes = Processes(self.left)

    def left(self) -> float:
        """Seconds until the time is up."""
        return self.settings.minutes * 60 - (time.monotonic() - self.began)

    def run(self) -> None:
        """All of it."""
        settings, contests = self.settings, list[Contest]()
        if settings.part != "parity":
            contests = plan(settings.device, settings.quick, settings.worlds)
        first: Proven = ()
        last: Proven = ()
        if settings.part != "speed":
            first, last = PROVEN[settings.device], PROVEN_LAST[settings.device]
        try:
            self._limits()
            if not contests:
                self._parity(first)
            for number, contest in enumerate(contests):
                self.say(f"{contest.world} N={contest.steps} {contest.dtype}: {', '.join(contest.players)}")
                ContestRun(contest, self.settings, self.processes, self.document, self._save).run()
                self._close_idle(contests[number + 1 :])
                if number + 1 == min(PROVE_AFTER, len(contests)):
                    self._parity(first)
            self._parity(last)
            self.document.finished = True
        finally:
            self.processes.end(*list(self.processes.workers))
            self._save()

    def _save(self) -> None:
        self.document.seconds = round(time.monotonic() - self.began, 1)
        self.document.goals = goals(self.document)
        self.write()

    def _limits(self) -> None:
        from pocketgenie.runtimes.card_limits import CardLimits

        self.say("the limits of the device")
        home = Home(CardLimits, (self.settings.device, self.settings.quick))
        asks: list[tuple[str, str, tuple[Any, ...]]] = [
            (f"matrix {name}", "matrix", (name,)) for name in MATRICES
        ]
        asks += [(name, name, ()) for name in ("bandwidth", "launches", "host_copies")]
        for name, method, args in asks:
            limits = self.document.limits
            try:
                if self.document.device is None:
                    self.document.device = self.processes.call(home, "facts", seconds=90)
                rate = self.processes.call(home, method, *args, seconds=60)
                matrix = {**limits.matrix, args[0]: rate} if args else limits.matrix
                found = {"matrix": matrix} if args else {name: rate}
                self.document.limits = replace(limits, **found)
            except WorkerFailed as failure:
                self.document.limits = replace(limits, reasons={**limits.reasons, name: str(failure)})
        self.processes.end(home)
        self._save()

    def _parity(self, bundles: Proven) -> None:
        """The trained world in the runtimes of this device, by `check`."""
        settings = self.settings
        for target, precision, names in bundles:
            self.say(f"parity of {settings.checkpoint.name}, {target} {precision}: {', '.join(names)}")
            limit = max(self.left() * PROVE_SHARE, 3 * RESERVE)
            if self.left() < limit:
                row = Parity(
                    target=target, precision=precision, runtimes=names, status="not run", reason=OUT_OF_TIME
                )
            else:
                row = prove(
                    settings.checkpoint,
                    target,
                    precision,
                    names,
                    device=settings.device,
                    frames=settings.parity_frames,
                    clips=settings.parity_clips,
                    folder=settings.scratch,
                    seconds=limit,
                )
            self.document.parity.append(row)
            self._save()

    def _close_idle(self, contests: list[Contest]) -> None:
        """End the processes that nobody needs again, and those that stand in the way of the next."""
        coming = [world_home(contest, self.settings) for contest in contests]
        for home in list(self.processes.workers):
            makes_room = bool(coming) and home.args[0] == coming[0].args[0] and home != coming[0]
            if home not in coming or makes_room:
                self.processes.end(home)
