"""The bundles and the processes of a precision search: export, sensitivities, L4, the race, the result."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field, replace
from functools import cache
from pathlib import Path

import numpy as np
import onnx

from pocketgenie.errors import UserError
from pocketgenie.export.bundle import Bundle, load_bundle
from pocketgenie.export.world import MAX_CLIPS, ExportOptions, export_checkpoint, open_source
from pocketgenie.genie.checkpoint import read_header
from pocketgenie.importers.kinds import load_world
from pocketgenie.quantize.calibration import Samples, record
from pocketgenie.quantize.candidate_bundles import finish, make_candidate
from pocketgenie.quantize.candidates import Candidate, Variant, candidates
from pocketgenie.quantize.pareto import (
    PARETO,
    SEARCH,
    SENSITIVITY,
    Baseline,
    Goal,
    Point,
    SearchDocument,
    explain,
    front,
    to_csv,
)
from pocketgenie.quantize.products import Bits
from pocketgenie.quantize.recipe import Convert, precision_pass
from pocketgenie.quantize.sensitivity import GRAPHS, Sensitivity, hash_of, measure
from pocketgenie.quantize.variants import make_variant, usable_teacher, variants
from pocketgenie.runtimes.brought import held_out_clips
from pocketgenie.runtimes.contestants import Contestant
from pocketgenie.runtimes.machine import describe
from pocketgenie.runtimes.reference import teacher_session
from pocketgenie.runtimes.session import Array
from pocketgenie.runtimes.throughput import TURN_SECONDS, per_round
from pocketgenie.runtimes.worker import Worker, WorkerFailed
from pocketgenie.training.data import load_clips
from pocketgenie.training.evaluation import evaluate

RUNTIME = "ort-cpu"
SAMPLE_WINDOWS = 2
"""How many times the memory's length the roll-outs go on that the samples are drawn from."""
Report = Callable[[str], None]


@dataclass(frozen=True, kw_only=True)
class SearchOptions:
    """What is wanted, and how much is tried and measured."""

    goal: Goal
    cache: Path
    """Folder where sensitivities are kept from one search to the next."""
    steps: tuple[int, ...] = ()
    """Refinement steps to try beside the checkpoint's own; empty for 1, 2 and 4."""
    candidates: int = 12
    """At most so many bundles are made and run."""
    rounds: int = 7
    frames_per_round: int = 128
    rollouts: int = 4
    """From which the samples for the sensitivities are drawn."""
    seed: int = 0


@dataclass
class Tried:
    """A candidate that was made: its process lives until the race is over."""

    candidate: Candidate
    bundle: Bundle
    worker: Worker
    figures: dict[str, float]
    turns: list[list[float]] = field(default_factory=list)

    @property
    def fps(self) -> float:
        return float(np.median(per_round(self.turns)))


