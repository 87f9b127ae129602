"""What a check leaves in the bundle: parity.json, bench.json, the report and its pictures."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pocketgenie.export.bundle import amended, load_bundle
from pocketgenie.export.report import ReportData, Rollout, write_report
from pocketgenie.export.searched import read_search
from pocketgenie.runtimes.parity import Exam
from pocketgenie.runtimes.results import CheckDocument, to_json
from pocketgenie.runtimes.throughput import Contest, Report
from pocketgenie.runtimes.worker import WorkerFailed

Array = NDArray[Any]
HELD_FRAMES = 12  # of each action


@dataclass(frozen=True, kw_only=True)
class Shown:
    """What the report shows of one runtime beside the reference."""

    rollout: Rollout | None = None
    teacher: Array | None = None
    """The teacher's frames of the same roll-out, uint8 [1 + T, H, W, 3]."""
    each_action: Array | None = None
    stages_ms: dict[str, float] = field(default_factory=dict)


def show(contest: Contest, name: str, exam: Exam, report: Report) -> Shown:
    """The same roll-out on the reference and on this runtime, each action, the stages."""
    if name not in contest.workers:
        return Shown()
    report(f"{name}: pictures for the report")
    worker, picture = contest.workers[name], contest.picture
    try:
        _, actions, seed = exam.starts[0]
        (frames, tokens), (own_frames, own_tokens) = (
            player.call("show", picture, actions, seed) for player in (exam.reference, worker)
        )
        parted = np.flatnonzero((tokens != own_tokens).any(-1))
        first = int(parted[0]) if len(parted) else None
        rollout = Rollout(
            runtime=name,
            reference=frames,
            target=own_frames,
            actions=tuple(actions),
            first_difference=first,
        )
        held = worker.call("each_action", picture, HELD_FRAMES)
        return Shown(rollout=rollout, each_action=held, stages_ms=worker.call("stages"))
    except WorkerFailed:  # its rows say so; the report does without pictures
        return Shown()


def publish(folder: Path, document: CheckDocument, shown: Shown) -> None:
    """Put parity.json, bench.json and the report into the bundle. Raises UserError as `amended` does."""
    bundle, name = load_bundle(folder, only=()), document.bundle.name
    manifest, found = bundle.manifest, read_search(bundle)
    cards = f" --cards {','.join(manifest.engines.cards)}" if manifest.engines else ""
    precision: str = manifest.precision
    if found:
        wanted = f" --fps {found.goal.fps:g}" if found.goal.fps else ""
        precision = f"auto --budget-db {found.goal.budget_db:g}{wanted}"
    made = f"--target {manifest.target} --precision {precision}{cards} -o {name}"
    with amended(folder) as new:
        (new / "parity.json").write_text(to_json(document.parity_part()))
        (new / "bench.json").write_text(to_json(document.bench_part()))
        data = ReportData(
            manifest=manifest,
            check=document,
            rollout=shown.rollout,
            teacher=shown.teacher,
            each_action=shown.each_action,
            commands=(f"pocketgenie export CHECKPOINT {made}", f"pocketgenie check {name}"),
            stages_ms=shown.stages_ms,
            search=found,
        )
        write_report(new, data)
