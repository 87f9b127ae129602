"""A check's or a benchmark's document for a terminal of 80 columns: the ratios, the rungs, the reasons."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from itertools import takewhile
from statistics import median

from rich import box
from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from pocketgenie.runtimes.quality import JUDGED, LEAST_DB, least_separation
from pocketgenie.runtimes.results import (
    WAY,
    BarRow,
    BarStatus,
    BenchDocument,
    CheckDocument,
    PaperWayOf,
    ParityFigures,
    SpeedRow,
    Status,
    TeacherFigures,
)
from pocketgenie.runtimes.table import RUNTIMES

COLOURS: dict[Status, str] = {"passed": "bold green", "falls short": "bold red", "not run": "bold yellow"}
BAR_COLOURS: dict[BarStatus, str] = {"met": "bold green", "falls short": "bold red", "not run": "bold yellow"}
NOTHING = "-"
NAME = 12  # characters of a bundle's name in a row
SPEED_LEGEND = """
x: times the fps of {way}, of the cached
   reference, of torch.compile{plain}.
   limit share: of the measured matrix rate."""
APART_LEGEND = """
Core to core: {median:.0f} ns there and back ({least:.0f} to {most:.0f} over the rounds).
   Where it is long, small operations wait, in int8 most of all."""
TEACHER_LEGEND = """
To the teacher: the bundle's figure minus that of the world it was distilled
   from (float32, {how}); above 0 it is better. Separation:
   how far apart two actions lead, over what noise alone does; the hardest pair."""
PARITY_LEGEND = """
L1 largest difference of a logit, agreement; L2 equal tokens; L3 frames until
   one differs; L4 largest difference in dB of play on held-out clips."""
WAYS: dict[PaperWayOf, str] = {
    "teacher": "the paper's way (the teacher, 25 steps by\n   confidence, full window)",
    "checkpoint": "the paper's way (its own checkpoint, 25 steps by\n   confidence, full window)",
    "project": "its project's way (PyTorch, the project's own\n   sampler and steps, full window)",
}


def render(*documents: CheckDocument | BenchDocument) -> RenderableType:
    """All that a person at a terminal wants to know: of a check, or of the bundles of one contest."""
    first, several = documents[0], len(documents) > 1
    parts: list[RenderableType] = [*map(_title, documents), _speed(documents)]
    if isinstance(first, CheckDocument):
        parts.append(_parity(first))
    if first.quality:
        parts.append(_by_teacher(first.quality))
    if isinstance(first, BenchDocument) and first.bars:
        parts.append(_bars(first.bars))
    for document in documents:
        place = f"{document.bundle.name} " if several else ""
        rows = [(row.name, row.reasons) for row in document.runtimes]
        for name, reasons in (*rows, ("reference", document.reference.reasons)):
            parts += [Text.assemble((f"{place}{name}: ", "bold"), reason) for reason in reasons]
    plain = ",\n   of the float32 bundle of the same checkpoint" if several else ""
    legend = SPEED_LEGEND.format(way=WAYS[first.reference.paper_way_of], plain=plain)
    if apart := first.machine.core_to_core_ns:
        legend += APART_LEGEND.format(median=median(apart), least=min(apart), most=max(apart))
    legend += PARITY_LEGEND if isinstance(first, CheckDocument) else ""
    how = "its own steps" if first.reference.paper_way_of == "project" else "25 steps"
    legend += TEACHER_LEGEND.format(how=how) if first.quality else ""
    parts.append(Text(legend, "dim", no_wrap=True))
    return Group(*parts)


def _title(document: CheckDocument | BenchDocument) -> Text:
    bundle, machine = document.bundle, document.machine
    made = f"{bundle.target} {bundle.precision}, {bundle.size_mb:.1f} MB"
    if bundle.size_ratio is not None:
        made += f" ({bundle.size_ratio:.0%} of fp32)"
    return Text.assemble((bundle.name, "bold"), f"  {made}; {machine.in_cores} of {machine.cpu}")


def _speed(documents: Sequence[CheckDocument | BenchDocument]) -> Table:
    """Rows of a bundle and a runtime; of a checkpoint's own runtimes one row for all its bundles."""
    several, labels = len(documents) > 1, _labels([document.bundle.name for document in documents])
    plain = ["x\nfp32"] if several else []
    last = ["p95\nfps", "limit\nshare", "peak\nMB"] + ([] if several else ["first\nframe"])
    rival = WAY[documents[0].reference.paper_way_of].partition("'")[0]
    table = _table("runtime", f"x\n{rival}", "x\ncached", "x\ncompile", *plain, "\nfps", *last)
    empty = [""] * (3 + len(plain))
    seen: set[tuple[str, str]] = set()
    for document in documents:
        reference, checkpoint = document.reference, document.bundle.checkpoint_sha256
        way = WAY[reference.paper_way_of]
        for name, fps in ((way, reference.fps_paper_way), ("reference", reference.fps_cached)):
            whose = "" if name == way else checkpoint
            if (whose, name) not in seen:
                table.add_row(name, *empty, _number(fps), *[""] * len(last), style="dim")
            seen.add((whose, name))
    for label, document in zip(labels, documents, strict=True):
        for row in document.runtimes:
            name, checkpoint = row.name, document.bundle.checkpoint_sha256
            if RUNTIMES[name].plays == "graphs" and several:
                name = f"{label} {name}"
            if (checkpoint, name) not in seen:
                table.add_row(name, *_speed_cells(row, several))
            seen.add((checkpoint, name))
    return table


