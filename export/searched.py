"""The precision search in a report: its chart, its points, why one was chosen. No torch."""

from __future__ import annotations

from pocketgenie.export.bundle import Bundle
from pocketgenie.export.charts import Dot, scatter
from pocketgenie.export.page import Block, Charts, Section, Table, Text
from pocketgenie.quantize.pareto import JUDGED, SEARCH, TEACHERS, Point, SearchDocument

SHORT = ("recon.", "next", "fourth", "control")
"""JUDGED, as heads of narrow columns."""


def read_search(bundle: Bundle) -> SearchDocument | None:
    """What the search found that made this bundle; None for a bundle made otherwise."""
    if SEARCH not in bundle.manifest.files:
        return None
    return SearchDocument.model_validate_json(bundle.path(SEARCH).read_text())


def section(document: SearchDocument) -> Section:
    """The chart, and every point in a table, the fastest first."""
    goal, chosen = document.goal, document.point(document.chosen)
    sought = "the fastest" if goal.fps is None else f"the smallest that reaches {goal.fps:g} fps"
    points = len(document.points)
    cores = f"{document.cores} {'core' if document.cores == 1 else 'cores'}"
    told = (
        f"**{chosen.name}** is {sought} of {points} bundles that were made, run and compared, with no figure "
        f"more than {goal.budget_db:g} dB worse than {document.baseline.name}. Each was raced in turns with "
        f"all others ({document.rounds} rounds, {cores} of {document.machine}) and played "
        f"{document.clips} held-out clips. `pareto.csv` holds the points, `sensitivity.json` what each layer "
        "suffers from fewer bits."
    )
    chart = scatter(
        [
            Dot(
                name=point.name.replace(TEACHERS, " T"),
                x=point.fps,
                y=point.quality_db,
                ours=point is chosen,
                joined=point.name in document.front,
            )
            for point in document.points
        ],
        -goal.budget_db,
        f"budget: {goal.budget_db:g} dB",
        "frames per second against quality",
        ("frames per second", "dB against the baseline"),
    )
    judged = [words for name, words in JUDGED.items() if name in document.baseline.figures]
    legend = (
        "Higher and further right is better. Rings on the line: nothing else is both faster and better. "
        f"Quality is the worst of: {', '.join(judged)}."
    )
    if any(point.decoder == "teacher" for point in document.points):
        legend += " T: with the teacher's decoder."
    rows = [_row(point, document) for point in sorted(document.points, key=lambda point: -point.fps)]
    rows += [
        [name, *["not run"] * 4, *[""] * (len(JUDGED) + 1), why]
        for name, why in document.why.items()
        if name not in {point.name for point in document.points}
    ]
    head = ("point", "fps", "× fp32", "MB", "quality", *SHORT, "front", "verdict")
    blocks: list[Block] = [
        Text(told),
        Charts([("Speed against quality", chart)]),
        Text(legend),
        Table(head, rows),
    ]
    return Section("The search", blocks)


def _row(point: Point, document: SearchDocument) -> list[str]:
    theirs = document.baseline.figures
    apart = [f"{point.figures[name] - theirs[name] + 0.0:+.2f}" if name in theirs else "" for name in JUDGED]
    name = f"**{point.name}**" if point.name == document.chosen else point.name
    return [
        name,
        f"{point.fps:.3g}",
        f"{point.ratio:.2f}",
        f"{point.size_mb:.1f}",
        f"{point.quality_db + 0.0:+.2f}",
        *apart,
        "yes" if point.name in document.front else "",
        document.why[point.name],
    ]
