"""`--precision auto`: the steps, the precision of each layer and the decoder that are fastest in a budget.

Candidates come from the sensitivities, each one is really exported and run: its L4 on held-out clips decides
what is tried next, its frames a second are measured in turns with all the others in the end.
"""

from __future__ import annotations

import time
from contextlib import ExitStack
from pathlib import Path

from pocketgenie.errors import UserError
from pocketgenie.export.staging import beside, workspace
from pocketgenie.export.world import ExportOptions
from pocketgenie.quantize.candidates import next_to_try
from pocketgenie.quantize.pareto import (
    Baseline,
    Point,
    SearchDocument,
    choose,
    quality,
)
from pocketgenie.quantize.search_bench import Bench, Report, SearchOptions, Tried
from pocketgenie.runtimes.brought import facts


def search(
    checkpoint: Path, destination: Path, options: ExportOptions, wanted: SearchOptions, report: Report
) -> SearchDocument:
    """Find, run and explain; the chosen bundle is at `destination`, whole or not at all. Raises UserError.

    options: of the export; target and precision are the search's own. `report` is told what is being done.
    """
    if options.target != "onnx" or options.form == "qdq":
        raise UserError(
            "the precision search measures ONNX Runtime on this CPU; leave out --form, use --target onnx"
        )
    if wanted.candidates < 1:
        raise UserError("the search needs candidates to try; give --candidates 1 or more")
    began = time.perf_counter()
    destination.resolve().parent.mkdir(parents=True, exist_ok=True)
    with workspace(beside(destination.resolve(), "search")) as work, ExitStack() as stack:
        bench = Bench(checkpoint, options, wanted, work, report, stack)
        space = bench.space()
        baseline = bench.teachers_quality()
        while len(bench.tried) + len(bench.failed) < wanted.candidates:
            done = {one.candidate.name for one in bench.tried} | bench.failed.keys()
            losses = dict.fromkeys(done, float("inf"))
            if baseline:
                losses |= {
                    one.candidate.name: max(0.0, -quality(one.figures, baseline.figures))
                    for one in bench.tried
                }
            candidate = next_to_try(space, losses, wanted.goal)
            if candidate is None:
                break
            bench.try_out(candidate)
            if baseline is None:
                baseline = Baseline(name=f"{candidate.name}, the checkpoint", figures=bench.tried[0].figures)
        bench.race()
        assert baseline is not None
        points = [_point(one, bench.tried[0].fps, baseline) for one in bench.tried]
        chosen = choose(points, wanted.goal)
        document = bench.document(points, chosen, baseline, time.perf_counter() - began)
        bench.finish(document, destination)
    return document


def _point(one: Tried, fp32_fps: float, baseline: Baseline) -> Point:
    candidate = one.candidate
    return Point(
        name=candidate.name,
        steps=candidate.variant.steps,
        decoder=candidate.variant.decoder,
        precision=candidate.precision,
        bits=dict(candidate.bits),
        fps=one.fps,
        ratio=one.fps / fp32_fps,
        size_mb=facts(one.bundle).size_mb,
        figures={name: value for name, value in one.figures.items() if name.endswith("_db")},
        quality_db=quality(one.figures, baseline.figures),
    )
