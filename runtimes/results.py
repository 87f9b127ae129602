"""What `check` and `bench` write: one JSON document, schema version 2. docs/check.md explains each figure.

`python -m pocketgenie.runtimes.results` prints the JSON schema (docs/check.schema.json).
Whatever did not run is null, and `reasons` says why; infinite and undefined numbers do not occur.
"""

from __future__ import annotations

import json
from typing import Any, Final, Literal, TypeVar

from pydantic import BaseModel, ConfigDict, Field

SCHEMA: Final = 2
Status = Literal["passed", "falls short", "not run"]
D = TypeVar("D", bound="Header")


class Result(BaseModel):
    """Frozen, without unknown fields, NaN or infinities: strict JSON at any time."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False, populate_by_name=True)


class ArtefactFigures(Result):
    """L0: the files themselves, against the manifest."""

    problems: tuple[str, ...]
    """Empty when every name, shape and dtype is as the manifest says."""
    operators: dict[str, dict[str, int]] | None
    """Graph -> operator -> count; null where the `onnx` package is not installed."""


class PassFigures(Result):
    """L1: one refinement pass after the same teacher-forced context, over all contexts and masks."""

    max_abs: float
    """Largest difference of a logit."""
    kl: float
    """KL(reference || runtime) in nats, the mean over masked tokens."""
    top1: float
    """Share of masked tokens whose likeliest code is the same, 0..1."""


class FrameFigures(Result):
    """L2: one whole frame from the same context and noise."""

    token_match: float
    """Share of equal tokens, 0..1."""
    psnr_db: float
    """Decoded frame against the reference's: the lowest over the contexts."""
    margin: float | None
    """As in RolloutFigures; null when all tokens are equal."""
    encode_match: float
    """Share of equal tokens when both encode the same held-out pictures, 0..1."""


class RolloutFigures(Result):
    """L3: whole roll-outs from held-out pictures, same actions and noise."""

    frames: int
    """Frames of each roll-out."""
    rollouts: int
    first_difference: int | None
    """First frame (from 0) with a token that differs, the earliest over the roll-outs; null: none differs."""
    margin: float | None
    """How far, in the reference's logits plus noise, the runtime's choice lay behind the reference's own
    where they first part; the largest over the roll-outs. Tiny: a near-tie. Null when no token differs."""
    psnr_db: float
    """Mean over frames and roll-outs of the PSNR against the reference's frame."""
    psnr_db_per_frame: tuple[float, ...]
    """The same per frame: the mean over the roll-outs."""


class ParityFigures(Result):
    """The rungs L0 to L4; a rung that did not run is null."""

    artefact: ArtefactFigures | None = None
    pass_: PassFigures | None = Field(default=None, alias="pass")
    frame: FrameFigures | None = None
    rollout: RolloutFigures | None = None
    world: dict[str, float] | None = None
    """L4: the figures of `evaluate` on held-out clips, this runtime minus the reference."""


class FpsFigures(Result):
    """Frames per second; a frame counts when its uint8 pixels are in host memory."""

    p50: float
    """1000 / the median frame time in ms, over all timed frames."""
    p95: float
    """1000 / the 95th percentile of the frame times in ms: 95 % of the frames come at least this fast."""
    median: float
    """Median over the rounds of frames / seconds: what the ratios are made of."""
    rounds: tuple[float, ...]
    """Frames / seconds of each round."""
    ratio_paper_way: float | None
    ratio_cached: float | None
    ratio_compiled: float | None


class ParityRow(Result):
    """One runtime's parity."""

    name: str
    precision: str
    status: Status
    reasons: tuple[str, ...]
    parity: ParityFigures


class SpeedRow(Result):
    """One runtime's throughput."""

    name: str
    precision: str
    reasons: tuple[str, ...]
    fps: FpsFigures | None = None
    memory_mb: float | None = None
    """Peak resident memory of the process that plays, MB = 10^6 bytes."""
    first_frame_ms: float | None = None
    """From the start of the process, imports and loading included, to the first frame's pixels."""
    limit_share: float | None = None
    """Operations of the `play` graph / (median frame time x the CPU's matrix rate), 0..1; null on a GPU."""


