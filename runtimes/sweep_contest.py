"""One contest of the sweep: players of one world at one N and dtype are built, then take turns in rounds.

Each has one turn as soon as it is built, so that a run that is killed leaves a figure for it; the rounds, in
which what slows the machine slows all, replace that figure.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

import numpy as np

from pocketgenie.errors import UserError
from pocketgenie.genie.config import GenieConfig
from pocketgenie.runtimes.sweep_bundles import export_random
from pocketgenie.runtimes.sweep_plan import (
    COMPILED,
    MAX_EXPORTED,
    RIVAL,
    Contest,
    bundle_players,
    configuration,
    unrolled_layers,
    weights_dtype,
)
from pocketgenie.runtimes.sweep_players import BundlePlayers
from pocketgenie.runtimes.sweep_results import Case, Document, Speed
from pocketgenie.runtimes.sweep_work import bound, count, count_full_window, parameters
from pocketgenie.runtimes.worker import Worker, WorkerFailed

OUT_OF_TIME = "out of time"
RESERVE = 8.0  # seconds that anything new needs to be worth beginning
PREPARE_SECONDS, COMPILE_SECONDS, EXPORT_SECONDS = 240.0, 120.0, 90.0


@dataclass(frozen=True, kw_only=True)
class Settings:
    """How much is measured."""

    device: str
    quick: bool
    minutes: float
    rounds: int
    frames: int
    """Of a turn, at most."""
    turn_seconds: float
    worlds: tuple[str, ...]
    """None: all."""
    part: Literal["all", "speed", "parity"]
    parity_frames: int
    """Of each roll-out of L3."""
    parity_clips: int
    """Held-out clips, at most."""
    checkpoint: Path
    """Of the trained world, for the parity."""
    scratch: Path
    """Where bundles are made."""


@dataclass(frozen=True)
class Home:
    """What a process holds: `make(*args)`."""

    make: Callable[..., Any]
    args: tuple[Any, ...]


class Processes:
    """One process for each home, made when first asked; one that dies is forgotten."""

    def __init__(self, left: Callable[[], float]) -> None:
        self.left = left
        self.workers: dict[Home, Worker] = {}

    def call(self, home: Home, method: str, *args: Any, seconds: float = PREPARE_SECONDS) -> Any:
        """Raises WorkerFailed: the home is then gone where the process died."""
        limit = max(RESERVE, min(seconds, self.left()))
        if home not in self.workers:
            name = getattr(home.make, "__name__", "worker")
            self.workers[home] = Worker(name, home.make, *home.args, timeout=limit)
        worker = self.workers[home]
        worker.timeout = limit
        try:
            return worker.call(method, *args)
        except WorkerFailed:
            if worker.failure:
                self.end(home)
                if self.left() <= 0:
                    raise WorkerFailed(worker.name, OUT_OF_TIME, user=True) from None
            raise

    def end(self, *homes: Home) -> None:
        for home in homes:
            if home in self.workers:
                self.workers.pop(home).close()


class ContestRun:
    """Runs a contest; each result goes into the document at once, and `save` is called."""

    def __init__(
        self,
        contest: Contest,
        settings: Settings,
        processes: Processes,
        document: Document,
        save: Callable[[], None],
    ) -> None:
        self.contest, self.settings, self.processes = contest, settings, processes
        self.document, self.save = document, save
        config = configuration(contest.world, settings.quick)
        sampling = config.sampling.model_copy(update={"steps": contest.steps})
        self.config: GenieConfig = config.model_copy(update={"sampling": sampling})
        self.rows: dict[str, Case] = {}
        self.homes: dict[str, Home] = {}
        """Of the players that are ready."""
        self.turns: dict[str, list[list[float]]] = {}

    def run(self) -> None:
        """Build all, play the rounds, look at the stages."""
        spec = self.config.spec()
        self.document.worlds[self.contest.world] = {
            "pixels": [spec.width, spec.height],
            "tokens": spec.tokens,
            "window": self.config.dynamics.window,
            "parameters": parameters(self.config),
        }
        queue = list(self.contest.players)
        while queue:
            queue = [*self._build(queue.pop(0)), *queue]
        for number in range(self.settings.rounds):
            if self.processes.left() < 0:
                break
            self._round(number)
        for player in list(self.homes):
            self._stages(player)
        for home in set(self.homes.values()):
            with suppress(WorkerFailed):
                self.processes.call(home, "drop")
        self.save()

    def _build(self, player: str) -> list[str]:
        """Build one player, and take its first turn -> players whose process it took down with it"""
        row = Case(
            world=self.contest.world,
            steps=self.contest.steps,
            dtype=self.contest.dtype,
            player=player,
            status="not run",
            work=(count_full_window if player == "paper-way" else count)(self.config, self.contest.dtype),
        )
        settings, lost = self.settings, list[str]()
        try:
            if self.processes.left() < RESERVE:
                raise UserError(OUT_OF_TIME)
            home = self._home(player)
            limit = COMPILE_SECONDS if player == COMPILED else PREPARE_SECONDS
            try:
                asked = (self.contest.steps, self.contest.dtype, player)
                built = self.processes.call(home, "prepare", *asked, seconds=limit)
                row = replace(row, status="measured", ready_s=built.ready_s, device_mb=built.device_mb)
                if player == RIVAL and settings.device == "cpu":
                    row = replace(row, reason="played, but not captured: CUDA graphs need a card")
                self.rows[player], self.turns[player] = row, [self._turn(home, player)]
                self.homes[player] = home
                row = self._timed(player)
            except WorkerFailed as failure:
                row = replace(row, status="not run" if failure.user else "failed", reason=str(failure))
                lost = self._mourn(home)
        except UserError as error:
            row = replace(row, reason=str(error))
        self._put(row)
        return lost

    def _home(self, player: str) -> Home:
        """Raises UserError where the player's bundle cannot be made."""
        contest, settings = self.contest, self.settings
        if player not in bundle_players(settings.device):
            return world_home(contest, settings, player)
        if (unrolled := unrolled_layers(self.config, contest.steps)) > MAX_EXPORTED:
            raise UserError(
                f"{unrolled} layers unrolled in one graph, more than {MAX_EXPORTED}, take minutes to export"
            )
        limit = max(RESERVE, min(EXPORT_SECONDS, self.processes.left()))
        folder = export_random(
            contest.world,
            contest.steps,
            settings.quick,
            settings.device,
            player,
            contest.dtype,
            settings.scratch,
            limit,
        )
        return Home(BundlePlayers, (folder,))

    def _round(self, number: int) -> None:
        """Every player that is ready takes a turn; the order turns about."""
        slow = {player for player in self.homes if self._is_slow(player)}
        if number == 0:
            for player in self.homes.keys() - slow:
                self.turns[player].clear()
        for player in list(self.homes) if number % 2 else list(reversed(self.homes)):
            if player not in self.homes or (player in slow and number > 0):
                continue
            try:
                self.turns[player].append(self._turn(self.homes[player], player))
                self._put(self._timed(player))
            except WorkerFailed as failure:
                self._put(replace(self.rows[player], reason=f"failed in round {number + 1}: {failure}"))
                self._mourn(self.homes.pop(player))

    def _is_slow(self, player: str) -> bool:
        """One frame is more than a turn: its first turn counts, and one round is enough."""
        speed = self.rows[player].speed
        return speed is not None and speed.p50_ms > self.settings.turn_seconds * 1000

    def _turn(self, home: Home, player: str) -> list[float]:
        settings = self.settings
        times: list[float] = self.processes.call(home, "turn", player, settings.frames, settings.turn_seconds)
        return times

    def _stages(self, player: str) -> None:
        with suppress(WorkerFailed):
            found = self.processes.call(self.homes[player], "stages", player)
            host = self.processes.call(self.homes[player], "host_mb")
            row = self.rows[player]
            assert row.speed is not None
            rest = max(0.0, row.speed.p50_ms - sum(found.values()))
            stages = {
                "noise and copies": found["noise and copies"],
                "refinement": rest,
                "decoder": found["decoder"],
            }
            self._put(replace(row, stages_ms=stages, host_mb=host))

    def _timed(self, player: str) -> Case:
        """The row with the figures of all its turns so far."""
        row, frames = self.rows[player], np.concatenate(self.turns[player])
        rounds = tuple(1000 * len(turn) / sum(turn) for turn in self.turns[player])
        speed = Speed(
            fps=float(np.median(rounds)),
            rounds=rounds,
            p50_ms=float(np.percentile(frames, 50)),
            p95_ms=float(np.percentile(frames, 95)),
            frames=len(frames),
        )
        assert row.work is not None
        return replace(row, speed=speed, bound=bound(row.work, row.dtype, self.document.limits, speed))

    def _mourn(self, home: Home) -> list[str]:
        """Players that were ready in a process that is no more: they are ready no longer."""
        if home in self.processes.workers:
            return []
        lost = [player for player, where in self.homes.items() if where == home]
        for player in lost:
            del self.homes[player]
        return lost

    def _put(self, row: Case) -> None:
        self.rows[row.player] = row
        self.document.put(row)
        self.save()


def world_home(contest: Contest, settings: Settings, player: str = "") -> Home:
    """The process of a torch player; those of one world share it, and one set of weights."""
    from pocketgenie.runtimes.sweep_torch import WorldPlayers

    alone = player if player == COMPILED else ""
    dtype = weights_dtype(contest.dtype)
    return Home(WorldPlayers, (contest.world, dtype, settings.device, settings.quick, alone))
