"""Several bundles in one contest: who takes part once, who against whom."""

from __future__ import annotations

import numpy as np
import pytest

from pocketgenie.export.bundle import load_bundle
from pocketgenie.export.world import ExportOptions, export_checkpoint
from pocketgenie.runtimes.bench import bench, plain_of, seated
from pocketgenie.runtimes.lineup import Options, choose
from pocketgenie.runtimes.results import schema, to_json
from pocketgenie.runtimes.summary import render


@pytest.fixture(scope="module")
def halved(taught_checkpoint, tmp_path_factory):
    """The taught world at fp16."""
    folder = tmp_path_factory.mktemp("bundle") / "halved"
    export_checkpoint(taught_checkpoint, folder, ExportOptions(precision="fp16"), lambda what: None)
    return folder


def test_what_plays_a_checkpoint_takes_part_once(halved, taught_bundle, tiny_bundle):
    bundles = [load_bundle(folder) for folder in (halved, taught_bundle, tiny_bundle)]
    seats = seated(bundles, [choose(bundle, ["ort-cpu", "compiled"]) for bundle in bundles])
    assert seats[0] == {"reference": "reference", "ort-cpu": "ort-cpu", "compiled": "compiled"}
    assert seats[1] == {"reference": "reference", "ort-cpu": "taught ort-cpu", "compiled": "compiled"}
    assert seats[2]["reference"] == "tiny reference" and seats[2]["compiled"] == "tiny compiled"
    assert [plain_of(bundle, bundles) for bundle in bundles] == [1, None, None]


def test_two_bundles_of_a_checkpoint_in_one_contest(halved, taught_bundle):
    told: list[str] = []
    options = Options(rounds=2, frames_per_round=4)
    half, full = bench([halved, taught_bundle], ["ort-cpu"], options, told.append)
    assert told.count("starting reference") == 1 and "starting taught ort-cpu" in told
    (row,), (plain,) = half.runtimes, full.runtimes
    assert row.name == plain.name == "ort-cpu" and row.fps and plain.fps
    of_each_round = np.divide(row.fps.rounds, plain.fps.rounds)
    assert row.fps.ratio_fp32 == pytest.approx(np.median(of_each_round))
    assert plain.fps.ratio_fp32 is None and full.bundle.size_ratio is None
    assert half.bundle.size_ratio == pytest.approx(half.bundle.size_mb / full.bundle.size_mb)
    assert half.reference == full.reference and half.reference.paper_way_of == "teacher"
    paper = half.reference.fps_paper_way
    assert paper and row.fps.ratio_paper_way and row.fps.ratio_paper_way != row.fps.ratio_fp32
    assert "ratio_fp32" in to_json(half) and "ratio_fp32" in schema()
    lines = plain_text(half, full)
    assert max(map(len, lines)) <= 80
    assert any(line.strip().startswith("halved ort-cpu") for line in lines)
    assert any("the teacher, 25 steps" in line for line in lines)


def plain_text(*documents):
    from rich.console import Console

    console = Console(width=80)
    with console.capture() as captured:
        console.print(render(*documents))
    return captured.get().splitlines()


@pytest.mark.slow
def test_the_bars_of_a_bundle_are_all_judged(halved, taught_bundle):
    options = Options(rounds=2, frames_per_round=4, bars=True, clips=4, long=(120, 2))
    half, _ = bench([halved, taught_bundle], ["ort-cpu"], options, print)
    status = {row.name: row.status for row in half.bars}
    assert status["fps, to torch.compile"] == "not run"
    assert len(status) == 11 and list(status.values()).count("not run") == 1
    assert half.quality and half.quality.runtime == "ort-cpu"
    assert half.long_play and half.long_play.frames == 120
    lines = plain_text(half)
    assert max(map(len, lines)) <= 80 and any("stillest window" in line for line in lines)