class RuntimeRow(SpeedRow, ParityRow):
    """One runtime: parity and throughput."""


class ReferenceSpeed(Result):
    """The PyTorch reference (eager, float32): frames per second, medians over the rounds."""

    fps_paper_way: float | None = None
    """As the paper plays: 25 refinement steps, each recomputing the full window."""
    fps_cached: float | None = None
    """With the streaming memory, at the world's own number of steps."""
    reasons: tuple[str, ...] = ()


class BundleFacts(Result):
    """Which bundle was measured."""

    name: str
    world: str
    target: str
    precision: str
    sha256: str
    """Over the hashes of its files but for the reports that the check itself writes."""
    checkpoint_sha256: str
    size_mb: float
    """What a player needs: the files without reference/ and the reports, MB = 10^6 bytes."""


class MatrixRate(Result):
    """The machine's float32 matrix rate: the best library and size, the median over the rounds."""

    gflops: float
    library: str
    shape: tuple[int, int, int]
    """m, k, n of [m, k] x [k, n]"""


class Machine(Result):
    cpu: str
    gpu: str | None
    """The first NVIDIA card; null without one."""
    cores: int
    """Cores that the workers use."""
    memory_gb: float
    system: str
    matrix: MatrixRate | None = None


class Settings(Result):
    """Enough to repeat the run."""

    runtimes: tuple[str, ...]
    """Those asked for; by default those that work here. The exit code is about these."""
    frames: int
    rollouts: int
    rounds: int
    frames_per_round: int
    clips: int
    seed: int
    min_fps: float
    """The floor that was asked for; 0 for none."""


class Header(Result):
    schema_version: Literal[2] = SCHEMA
    created: str
    """ISO 8601, UTC"""
    bundle: BundleFacts
    machine: Machine
    versions: dict[str, str]
    settings: Settings


class ParityDocument(Header):
    """parity.json in a bundle."""

    runtimes: tuple[ParityRow, ...]


class BenchDocument(Header):
    """bench.json in a bundle, and what `bench` writes."""

    reference: ReferenceSpeed
    gflop_per_frame: float | None
    """Matrix operations of one frame, counted from the `play` graph; a multiply-add counts two."""
    runtimes: tuple[SpeedRow, ...]

    @property
    def exit_code(self) -> int:
        """0: all that was asked for was timed. 2: something could not run."""
        timed = {row.name for row in self.runtimes if row.fps}
        return 0 if self.settings.runtimes and timed.issuperset(self.settings.runtimes) else 2


class CheckDocument(Header):
    """What `check --json` writes."""

    reference: ReferenceSpeed
    gflop_per_frame: float | None
    runtimes: tuple[RuntimeRow, ...]

    @property
    def exit_code(self) -> int:
        """0: all that was asked for passed. 1: something falls short. 2: something could not run."""
        status = {row.name: row.status for row in self.runtimes}
        if "falls short" in status.values():
            return 1
        wanted = self.settings.runtimes
        return 0 if wanted and all(status[name] == "passed" for name in wanted) else 2

    def parity_part(self) -> ParityDocument:
        """The document without throughput."""
        return _narrowed(self, ParityDocument, ParityRow)

    def bench_part(self) -> BenchDocument:
        """The document without parity."""
        return _narrowed(self, BenchDocument, SpeedRow)


def _narrowed(document: CheckDocument, kind: type[D], row: type[Result]) -> D:
    shared: dict[str, Any] = {name: getattr(document, name) for name in kind.model_fields}
    own = set(row.model_fields)
    shared["runtimes"] = tuple(row(**one.model_dump(include=own)) for one in document.runtimes)
    return kind(**shared)


def to_json(document: Header) -> str:
    """The document as written to files."""
    return document.model_dump_json(by_alias=True, indent=2) + "\n"


def schema() -> str:
    """The JSON schema of CheckDocument."""
    return json.dumps(CheckDocument.model_json_schema(by_alias=True, mode="serialization"), indent=2) + "\n"


if __name__ == "__main__":
    print(schema(), end="")
