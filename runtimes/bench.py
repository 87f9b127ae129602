"""`bench`: how fast bundles play, several of them in one contest; with the bars, how well too."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path

from pocketgenie.errors import UserError
from pocketgenie.export.bundle import Bundle, load_bundle
from pocketgenie.genie.spec import NATIVE
from pocketgenie.runtimes import machine
from pocketgenie.runtimes.bars import bars
from pocketgenie.runtimes.brought import facts, held_out_clips, start_picture
from pocketgenie.runtimes.lineup import Entrants, Options, choose, precision_of
from pocketgenie.runtimes.longplay import long_play
from pocketgenie.runtimes.quality import against_teacher, not_comparable, teacher_of
from pocketgenie.runtimes.results import (
    BenchDocument,
    LongFigures,
    PaperWayOf,
    Settings,
    SpeedRow,
    TeacherFigures,
)
from pocketgenie.runtimes.table import RUNTIMES
from pocketgenie.runtimes.throughput import HOME, Contest, Guest, Report, Rivals, count_gflop
from pocketgenie.runtimes.worker import WorkerFailed

Seats = dict[str, str]
"""Runtime of a bundle -> its name in the contest."""


def bench(
    folders: Sequence[Path], asked: Sequence[str], options: Options, report: Report
) -> list[BenchDocument]:
    """Throughput of bundles, all in one contest -> a document for each.

    Raises UserError as `check` does; a bundle without its reference gets no ratios.
    """
    bundles = [load_bundle(folder) for folder in folders]
    entrants = [choose(bundle, asked) for bundle in bundles]
    pictures = [start_picture(bundle, held_out_clips(bundle, 1)) for bundle in bundles]
    seats = seated(bundles, entrants)
    home, *others = zip(bundles, seats, pictures, strict=True)
    guests = {
        seat: Guest(folder=bundle.folder, runtime=runtime, picture=picture)
        for bundle, own, picture in others
        for runtime, seat in own.items()
        if seat not in home[1].values()
    }
    taught = next((bundle for bundle in bundles if bundle.manifest.teacher), home[0])
    with Contest(home[0].folder, entrants[0].run, home[2], guests, taught.folder) as contest:
        contest.start(report)
        judged = _judge(bundles[0], entrants[0], contest, options, report)
        contest.run(options.rounds, options.frames_per_round, report)
        found = [
            bench_document(bundle, entered, contest, options, own, _plain(bundle, bundles, seats), taught)
            for bundle, entered, own in zip(bundles, entrants, seats, strict=True)
        ]
        documents = [
            _with_size(document, bundle, bundles) for document, bundle in zip(found, bundles, strict=True)
        ]
    documents[0] = documents[0].model_copy(update={"quality": judged.quality, "long_play": judged.long_play})
    if options.bars:
        documents[0] = documents[0].model_copy(update={"bars": bars(documents[0], judged.why_not)})
    return documents


@dataclass
class _Judged:
    """What was found of the first bundle beside its speed, and why a part of it was not."""

    quality: TeacherFigures | None = None
    long_play: LongFigures | None = None
    why_not: dict[str, str] = field(default_factory=dict)


def _judge(bundle: Bundle, entrants: Entrants, contest: Contest, options: Options, report: Report) -> _Judged:
    """The first bundle against its teacher; with the bars, in long roll-outs too."""
    judged = _Judged()
    if not (options.quality or options.bars):
        return judged
    clips = held_out_clips(bundle, options.clips)
    name = next((name for name in entrants.wanted if name in contest.workers), None)
    if name is None or clips is None:
        why = "no runtime started" if name is None else "it has no clips"
        judged.why_not = dict.fromkeys(("quality", "long_play"), why)
        return judged
    try:
        player, spec = contest.workers[name], bundle.manifest.spec
        if why := not_comparable(spec):
            raise WorkerFailed(name, why)
        with teacher_of(bundle, clips[0, 0]) as teacher:
            judged.quality = against_teacher(teacher, player, spec, clips, options.seed, report)
    except WorkerFailed as failure:
        judged.why_not["quality"] = str(failure)
        if not options.bars:
            raise UserError(f"{bundle.folder} was not judged by its teacher: {failure}") from None
    if options.bars:
        try:
            judged.long_play = long_play(contest.workers[name], clips, *options.long, report)
        except WorkerFailed as failure:
            judged.why_not["long_play"] = str(failure)
    return judged


def seated(bundles: Sequence[Bundle], entrants: Sequence[Entrants]) -> list[Seats]:
    """Every runtime's name in the contest. What plays a checkpoint does so once for all its bundles."""
    of_checkpoints: dict[tuple[str, str], str] = {}
    labels = _labels(bundles)
    seats: list[Seats] = []
    for number, (bundle, entered) in enumerate(zip(bundles, entrants, strict=True)):
        own: Seats = {}
        for name in dict.fromkeys(("reference", *entered.run)):
            seat = f"{labels[number]} {name}" if number else name
            if RUNTIMES[name].plays == "checkpoint":
                seat = of_checkpoints.setdefault((bundle.manifest.checkpoint_hash, name), seat)
            own[name] = seat
        seats.append(own)
    return seats


