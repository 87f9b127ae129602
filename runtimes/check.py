"""`check` and `bench`: a bundle's runtimes against the reference, as one document (runtimes/results.py)."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pocketgenie.errors import UserError
from pocketgenie.export.bundle import Bundle, load_bundle
from pocketgenie.runtimes import machine
from pocketgenie.runtimes.bounds import bounds_for, shortfalls
from pocketgenie.runtimes.contestants import PLAY_THE_CHECKPOINT
from pocketgenie.runtimes.parity import Exam
from pocketgenie.runtimes.results import (
    BenchDocument,
    BundleFacts,
    CheckDocument,
    ParityFigures,
    ParityRow,
    RuntimeRow,
    Settings,
    SpeedRow,
    Status,
)
from pocketgenie.runtimes.table import RUNTIMES
from pocketgenie.runtimes.throughput import Contest, Report, count_gflop, start_picture
from pocketgenie.runtimes.worker import Worker, WorkerFailed

Array = NDArray[Any]


@dataclass(frozen=True, kw_only=True)
class Options:
    """How much is measured."""

    frames: int = 64
    """Of each roll-out of L3."""
    rollouts: int = 4
    rounds: int = 7
    frames_per_round: int = 32
    clips: int = 32
    """At most so many held-out clips, evenly over those of the bundle."""
    seed: int = 0


@dataclass(frozen=True, kw_only=True)
class Entrants:
    """Which runtimes take part."""

    run: list[str]
    missing: dict[str, str]
    """Runtime -> what it lacks on this machine."""
    wanted: list[str]
    """Those whose verdict is the exit code's."""


def choose(bundle: Bundle, asked: Sequence[str]) -> Entrants:
    """The runtimes asked for, or all that fit the bundle. Raises UserError for one that does not fit."""
    target = bundle.manifest.target
    fit = [row.name for row in RUNTIMES.values() if target in row.targets and row.name != "reference"]
    for name in asked:
        if name not in fit:
            raise UserError(f"a {target} bundle is not measured in {name!r}; choose of: {', '.join(fit)}")
    names = list(dict.fromkeys(asked)) or fit
    lacks = {name: [need for need in RUNTIMES[name].needs if find_spec(need) is None] for name in names}
    missing = {
        name: f"needs {', '.join(needs)}, not installed; {RUNTIMES[name].mend}"
        for name, needs in lacks.items()
        if needs
    }
    run = [name for name in names if name not in missing]
    # By default a rival that cannot run here is listed, but spoils nothing: the bundle is not at fault.
    of_graphs = [name for name in run if name not in PLAY_THE_CHECKPOINT]
    return Entrants(run=run, missing=missing, wanted=list(asked) or of_graphs)


def check(folder: Path, asked: Sequence[str], options: Options, report: Report) -> CheckDocument:
    """Parity and throughput of a bundle. Raises UserError for what is wrong before a runtime is tried."""
    bundle = load_bundle(folder)
    entrants = choose(bundle, asked)
    clips = _clips(bundle, options.clips)
    if clips is None or bundle.manifest.reference is None:
        raise UserError(
            f"{folder} has no reference and clips; export it again without --no-reference, or `bench` it"
        )
    for name in entrants.run:
        bounds_for(_precision(bundle, name))
    with _contest(bundle, entrants, clips, options, report) as contest:
        if "reference" not in contest.workers:
            raise UserError(f"the reference cannot play {folder}: {contest.failures['reference']}")
        exam = Exam(
            contest.workers["reference"],
            bundle.manifest.spec,
            clips,
            frames=options.frames,
            rollouts=options.rollouts,
            seed=options.seed,
        )
        tried = {
            name: _examine(contest, name, _precision(bundle, name), exam, report) for name in entrants.run
        }
        speed = _bench_document(bundle, entrants, contest, options)
    rows = []
    for fast in speed.runtimes:
        right = tried.get(fast.name) or _not_run(fast.name, fast.precision, entrants.missing[fast.name])
        reasons = tuple(dict.fromkeys(right.reasons + fast.reasons))
        rows.append(RuntimeRow(**{**dict(fast), **dict(right), "reasons": reasons}))
    return CheckDocument(**{**dict(speed), "runtimes": tuple(rows)})


def bench(folder: Path, asked: Sequence[str], options: Options, report: Report) -> BenchDocument:
    """Throughput alone. Raises UserError as `check` does; a bundle without its reference gets no ratios."""
    bundle = load_bundle(folder)
    entrants = choose(bundle, asked)
    with _contest(bundle, entrants, _clips(bundle, 1), options, report) as contest:
        return _bench_document(bundle, entrants, contest, options)


