"""What `make gpu-check` writes: one strict JSON document, schema version 1. docs/gpu-check.md explains it.

Plain dataclasses, so that a machine with torch and nothing else can write it. Whatever did not run is null,
and a reason says why.
"""

from __future__ import annotations

import json
import os
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Final, Literal

SCHEMA: Final = 1
Status = Literal["measured", "failed", "not run"]


@dataclass(frozen=True, kw_only=True)
class Rate:
    """One measured limit."""

    best: float
    unit: str
    by_case: dict[str, float]
    """By shape, direction or manner; empty where there is one only."""


@dataclass(frozen=True, kw_only=True)
class DeviceFacts:
    kind: Literal["cuda", "cpu"]
    name: str
    torch: str
    capability: str | None = None
    memory_gb: float | None = None
    """10^9 bytes"""
    cuda: str | None = None
    """That torch was built with."""
    driver: str | None = None


@dataclass(frozen=True, kw_only=True)
class Limits:
    """Of the device, all measured in this run."""

    matrix: dict[str, Rate] = field(default_factory=dict)
    """By dtype; float32 without TF32."""
    bandwidth: Rate | None = None
    launches: Rate | None = None
    host_copies: Rate | None = None
    reasons: dict[str, str] = field(default_factory=dict)
    """Measurement -> why it is missing."""


@dataclass(frozen=True, kw_only=True)
class Work:
    """What one frame must do at least, counted from the world's sizes (runtimes/sweep_work.py)."""

    passes: int
    """Over the dynamics model: N refinements and one for the memory entry."""
    linear_gflop: float
    """Matrix products with weights, 10^9 operations; a multiply-add counts two."""
    attention_gflop: float
    weights_gb: float
    """Weights read, once a pass, 10^9 bytes."""
    memory_gb: float
    """Keys and values of past frames read, once a pass. Activations are not counted."""


@dataclass(frozen=True, kw_only=True)
class Bound:
    """The least time that the measured limits leave for this work."""

    binds: Literal["operations", "bandwidth"]
    operations_ms: float
    bandwidth_ms: float
    share: float
    """The larger of the two / the median frame time."""


@dataclass(frozen=True, kw_only=True)
class Speed:
    """A frame counts when its uint8 pixels are in host memory."""

    fps: float
    """Median over the rounds of frames / seconds."""
    rounds: tuple[float, ...]
    """Frames / seconds of each."""
    p50_ms: float
    p95_ms: float
    frames: int
    """Timed frames."""


@dataclass(frozen=True, kw_only=True)
class Case:
    """One player of one world at one N and dtype."""

    world: str
    steps: int
    """N"""
    dtype: str
    player: str
    status: Status
    reason: str | None = None
    speed: Speed | None = None
    stages_ms: dict[str, float] | None = None
    """Medians: noise and copies, refinement, decoder. Refinement is what the others leave of `p50_ms`."""
    ready_s: float | None = None
    """From the weights on the device to the first frame: compiling, capturing or building included."""
    device_mb: float | None = None
    """Peak of what torch took on the device for it: the weights and all beside them. MB = 10^6 bytes."""
    host_mb: float | None = None
    """Peak resident memory of the process; players of one world and dtype share it."""
    work: Work | None = None
    bound: Bound | None = None


@dataclass(frozen=True, kw_only=True)
class Parity:
    """`check` of one bundle of the trained world: its whole document (docs/check.md)."""

    target: str
    precision: str
    runtimes: tuple[str, ...]
    """Those asked for; empty: all that fit."""
    status: Status
    reason: str | None = None
    check: dict[str, Any] | None = None


@dataclass(frozen=True, kw_only=True)
class Goal:
    goal: str
    status: Literal["met", "missed", "not run"]
    detail: str


@dataclass(kw_only=True)
class Document:
    """The whole; it grows while the run goes on."""

    created: str
    """ISO 8601, UTC"""
    settings: dict[str, Any]
    versions: dict[str, str]
    device: DeviceFacts | None = None
    limits: Limits = field(default_factory=Limits)
    worlds: dict[str, dict[str, Any]] = field(default_factory=dict)
    """World -> its sizes."""
    parity: list[Parity] = field(default_factory=list)
    cases: list[Case] = field(default_factory=list)
    goals: list[Goal] = field(default_factory=list)
    seconds: float = 0.0
    finished: bool = False
    """False in what a run that was killed left behind."""
    schema_version: int = SCHEMA

    def case(self, world: str, steps: int, dtype: str, player: str) -> Case | None:
        """The row of one player."""
        wanted = (world, steps, dtype, player)
        return next((c for c in self.cases if (c.world, c.steps, c.dtype, c.player) == wanted), None)

    def put(self, case: Case) -> None:
        """Add a row, or renew it."""
        old = self.case(case.world, case.steps, case.dtype, case.player)
        if old is None:
            self.cases.append(case)
        else:
            self.cases[self.cases.index(old)] = case


def to_json(document: Document) -> str:
    """Strict: ValueError for NaN and infinities."""
    return json.dumps(asdict(document), indent=1, allow_nan=False) + "\n"


def write_whole(path: Path, text: str) -> None:
    """Write a file whole or not at all."""
    part = path.with_name(path.name + ".part")
    part.write_text(text, encoding="utf-8")
    os.replace(part, path)
