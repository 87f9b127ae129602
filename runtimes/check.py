"""`check`: a bundle's runtimes against the reference, as one document (runtimes/results.py)."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from numpy.typing import NDArray

from pocketgenie.errors import UserError
from pocketgenie.export.bundle import Bundle, load_bundle
from pocketgenie.runtimes import machine, quality
from pocketgenie.runtimes.bench import bench_document
from pocketgenie.runtimes.bounds import bounds_for, shortfalls
from pocketgenie.runtimes.brought import held_out_clips, start_picture
from pocketgenie.runtimes.lineup import Entrants, Options, choose, precision_of
from pocketgenie.runtimes.parity import Exam, not_measurable
from pocketgenie.runtimes.publish import Shown, show
from pocketgenie.runtimes.remote import Shortened
from pocketgenie.runtimes.results import (
    BenchDocument,
    CheckDocument,
    ParityFigures,
    ParityRow,
    RuntimeRow,
    SpeedRow,
    Status,
)
from pocketgenie.runtimes.table import RUNTIMES
from pocketgenie.runtimes.throughput import Contest, Report
from pocketgenie.runtimes.worker import Worker, WorkerFailed

Array = NDArray[Any]


def check(
    folder: Path, asked: Sequence[str], options: Options, report: Report
) -> tuple[CheckDocument, Shown]:
    """Parity and throughput of a bundle, and pictures of the first runtime that was wanted.

    Raises UserError for what is wrong before a runtime is tried; whatever a runtime does is in the document.
    """
    bundle = load_bundle(folder)
    entrants = choose(bundle, asked)
    clips = held_out_clips(bundle, options.clips)
    if clips is None and bundle.manifest.reference:
        raise UserError(f"{folder} has no clips to ask about; export it with --clips FILE.npz, or `bench` it")
    if clips is None or bundle.manifest.reference is None:
        raise UserError(
            f"{folder} has no reference and clips; export it again without --no-reference, or `bench` it"
        )
    for name in entrants.run:
        bounds_for(precision_of(bundle, name))
    with Contest(bundle.folder, entrants.run, start_picture(bundle, clips)) as contest:
        if not entrants.run:  # there is nothing to hold against the reference
            return _judged(bench_document(bundle, entrants, contest, options), {}, entrants, options), Shown()
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
            name: examine_runtime(contest.workers[name], precision_of(bundle, name), exam, report)
            for name in entrants.run
            if name in contest.workers
        }
        speed = bench_document(bundle, entrants, contest, options)
        there = [name for name in entrants.wanted if name in contest.workers]
        on_show = [name for name in there if _patience(contest.workers[name]) is None]
        shown = show(contest, on_show[0], exam, report) if on_show else Shown()
        if bundle.manifest.teacher and on_show:
            player = contest.workers[on_show[0]]
            speed, tried, film = _by_teacher(speed, tried, player, bundle, exam, options.quality, report)
            shown = replace(shown, teacher=film)
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
    shared = {name: getattr(speed, name) for name in CheckDocument.model_fields}
    return CheckDocument(**{**shared, "runtimes": tuple(rows)})


def _by_teacher(
    speed: BenchDocument,
    tried: Mapping[str, ParityRow],
    worker: Worker,
    bundle: Bundle,
    exam: Exam,
    judge: bool,
    report: Report,
) -> tuple[BenchDocument, dict[str, ParityRow], Array | None]:
    """The teacher's frames of the roll-out that the report shows, and with `judge` L4 against the teacher, on
    the runtime that the report is about: what falls short is a reason there.
    """
    row, film = tried[worker.name], None
    status, picture = row.status, exam.clips[0, 0]
    try:
        with quality.teacher_of(bundle, picture) as teacher:
            faults: list[str] = []
            if judge and (why_not := quality.not_comparable(exam.spec)):
                faults = [f"L4 teacher: {why_not}"]
            elif judge:
                found = quality.against_teacher(teacher, worker, exam.spec, exam.clips, exam.seed, report)
                speed, faults = speed.model_copy(update={"quality": found}), quality.shortfalls(found)
            report(f"{teacher.name}: pictures for the report")
            film, _ = teacher.call("show", picture, *exam.starts[0][1:])
        status = "falls short" if faults and speed.quality else status
    except WorkerFailed as failure:
        faults = [f"L4 teacher: {'' if failure.who == worker.name else 'the teacher '}{failure}"]
        status = "not run" if status == "passed" else status
    judged = row.model_copy(update={"reasons": (*row.reasons, *faults), "status": status})
    return speed, {**tried, worker.name: judged}, film


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
        *([] if exam.spec.frames == "tokens" else [("world", "L4 world", exam.world)]),
    ]
    figures: dict[str, Any] = {}
    faults: list[str] = []
    not_run: list[str] = []
    if short := _patience(worker):
        exam = exam.shortened(short.frames)
        rungs[1:] = [
            ("pass", "L1 pass", exam.one_pass),
            ("frame", "L2 frame", exam.one_frame),
            ("rollout", "L3 rollout", exam.whole_rollout),
        ]
        not_run.append(f"L4 world: {short.why}; L1 to L3 are cut short, to {short.frames} frames")
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
        name=name,
        precision=precision,
        status=status,
        reasons=(*faults, *not_run, *not_measurable(exam.spec)),
        parity=parity,
    )


def _patience(worker: Worker) -> Shortened | None:
    try:
        found: Shortened | None = worker.call("shortened")
    except WorkerFailed:  # which the rungs will say
        return None
    return found


def _not_run(row: SpeedRow) -> ParityRow:
    """Of a runtime that is missing or did not start, for the reasons that its throughput has as well."""
    return ParityRow(
        name=row.name, precision=row.precision, status="not run", reasons=row.reasons, parity=ParityFigures()
    )