def _contest(
    bundle: Bundle, entrants: Entrants, clips: Array | None, options: Options, report: Report
) -> Contest:
    """Started and timed, its processes alive."""
    contest = Contest(bundle.folder, entrants.run, start_picture(bundle, clips))
    try:
        contest.start(report)
        contest.run(options.rounds, options.frames_per_round, report)
    except BaseException as error:
        contest.close(error)
        raise
    return contest


def _examine(contest: Contest, name: str, precision: str, exam: Exam, report: Report) -> ParityRow:
    """L0 to L4 of one runtime, as far as it comes, and the verdict."""
    if name not in contest.workers:
        return _not_run(name, precision, contest.failures[name])
    worker = contest.workers[name]
    rungs: list[tuple[str, str, Callable[[Worker], Any]]] = [
        ("artefact", "L0 artefact", lambda worker: worker.call("inspect")),
        ("pass", "L1 pass", exam.one_pass),
        ("frame", "L2 frame", exam.one_frame),
        ("rollout", "L3 rollout", exam.whole_rollout),
        ("world", "L4 world", exam.world),
    ]
    figures: dict[str, Any] = {}
    faults: list[str] = []
    not_run: list[str] = []
    for key, rung, ask in rungs:
        report(f"{name}: {rung}")
        try:
            figures[key] = ask(worker)
        except WorkerFailed as failure:
            blame = faults if failure.who == name and not failure.user else not_run
            blame.append(f"{rung}: {'' if failure.who == name else 'the reference '}{failure}")
            if worker.failure or exam.reference.failure:
                break  # that process is dead
    parity = ParityFigures(**figures)
    faults = shortfalls(bounds_for(precision), parity) + faults
    status: Status = "falls short" if faults else "not run" if not_run else "passed"
    return ParityRow(
        name=name, precision=precision, status=status, reasons=(*faults, *not_run), parity=parity
    )


def _not_run(name: str, precision: str, reason: str) -> ParityRow:
    return ParityRow(
        name=name, precision=precision, status="not run", reasons=(reason,), parity=ParityFigures()
    )


def _bench_document(bundle: Bundle, entrants: Entrants, contest: Contest, options: Options) -> BenchDocument:
    gflop, why_not = count_gflop(bundle)
    rows = [contest.row(name, _precision(bundle, name), gflop) for name in entrants.run]
    if why_not:
        rows = [row.model_copy(update={"reasons": (*row.reasons, f"limit_share: {why_not}")}) for row in rows]
    rows += [
        SpeedRow(name=name, precision=_precision(bundle, name), reasons=(reason,))
        for name, reason in entrants.missing.items()
    ]
    return BenchDocument(
        created=datetime.now(UTC).isoformat(timespec="seconds"),
        bundle=_facts(bundle),
        machine=machine.describe().model_copy(update={"matrix": contest.matrix()}),
        versions=machine.versions(),
        settings=Settings(runtimes=tuple(entrants.wanted), **vars(options)),
        reference=contest.reference(),
        gflop_per_frame=gflop,
        runtimes=tuple(rows),
    )


def _precision(bundle: Bundle, runtime: str) -> str:
    return "fp32" if runtime in PLAY_THE_CHECKPOINT else bundle.manifest.precision


def _facts(bundle: Bundle) -> BundleFacts:
    manifest = bundle.manifest
    played = manifest.graph_files(*manifest.graphs)
    others = {*manifest.gallery, *([manifest.clips] if manifest.clips else [])}
    checkpoint = f"{manifest.reference}/"
    reference = {path for path in manifest.files if path.startswith(checkpoint)}
    digest = hashlib.sha256()
    for path in sorted(played | others | reference):
        digest.update(f"{manifest.files[path].sha256}  {path}\n".encode())
    return BundleFacts(
        name=bundle.folder.resolve().name,
        world=manifest.spec.name,
        target=manifest.target,
        precision=manifest.precision,
        sha256=digest.hexdigest(),
        checkpoint_sha256=manifest.checkpoint_hash,
        size_mb=sum(manifest.files[path].size for path in played) / 1e6,
    )


def _clips(bundle: Bundle, count: int) -> Array | None:
    """At most `count` of the held-out clips, evenly spread: uint8 [N, T, H, W, 3]"""
    if bundle.manifest.clips is None:
        return None
    path = bundle.path(bundle.manifest.clips)
    try:
        with np.load(path, allow_pickle=False) as file:
            frames = file["frames"]
    except (OSError, ValueError, KeyError, EOFError) as error:
        raise UserError(f"{path} holds no clips ({error}); export the bundle again") from None
    wanted = bundle.manifest.spec.frame_shape
    if frames.dtype != np.uint8 or frames.ndim != 5 or not frames.size or frames.shape[2:] != wanted:
        raise UserError(f"{path}: frames are {frames.dtype} {frames.shape}, not uint8 [N, T, {wanted}]")
    spread = np.linspace(0, len(frames) - 1, min(count, len(frames))).round().astype(int)
    return np.asarray(frames[spread])
