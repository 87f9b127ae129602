"""`check` and `bench`: a bundle's runtimes against the reference, as one document (runtimes/results.py)."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from pocketgenie.errors import UserError
from pocketgenie.export.bundle import Bundle, load_bundle
from pocketgenie.runtimes import machine
from pocketgenie.runtimes.bounds import bounds_for, shortfalls
from pocketgenie.runtimes.brought import facts, held_out_clips, start_picture
from pocketgenie.runtimes.doctor import examine
from pocketgenie.runtimes.parity import Exam
from pocketgenie.runtimes.publish import Shown, show
from pocketgenie.runtimes.results import (
    BenchDocument,
    CheckDocument,
    ParityFigures,
    ParityRow,
    RuntimeRow,
    Settings,
    SpeedRow,
    Status,
)
from pocketgenie.runtimes.table import RUNTIMES, own_runtime
from pocketgenie.runtimes.throughput import Contest, Report, count_gflop
from pocketgenie.runtimes.worker import Worker, WorkerFailed


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
    min_fps: float = 0.0
    """A runtime whose verdict counts falls short below it."""


@dataclass(frozen=True, kw_only=True)
class Entrants:
    """Which runtimes take part."""

    run: list[str]
    missing: dict[str, str]
    """Runtime -> what it lacks on this machine."""
    wanted: list[str]
    """Those whose verdict is the exit code's."""


def choose(bundle: Bundle, asked: Sequence[str]) -> Entrants:
    """The runtimes asked for, or all that fit the bundle. Raises UserError for one that does not fit.

    Without a GPU, runtimes that need one take part only when asked for, or as the target's own.
    """
    target = bundle.manifest.target
    own = own_runtime(target)
    fit = [row.name for row in RUNTIMES.values() if target in row.targets and row.name != "reference"]
    for name in asked:
        if name not in fit:
            raise UserError(f"a {target} bundle is not measured in {name!r}; choose of: {', '.join(fit)}")
    gpu = machine.gpu() is not None
    here = [name for name in fit if gpu or RUNTIMES[name].device == "cpu" or name == own]
    names = list(dict.fromkeys(asked)) or sorted(here, key=lambda name: name != own)
    tried = {name: examine(RUNTIMES[name]) for name in names}
    missing = {name: f"{found.detail}; {found.mend}" for name, found in tried.items() if not found.works}
    if bundle.manifest.engines and own in missing:
        missing[own] = f"built, not run: {missing[own]}"
    run = [name for name in names if name not in missing]
    # By default a rival that cannot run here is listed, but spoils nothing: the bundle is not at fault.
    of_graphs = [name for name in run if RUNTIMES[name].plays == "graphs"]
    return Entrants(run=run, missing=missing, wanted=list(asked) or list(dict.fromkeys((own, *of_graphs))))


def check(
    folder: Path, asked: Sequence[str], options: Options, report: Report
) -> tuple[CheckDocument, Shown]:
    """Parity and throughput of a bundle, and pictures of the first runtime that was wanted.

    Raises UserError for what is wrong before a runtime is tried; whatever a runtime does is in the document.
    """
    bundle = load_bundle(folder)
    entrants = choose(bundle, asked)
    clips = held_out_clips(bundle, options.clips)
    if clips is None or bundle.manifest.reference is None:
        raise UserError(
            f"{folder} has no reference and clips; export it again without --no-reference, or `bench` it"
        )
    for name in entrants.run:
        bounds_for(_precision(bundle, name))
    with Contest(bundle.folder, entrants.run, start_picture(bundle, clips)) as contest:
        if not entrants.run:  # there is nothing to hold against the reference
            return _judged(
                _bench_document(bundle, entrants, contest, options), {}, entrants, options
            ), Shown()
        contest.start(report)
        if "reference" not in contest.workers:
            raise UserError(f"the reference of {folder} {contest.failures['reference']}")
        contest.run(options.rounds, options.frames_per_round, report)
        exam = Exam(
            contest.workers["reference"],
            bundle.manifest.spec,
            clips,
            frames=options.frames,
            rollouts=options.rollouts,
            seed=options.seed,
        )
        tried = {
            name: examine_runtime(contest.workers[name], _precision(bundle, name), exam, report)
            for name in entrants.run
            if name in contest.workers
        }
        speed = _bench_document(bundle, entrants, contest, options)
        on_show = [name for name in entrants.wanted if name in contest.workers]
        shown = show(contest, on_show[0], exam, report) if on_show else Shown()
    return _judged(speed, tried, entrants, options), shown