def _labels(names: Sequence[str]) -> list[str]:
    """What tells bundles apart: their names without the words that all begin with (int8, fp32)."""
    words = [name.split("-") for name in names]
    columns = zip(*(one[:-1] for one in words), strict=False) if len(names) > 1 else ()
    shared = len(list(takewhile(lambda column: len(set(column)) == 1, columns)))
    labels = ["-".join(one[shared:]) for one in words]
    return [label if len(label) <= NAME else f"…{label[1 - NAME :]}" for label in labels]


def _speed_cells(row: SpeedRow, several: bool) -> Iterable[str]:
    fps = row.fps
    if fps is None:
        return [NOTHING] * 8
    ratios = (fps.ratio_paper_way, fps.ratio_cached, fps.ratio_compiled)
    first = NOTHING if row.first_frame_ms is None else f"{row.first_frame_ms / 1000:.2f} s"
    return (
        *(_number(ratio) for ratio in (*ratios, *([fps.ratio_fp32] if several else []))),
        _number(fps.median),
        _number(fps.p95),
        NOTHING if row.limit_share is None else f"{row.limit_share:.0%}",
        NOTHING if row.memory_mb is None else f"{row.memory_mb:.0f}",
        *([] if several else [first]),
    )


def _by_teacher(found: TeacherFigures) -> Table:
    table = _table("to the teacher", "this", "teacher", "difference", "judged")
    for name, words in {**JUDGED, "recon": "reconstruction"}.items():
        key = f"{name}_psnr_db"
        if key not in found.difference_db:
            continue
        error = f" ± {found.error_db[key]:.2f}" if key in found.error_db else ""
        verdict = (
            f"{LEAST_DB:g} dB: {'met' if found.difference_db[key] >= LEAST_DB else 'falls short'}"
            if name in JUDGED
            else ""
        )
        change = f"{found.difference_db[key]:+.2f}{error} dB"
        table.add_row(words, f"{found.own[key]:.2f}", f"{found.teacher[key]:.2f}", change, verdict)
    if (key := "action_perplexity") in found.own:
        own, teacher = found.own[key], found.teacher[key]
        table.add_row("action perplexity", f"{own:.2f}", f"{teacher:.2f}", f"{own - teacher:+.2f}", "")
    least = least_separation(found)
    verdict = f"{least:.2f}: {'met' if found.separation >= least else 'falls short'}"
    pair = " and ".join(str(action + 1) for action in found.hardest)
    separation = f"{found.separation:.2f}", f"{found.separation_teacher:.2f}"
    table.add_row("separation of actions", *separation, pair, verdict)
    return table


def _bars(rows: Sequence[BarRow]) -> Table:
    table = _table("bar", "asked", "measured", "verdict")
    for row in rows:
        verdict = Text(row.status, BAR_COLOURS[row.status])
        table.add_row(row.name, row.asked, row.measured, verdict)
        if row.reason:
            table.add_row(Text(f"  {row.reason}", "dim", overflow="ellipsis"), "", "", "")
    return table


def _parity(document: CheckDocument) -> Table:
    table = _table(
        "runtime", "verdict", "L0\nfiles", "L1\nlogits", "L1\ntop-1", "L2\ntokens", "L3\nframes", "L4\ndB"
    )
    for row in document.runtimes:
        table.add_row(row.name, Text(row.status, COLOURS[row.status]), *_parity_cells(row.parity))
    return table


def _parity_cells(found: ParityFigures) -> Iterable[str]:
    artefact, one, frame, rollout, world = (
        found.artefact,
        found.pass_,
        found.frame,
        found.rollout,
        found.world,
    )
    equal = NOTHING
    if rollout:
        first = rollout.frames if rollout.first_difference is None else rollout.first_difference
        equal = f"{first} of {rollout.frames}"
    decibels = [abs(value) for name, value in (world or {}).items() if name.endswith("_db")]
    return (
        NOTHING if artefact is None else f"{len(artefact.problems)} faults" if artefact.problems else "sound",
        NOTHING if one is None else f"{one.max_abs:.1e}",
        NOTHING if one is None else f"{one.top1:.2%}",
        NOTHING if frame is None else f"{frame.token_match:.2%}",
        equal,
        f"{max(decibels):.3f}" if decibels else NOTHING,
    )


def _number(value: float | None) -> str:
    """Three digits are all that such a measurement holds."""
    return NOTHING if value is None else f"{value:.0f}" if value >= 100 else f"{value:.3g}"


def _table(first: str, *others: str) -> Table:
    table = Table(box=box.SIMPLE_HEAD, padding=(0, 1), collapse_padding=True)
    table.add_column(first, no_wrap=True)
    for name in others:
        table.add_column(name, justify="left" if name in ("verdict", "judged") else "right", no_wrap=True)
    return table
