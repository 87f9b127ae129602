"""A check's or a benchmark's document for a terminal of 80 columns: the ratios, the rungs, the reasons."""

from __future__ import annotations

from collections.abc import Iterable

from rich import box
from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from pocketgenie.runtimes.results import BenchDocument, CheckDocument, ParityFigures, SpeedRow, Status

COLOURS: dict[Status, str] = {"passed": "bold green", "falls short": "bold red", "not run": "bold yellow"}
NOTHING = "-"
SPEED_LEGEND = """
x: times the fps of the paper's way (25 steps, full window), of the cached
   reference, of torch.compile. limit share: of the measured matrix rate."""
PARITY_LEGEND = """
L1 largest difference of a logit, agreement; L2 equal tokens; L3 frames until
   one differs; L4 largest difference in dB of play on held-out clips."""
LEGEND = {False: SPEED_LEGEND, True: SPEED_LEGEND + PARITY_LEGEND}


def render(document: CheckDocument | BenchDocument) -> RenderableType:
    """All that a person at a terminal wants to know."""
    parts: list[RenderableType] = [_title(document), _speed(document)]
    if isinstance(document, CheckDocument):
        parts.append(_parity(document))
    rows = [(row.name, row.reasons) for row in document.runtimes]
    for name, reasons in (*rows, ("reference", document.reference.reasons)):
        parts += [Text.assemble((f"{name}: ", "bold"), reason) for reason in reasons]
    parts.append(Text(LEGEND[isinstance(document, CheckDocument)], "dim", no_wrap=True))
    return Group(*parts)


def _title(document: CheckDocument | BenchDocument) -> Text:
    bundle, machine = document.bundle, document.machine
    made = f"{bundle.target} {bundle.precision}, {bundle.size_mb:.1f} MB"
    return Text.assemble((bundle.name, "bold"), f"  {made}; {machine.cores} cores of {machine.cpu}")


def _speed(document: CheckDocument | BenchDocument) -> Table:
    table = _table(
        "runtime",
        "x\npaper",
        "x\ncached",
        "x\ncompile",
        "\nfps",
        "p95\nfps",
        "limit\nshare",
        "peak\nMB",
        "first\nframe",
    )
    reference = document.reference
    for name, fps in (("paper's way", reference.fps_paper_way), ("reference", reference.fps_cached)):
        table.add_row(name, "", "", "", _number(fps), "", "", "", "", style="dim")
    for row in document.runtimes:
        table.add_row(row.name, *_speed_cells(row))
    return table


def _speed_cells(row: SpeedRow) -> Iterable[str]:
    fps = row.fps
    if fps is None:
        return [NOTHING] * 8
    return (
        *(_number(ratio) for ratio in (fps.ratio_paper_way, fps.ratio_cached, fps.ratio_compiled)),
        _number(fps.median),
        _number(fps.p95),
        NOTHING if row.limit_share is None else f"{row.limit_share:.0%}",
        NOTHING if row.memory_mb is None else f"{row.memory_mb:.0f}",
        NOTHING if row.first_frame_ms is None else f"{row.first_frame_ms / 1000:.2f} s",
    )


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
        table.add_column(name, justify="left" if name == "verdict" else "right", no_wrap=True)
    return table