def _judged(
    speed: BenchDocument, tried: Mapping[str, ParityRow], entrants: Entrants, options: Options
) -> CheckDocument:
    """Throughput and parity in one document, with the verdicts."""
    rows = []
    for fast in speed.runtimes:
        right = tried.get(fast.name) or _not_run(fast)
        reasons, status = tuple(dict.fromkeys(right.reasons + fast.reasons)), right.status
        if fast.name in entrants.wanted and fast.fps and fast.fps.median < options.min_fps:
            reasons += (f"throughput: {fast.fps.median:.1f} fps is below {options.min_fps:g}",)
            status = "falls short"
        rows.append(RuntimeRow(**{**dict(fast), **dict(right), "reasons": reasons, "status": status}))
    return CheckDocument(**{**dict(speed), "runtimes": tuple(rows)})


def bench(folder: Path, asked: Sequence[str], options: Options, report: Report) -> BenchDocument:
    """Throughput alone. Raises UserError as `check` does; a bundle without its reference gets no ratios."""
    bundle = load_bundle(folder)
    entrants = choose(bundle, asked)
    picture = start_picture(bundle, held_out_clips(bundle, 1))
    with Contest(bundle.folder, entrants.run, picture) as contest:
        contest.start(report)
        contest.run(options.rounds, options.frames_per_round, report)
        return _bench_document(bundle, entrants, contest, options)


def only_lacks_a_card(document: CheckDocument) -> bool:
    """Whether what was wanted passed but for runtimes that need an NVIDIA card, where there is none."""
    rows = {row.name: row for row in document.runtimes}
    wanted = [rows[name] for name in document.settings.runtimes]
    lacking = [row for row in wanted if row.status == "not run" and RUNTIMES[row.name].device == "cuda"]
    passed = [row for row in wanted if row.status == "passed"]
    return machine.gpu() is None and bool(lacking) and len(lacking) + len(passed) == len(wanted)


def examine_runtime(worker: Worker, precision: str, exam: Exam, report: Report) -> ParityRow:
    """L0 to L4 of one runtime, as far as it comes, and the verdict. Its failures are reasons."""
    name = worker.name
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


def _not_run(row: SpeedRow) -> ParityRow:
    """Of a runtime that is missing or did not start, for the reasons that its throughput has as well."""
    return ParityRow(
        name=row.name, precision=row.precision, status="not run", reasons=row.reasons, parity=ParityFigures()
    )


def _bench_document(bundle: Bundle, entrants: Entrants, contest: Contest, options: Options) -> BenchDocument:
    gflop, why_not = count_gflop(bundle)
    counted = {name: gflop if RUNTIMES[name].device == "cpu" else None for name in entrants.run}
    rows = [contest.row(name, _precision(bundle, name), counted[name]) for name in entrants.run]
    if why_not:
        rows = [row.model_copy(update={"reasons": (*row.reasons, f"limit_share: {why_not}")}) for row in rows]
    rows += [
        SpeedRow(name=name, precision=_precision(bundle, name), reasons=(reason,))
        for name, reason in entrants.missing.items()
    ]
    return BenchDocument(
        created=datetime.now(UTC).isoformat(timespec="seconds"),
        bundle=facts(bundle),
        machine=machine.describe().model_copy(update={"matrix": contest.matrix()}),
        versions=machine.versions(),
        settings=Settings(runtimes=tuple(entrants.wanted), **vars(options)),
        reference=contest.reference(),
        gflop_per_frame=gflop,
        runtimes=tuple(rows),
    )


def _precision(bundle: Bundle, runtime: str) -> str:
    return "fp32" if RUNTIMES[runtime].plays == "checkpoint" else bundle.manifest.precision
