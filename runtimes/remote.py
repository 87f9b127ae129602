"""What a session that plays in another program offers besides: it times itself there, and may be slow."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol, runtime_checkable


@dataclass(frozen=True, kw_only=True)
class Shortened:
    """How much of parity a runtime is fast enough for."""

    frames: int
    """Of the one roll-out of L3."""
    why: str


@runtime_checkable
class Remote(Protocol):
    """Besides Session: what cannot be measured from this side of the connection."""

    def turn(self, frames: int, seconds: float, warm_up: int) -> list[float]:
        """Play `frames` frames, fewer once `seconds` are over, after `warm_up` uncounted -> ms of each"""
        ...

    def stages(self, frames: int) -> dict[str, float]:
        """Where the time of a frame goes: milliseconds, medians."""
        ...

    def memory_mb(self) -> float:
        """Peak memory of the program that plays."""
        ...

    def shortened(self) -> Shortened | None:
        """None for a runtime that is fast enough for all of parity."""
        ...