class Bench:
    """The bundles and the processes of one search."""

    def __init__(
        self,
        checkpoint: Path,
        options: ExportOptions,
        wanted: SearchOptions,
        work: Path,
        report: Report,
        stack: ExitStack,
    ) -> None:
        self.checkpoint, self.source = checkpoint, open_source(checkpoint)
        if load_world(self.source.checkpoint).spec.frames == "tokens":
            raise UserError(
                f"{checkpoint} has tokens and no pixels: what a precision costs it cannot be measured in dB, "
                "and there is nothing to search by; take --precision int8"
            )
        self.options, self.wanted, self.work = options, wanted, work
        self.report, self.stack = report, stack
        self.teacher = usable_teacher(self.source.checkpoint, self.source.teacher)
        self.variants = variants(self.source.checkpoint, self.teacher, wanted.steps)
        self.bases: dict[Variant, Bundle] = {}
        self.sensitivities: dict[str, Sensitivity] = {}
        self.tried: list[Tried] = []
        self.failed: dict[str, str] = {}
        clips = held_out_clips(self.base(self.variants[0]), MAX_CLIPS)
        if clips is None:
            raise UserError("the search judges by held-out clips; give some with --clips FILE.npz")
        self.clips = clips

    def base(self, variant: Variant) -> Bundle:
        """A variant's float32 bundle, with all that `check` needs; made once."""
        if variant not in self.bases:
            self.report(f"exporting {variant.name}")
            folder = self.work / f"base-{len(self.bases)}"
            if not self.bases:
                plain = replace(self.options, precision="fp32", reference=True)
                export_checkpoint(self.checkpoint, folder, plain, self.report)
            else:
                make_variant(self.base(self.variants[0]), self.teacher, variant, folder)
            self.bases[variant] = load_bundle(folder, only=())
        return self.bases[variant]

    def space(self) -> list[Candidate]:
        """All candidates, the checkpoint as it is first."""
        return [
            candidate
            for variant in self.variants
            for candidate in candidates(variant, self.sensitivity(variant))
        ]

    def sensitivity(self, variant: Variant) -> Sensitivity:
        """Steps do not matter to it: measured once for each decoder."""
        if variant.decoder not in self.sensitivities:
            base = self.base(variant)
            world = load_world(base.folder / (base.manifest.reference or ""))
            clips = self._other_clips()
            frames = SAMPLE_WINDOWS * world.spec.memories["dynamics"].slots
            rollouts, seed = self.wanted.rollouts, self.wanted.seed + 1

            @cache
            def samples() -> Samples:
                self.report("playing the world for samples")
                return record(world, clips, rollouts=rollouts, frames=frames, seed=seed)

            def make(bits: Mapping[str, Bits]) -> Convert:
                return precision_pass("mixed", world, None, assignment=bits)[0]

            graphs = [
                measure(
                    graph,
                    onnx.load(base.path(base.manifest.graphs[graph].file)),
                    make,
                    samples,
                    f"{base.manifest.checkpoint_hash} {hash_of(clips.tobytes())} {rollouts} {frames} {seed}",
                    self.wanted.cache,
                    self.report,
                    world.spec.factors,
                )
                for graph in GRAPHS
            ]
            self.sensitivities[variant.decoder] = Sensitivity(graphs=tuple(graphs))
        return self.sensitivities[variant.decoder]

    def _other_clips(self) -> Array:
        """Clips that L4 is not measured on, where there are more than those."""
        path = self.options.clips or self.source.clips
        every = load_clips(path, self.clips.shape[2:4])
        return every[MAX_CLIPS:] if len(every) > MAX_CLIPS else every

    def teachers_quality(self) -> Baseline | None:
        """L4 of the teacher as it is measured against (reference.teacher_session); None without one."""
        if self.teacher is None:
            return None
        self.report("the teacher: L4")
        session = teacher_session(load_world(self.teacher), read_header(self.teacher).kind)
        spec = session.spec
        figures = evaluate(session, self.clips, seed=self.wanted.seed)
        return Baseline(name=f"the teacher, float32, N={spec.steps} {spec.order}", figures=figures)

    def try_out(self, candidate: Candidate) -> None:
        """Make a candidate's bundle, start it and measure its L4. What cannot be made or run has failed."""
        number = len(self.tried) + len(self.failed) + 1
        tell = f"{candidate.name} ({number} of at most {self.wanted.candidates})"
        try:
            base = self.base(candidate.variant)
            self.report(f"making {tell}")
            world = load_world(base.folder / (base.manifest.reference or ""))
            bundle = make_candidate(base, world, candidate, self.work / f"candidate-{number}")
            self.report(f"L4 of {tell}")
            start = self.clips[0, 0]
            worker = Worker(candidate.name, Contestant, bundle.folder, RUNTIME, start, time.time())
            figures = self.stack.enter_context(worker).call("evaluate", self.clips, self.wanted.seed)
            self.tried.append(Tried(candidate, bundle, worker, figures))
        except (UserError, WorkerFailed) as error:
            if not self.tried:
                raise UserError(f"{candidate.name} cannot be run: {error}") from None
            self.failed[candidate.name] = f"could not be run: {error}"

    def race(self) -> None:
        """All in turns, so that what slows the machine for a while slows them all."""
        for number in range(self.wanted.rounds):
            self.report(f"racing {len(self.tried)} bundles: round {number + 1} of {self.wanted.rounds}")
            for one in self.tried if number % 2 else reversed(self.tried):
                try:
                    turn = one.worker.call("turn", self.wanted.frames_per_round, TURN_SECONDS)
                except WorkerFailed as failure:
                    raise UserError(f"{one.candidate.name} failed in the race: {failure}") from None
                one.turns.append(turn)

    def document(
        self, points: Sequence[Point], chosen: Point, baseline: Baseline, seconds: float
    ) -> SearchDocument:
        machine = describe()
        return SearchDocument(
            world=self.bases[self.variants[0]].manifest.spec.name,
            checkpoint_hash=self.bases[self.variants[0]].manifest.checkpoint_hash,
            goal=self.wanted.goal,
            baseline=baseline,
            points=tuple(points),
            chosen=chosen.name,
            why=explain(points, chosen, self.wanted.goal) | self.failed,
            front=tuple(point.name for point in front(points)),
            machine=machine.cpu,
            cores=machine.cores,
            clips=len(self.clips),
            rounds=self.wanted.rounds,
            seconds=seconds,
        )

    def finish(self, document: SearchDocument, destination: Path) -> None:
        """The chosen bundle, and the search beside it."""
        (won,) = (one for one in self.tried if one.candidate.name == document.chosen)
        point = document.point(document.chosen)
        goal = document.goal
        recipe = {
            "search": document.why[point.name],
            "loss": f"{point.loss_db:.2f} dB against {document.baseline.name}",
            "budget": f"{goal.budget_db:g} dB",
            "decoder": f"the {'teacher' if point.decoder == 'teacher' else 'checkpoint'}'s",
        }
        sensitivity = self.sensitivities[point.decoder]
        further = {
            SEARCH: document.model_dump_json(indent=2) + "\n",
            PARETO: to_csv(document),
            SENSITIVITY: sensitivity.model_dump_json(indent=2, exclude_none=True) + "\n",
        }
        base = self.base(won.candidate.variant)
        finish(
            base,
            won.bundle,
            destination,
            recipe=recipe,
            further=further,
            reference=self.options.reference,
        )