def bench_document(
    bundle: Bundle,
    entrants: Entrants,
    contest: Contest,
    options: Options,
    seats: Seats | None = None,
    plain: Seats | None = None,
    taught: Bundle | None = None,
) -> BenchDocument:
    """What a contest found of one bundle. `plain`: the seats of the float32 bundle of the same checkpoint."""
    seats = seats or {name: name for name in entrants.run}
    gflop, why_not = count_gflop(bundle)
    rows: list[SpeedRow] = []
    for name in entrants.run:
        rivals = Rivals(
            cached=seats.get("reference", HOME.cached),
            compiled=seats.get("compiled", HOME.compiled),
            fp32=(plain or {}).get(name, ""),
        )
        counted = gflop if RUNTIMES[name].device == "cpu" else None
        row = contest.row(seats[name], precision_of(bundle, name), counted, rivals)
        reasons = (*row.reasons, *([f"limit_share: {why_not}"] if why_not else []))
        rows.append(row.model_copy(update={"name": name, "reasons": reasons}))
    rows += [
        SpeedRow(name=name, precision=precision_of(bundle, name), reasons=(reason,))
        for name, reason in entrants.missing.items()
    ]
    of: PaperWayOf = "teacher" if (taught or bundle).manifest.teacher else "checkpoint"
    of = of if bundle.manifest.kind == NATIVE else "project"
    return BenchDocument(
        created=datetime.now(UTC).isoformat(timespec="seconds"),
        bundle=facts(bundle),
        machine=machine.describe().model_copy(update=contest.limits()),
        versions=machine.versions(),
        settings=Settings(runtimes=tuple(entrants.wanted), **options.settings()),
        reference=contest.reference(of, Rivals(cached=seats.get("reference", HOME.cached))),
        gflop_per_frame=gflop,
        runtimes=tuple(rows),
    )


def plain_of(bundle: Bundle, bundles: Sequence[Bundle]) -> int | None:
    """Which of the bundles is the float32 one of the same checkpoint, for the same target."""
    own = bundle.manifest
    for number, other in enumerate(bundles):
        found = other.manifest
        if (found.checkpoint_hash, found.target, found.precision) == (
            own.checkpoint_hash,
            own.target,
            "fp32",
        ):
            return None if found.precision == own.precision else number
    return None


def _plain(bundle: Bundle, bundles: Sequence[Bundle], seats: Sequence[Seats]) -> Seats:
    number = plain_of(bundle, bundles)
    graphs = {} if number is None else seats[number]
    return {name: seat for name, seat in graphs.items() if RUNTIMES[name].plays == "graphs"}


def _with_size(document: BenchDocument, bundle: Bundle, bundles: Sequence[Bundle]) -> BenchDocument:
    if (number := plain_of(bundle, bundles)) is None:
        return document
    ratio = document.bundle.size_mb / facts(bundles[number]).size_mb
    return document.model_copy(update={"bundle": document.bundle.model_copy(update={"size_ratio": ratio})})


def _labels(bundles: Sequence[Bundle]) -> list[str]:
    """The folders' names, numbered where two are alike."""
    names = [bundle.folder.resolve().name for bundle in bundles]
    return [f"{name} ({number + 1})" if names.count(name) > 1 else name for number, name in enumerate(names)]
