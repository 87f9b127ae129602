"""What the sweep's processes hold: players of one world that take turns, and their times. No torch."""

from __future__ import annotations

import sys
import time
from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from pocketgenie.genie.noise import draw_noise
from pocketgenie.genie.spec import WorldSpec
from pocketgenie.runtimes.session import Session

Array = NDArray[Any]
WARM_UP = 3  # frames that begin a turn
STAGE_SECONDS = 0.4


class Plays(Protocol):
    """One player. `number` counts its frames, which decides their noise."""

    spec: WorldSpec

    def frame(self, action: int, number: int) -> Array:
        """Draw one frame, its noise included -> uint8 [H, W, 3] in host memory"""
        ...

    def decoded(self) -> Array:
        """The decoder alone -> uint8 [H, W, 3] in host memory"""
        ...

    def close(self) -> None: ...


class SessionPlays:
    """Any session: the world plays with its memory."""

    def __init__(self, session: Session) -> None:
        self.session, self.spec = session, session.spec
        self.tokens = np.zeros(self.spec.tokens, np.int32)

    def frame(self, action: int, number: int) -> Array:
        self.tokens, frame = self.session.play(action, draw_noise(self.spec, 0, number))
        return frame

    def decoded(self) -> Array:
        return self.session.decode(self.tokens)

    def close(self) -> None:
        self.session.close()


@dataclass(frozen=True, kw_only=True)
class Built:
    """What `prepare` says of a player."""

    ready_s: float
    device_mb: float | None = None


class Players(ABC):
    """Players of one process, by name. What builds them is the subclass's."""

    def __init__(self) -> None:
        self.players: dict[str, Plays] = {}
        self.frames: dict[str, int] = {}
        self.took_ms: dict[str, float] = {}
        """The last frame of the last turn."""

    def prepare(self, steps: int, dtype: str, player: str) -> Built:
        """Build a player for N = `steps` and draw its first frame. Raises UserError."""
        if player in self.players:  # of a contest before
            self.players.pop(player).close()
        began = time.perf_counter()
        self.players[player], self.frames[player] = self.build(steps, dtype, player), 0
        self.step(player)
        return Built(ready_s=time.perf_counter() - began)

    @abstractmethod
    def build(self, steps: int, dtype: str, player: str) -> Plays:
        """A player for N = `steps`. Raises UserError where it cannot run here."""

    def turn(self, player: str, frames: int, seconds: float) -> list[float]:
        """Play up to `frames` frames, fewer once `seconds` are over -> milliseconds of each"""
        if self.took_ms.get(player, 0.0) < seconds * 1000:  # else one frame is a turn
            timed(lambda: self.step(player), WARM_UP, seconds / 4)
        times = timed(lambda: self.step(player), frames, seconds)
        self.took_ms[player] = times[-1]
        return times

    def stages(self, player: str) -> dict[str, float]:
        """Milliseconds, medians, of what can be timed apart; refinement is what these leave of a frame."""
        plays = self.players[player]
        plays.decoded()  # may have to be captured first
        noise = median_ms(lambda: draw_noise(plays.spec, 0, 0)) + self.copies_ms(plays.spec)
        decoder = max(0.0, median_ms(plays.decoded) - self.picture_ms(plays.spec))
        return {"noise and copies": noise, "decoder": decoder}

    def copies_ms(self, spec: WorldSpec) -> float:
        """Noise to the device and a picture to the host; 0 where this process cannot time them apart."""
        return 0.0

    def picture_ms(self, spec: WorldSpec) -> float:
        """The picture alone."""
        return 0.0

    def drop(self) -> None:
        """Let go of the players."""
        for plays in self.players.values():
            plays.close()
        self.players.clear()
        self.took_ms.clear()

    def host_mb(self) -> float:
        """Peak resident memory of this process so far, MB = 10^6 bytes."""
        if sys.platform == "linux":
            for line in Path("/proc/self/status").read_text().splitlines():
                if line.startswith("VmHWM:"):
                    return int(line.split()[1]) * 1024 / 1e6
        import resource

        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024 / 1e6

    def step(self, player: str) -> None:
        """One frame, its actions in turn."""
        plays = self.players[player]
        number = self.frames[player] = self.frames[player] + 1
        frame = plays.frame(number % plays.spec.actions, number)
        assert frame.dtype == np.uint8 and frame.shape == plays.spec.frame_shape


class BundlePlayers(Players):
    """A bundle in one runtime of the table; N is the bundle's."""

    def __init__(self, folder: Path) -> None:
        super().__init__()
        self.folder = folder

    def build(self, steps: int, dtype: str, player: str) -> Plays:
        from pocketgenie.runtimes.table import load_session  # its manifest needs pydantic

        session = load_session(self.folder, player)
        assert session.spec.steps == steps
        return SessionPlays(session)


def timed(work: Callable[[], Any], times: int, seconds: float) -> list[float]:
    """Milliseconds of each call; at most `times` calls, none begun after `seconds`."""
    taken: list[float] = []
    while len(taken) < times and sum(taken) < seconds * 1000:
        began = time.perf_counter()
        work()
        taken.append((time.perf_counter() - began) * 1000)
    return taken


def median_ms(work: Callable[[], Any]) -> float:
    return float(np.median(timed(work, 50, STAGE_SECONDS)))
