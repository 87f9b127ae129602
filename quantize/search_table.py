"""What a precision search found, for a terminal of 80 columns."""

from __future__ import annotations

from rich import box
from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from pocketgenie.quantize.pareto import Point, SearchDocument


def render(document: SearchDocument) -> RenderableType:
    """Every point, the fastest first, with its verdict."""
    table = Table(box=box.SIMPLE_HEAD, padding=(0, 1), collapse_padding=True)
    table.add_column("point", no_wrap=True)
    for name in ("fps", "x fp32", "MB", "dB"):
        table.add_column(name, justify="right", no_wrap=True)
    table.add_column("verdict")
    for point in sorted(document.points, key=lambda point: -point.fps):
        table.add_row(*_cells(point, document), style=_style(point, document))
    run = {point.name for point in document.points}
    for name in document.why.keys() - run:
        table.add_row(name, "", "", "", "", document.why[name], style="dim")
    goal = document.goal
    wanted = "" if goal.fps is None else f", {goal.fps:g} fps"
    legend = (
        f"dB: the worst figure of L4 against {document.baseline.name}\n"
        f"(budget {goal.budget_db:g} dB{wanted}); *: on the Pareto front. {document.cores} cores, "
        f"{document.seconds / 60:.1f} minutes in all."
    )
    return Group(table, Text(legend, "dim"))


def _cells(point: Point, document: SearchDocument) -> tuple[str, ...]:
    mark = "*" if point.name in document.front else " "
    figures = (f"{point.fps:.3g}", f"{point.ratio:.2f}", f"{point.size_mb:.1f}", f"{point.quality_db:+.2f}")
    return (f"{mark} {point.name}", *figures, document.why[point.name])


def _style(point: Point, document: SearchDocument) -> str:
    if point.name == document.chosen:
        return "bold green"
    return "" if point.loss_db <= document.goal.budget_db else "dim"
