"""What `check` and `bench` write: one JSON document, schema version 3. docs/check.md explains each figure.

`python -m pocketgenie.runtimes.results` prints the JSON schema (docs/check.schema.json).
Whatever did not run is null, and `reasons` says why; infinite and undefined numbers do not occur.
"""

from __future__ import annotations

import json
from typing import Any, Final, Literal, TypeVar

from pydantic import BaseModel, ConfigDict, Field

SCHEMA: Final = 3
Status = Literal["passed", "falls short", "not run"]
BarStatus = Literal["met", "falls short", "not run"]
PaperWayOf = Literal["teacher", "checkpoint", "project"]
WAY: dict[PaperWayOf, str] = {
    "teacher": "paper's way",
    "checkpoint": "paper's way",
    "project": "project's way",
}
"""What playing without a memory is called in tables and reports."""
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


class LongFigures(Result):
    """Long roll-outs with random held actions (runtimes/longplay.py): does the world freeze or dissolve?"""

    frames: int
    """Of each roll-out."""
    rollouts: int
    motion: tuple[float, ...]
    """Change of a pixel per frame, mean of each window of 100 frames, over real clips'; all roll-outs."""
    motion_lowest: tuple[float, ...]
    """Of each roll-out, its stillest window's."""
    frechet_first: float
    """Fréchet distance of the first 100 frames to real ones, as a multiple of what other real clips have."""
    frechet_last: float
    """The same of the last 100 frames."""


class TeacherFigures(Result):
    """L4 against the teacher (runtimes/quality.py): a distilled bundle beside the world it was made from.

    That plays as the paper does: float32, 25 steps, the most confident tokens first; a world that another
    project trained, as that project plays it.
    """

    runtime: str
    """Where the bundle was played."""
    own: dict[str, float]
    """The figures of `evaluate` on the held-out clips."""
    teacher: dict[str, float]
    difference_db: dict[str, float]
    """Own minus the teacher's, of every dB figure that is judged or shown."""
    error_db: dict[str, float]
    """Standard error of the difference: the clips drawn anew 1,000 times."""
    separation: float
    """The two actions that are hardest to tell apart: how much further apart the frames that they lead to are
    than frames of one action with other noise. Above 1 they are told apart."""
    separation_teacher: float
    """The same of the teacher, whose hardest pair may be another."""
    hardest: tuple[int, int]
    """That pair, actions from 0."""


class BarRow(Result):
    """One bar of the project: what was asked for, what was measured."""

    name: str
    asked: str
    measured: str
    status: BarStatus
    reason: str = ""
    """Why it was not run."""


class FpsFigures(Result):
    """Frames per second; a frame counts when its uint8 pixels are in host memory."""

    p50: float
    """1000 / the median frame time in ms, over all timed frames."""
    p95: float
    """1000 / the 95th percentile of the frame times in ms: 95 % of the frames come at least this fast."""
    median: float
    """Median over the rounds of frames / seconds."""
    rounds: tuple[float, ...]
    """Frames / seconds of each round. A ratio is the median of the ratios within the rounds."""
    ratio_paper_way: float | None
    ratio_cached: float | None
    ratio_compiled: float | None
    ratio_fp32: float | None = None
    """To the float32 bundle of the same checkpoint in the same runtime, where it took part."""


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
    """As the paper plays: 25 refinement steps, by confidence, each recomputing the full window. Of a world
    that another project trained: as that project plays, its own sampler and steps, each recomputing it."""
    paper_way_of: PaperWayOf = "checkpoint"
    """Whose weights play the paper's way: the teacher's where the bundle has one. `project`: the same, and
    as the project plays that trained it."""
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
    """What a player needs: the files without checkpoints, clips and reports, MB = 10^6 bytes."""
    size_ratio: float | None = None
    """To the float32 bundle of the same checkpoint, where it took part."""


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
    core_to_core_ns: tuple[float, ...] = ()
    """Round trip of a cache line between two cores, of each round (runtimes/core_to_core.py); empty where it
    was not measured."""

    @property
    def in_cores(self) -> str:
        """For a person: 1 core, 2 cores."""
        return f"{self.cores} core{'' if self.cores == 1 else 's'}"


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
    schema_version: Literal[3] = SCHEMA
    created: str
    """ISO 8601, UTC"""
    bundle: BundleFacts
    machine: Machine
    versions: dict[str, str]
    settings: Settings
    quality: TeacherFigures | None = None
    """L4 against the teacher; null for a world that is not distilled, and where it was not asked for."""


class ParityDocument(Header):
    """parity.json in a bundle."""

    runtimes: tuple[ParityRow, ...]


class BenchDocument(Header):
    """bench.json in a bundle, and what `bench` writes."""

    reference: ReferenceSpeed
    gflop_per_frame: float | None
    """Matrix operations of one frame, counted from the `play` graph; a multiply-add counts two."""
    runtimes: tuple[SpeedRow, ...]
    long_play: LongFigures | None = None
    bars: tuple[BarRow, ...] = ()
    """What `bench --bars` judges."""

    @property
    def exit_code(self) -> int:
        """0: all that was asked for was timed. 1: a bar was not met. 2: something could not run."""
        if any(bar.status == "falls short" for bar in self.bars):
            return 1
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
    shared: dict[str, Any] = {
        name: getattr(document, name) for name in kind.model_fields if hasattr(document, name)
    }
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
