"""Every bar is met, falls short or says why it was not run."""

from __future__ import annotations

import io

import pytest
from rich.console import Console

from pocketgenie.runtimes import machine, summary
from pocketgenie.runtimes.bars import bars
from pocketgenie.runtimes.results import (
    BenchDocument,
    BundleFacts,
    FpsFigures,
    LongFigures,
    ReferenceSpeed,
    Settings,
    SpeedRow,
    TeacherFigures,
)

KEYS = ("next_frame_psnr_db", "rollout_psnr_db", "delta_psnr_db")


def document(**changes):
    ratios = {"ratio_paper_way": 400.0, "ratio_cached": 9.0, "ratio_compiled": 2.5, "ratio_fp32": 1.9}
    fps = FpsFigures(
        p50=70, p95=65, median=69.0, rounds=(69.0,), **{k: changes.get(k, v) for k, v in ratios.items()}
    )
    return BenchDocument(
        created="2026-01-01T00:00:00+00:00",
        bundle=BundleFacts(
            name="b",
            world="w",
            target="onnx",
            precision="int8",
            sha256="0",
            checkpoint_sha256="1",
            size_mb=1.0,
            size_ratio=changes.get("size_ratio", 0.3),
        ),
        machine=machine.describe(),
        versions={},
        settings=Settings(
            runtimes=("ort-cpu",),
            frames=64,
            rollouts=4,
            rounds=7,
            frames_per_round=32,
            clips=32,
            seed=0,
            min_fps=0,
        ),
        reference=ReferenceSpeed(fps_paper_way=0.2, paper_way_of="teacher"),
        gflop_per_frame=None,
        runtimes=(SpeedRow(name="ort-cpu", precision="int8", reasons=(), fps=fps),),
        quality=TeacherFigures(
            runtime="ort-cpu",
            own=dict.fromkeys(KEYS, 20.0),
            teacher=dict.fromkeys(KEYS, 20.0),
            difference_db=dict.fromkeys(KEYS, changes.get("db", 0.0)),
            error_db=dict.fromkeys(KEYS, 0.1),
            separation=changes.get("separation", 1.9),
            separation_teacher=2.0,
            hardest=(0, 1),
        ),
        long_play=LongFigures(
            frames=1000,
            rollouts=2,
            motion=(0.5,) * 10,
            motion_lowest=(0.4, changes.get("still", 0.2)),
            frechet_first=1.5,
            frechet_last=changes.get("frechet", 2.0),
        ),
    )


def test_all_are_met():
    found = bars(document(), {})
    assert {row.status for row in found} == {"met"} and len(found) == 11


@pytest.mark.parametrize(
    ("change", "names"),
    [
        ({"ratio_fp32": 1.69}, ["fps, int8 to fp32"]),
        ({"size_ratio": 0.36}, ["size, int8 to fp32"]),
        ({"ratio_compiled": 1.9}, ["fps, to torch.compile"]),
        ({"ratio_paper_way": 299.0}, ["fps, to the paper's way"]),
        ({"db": -0.31}, [f"to teacher, {w}" for w in ("next frame", "fourth frame", "controllability")]),
        ({"separation": 1.5}, ["actions distinct, lowest"]),
        ({"still": 0.05}, ["1000 frames, stillest window"]),
        ({"frechet": 4.1}, ["1000 frames, Fréchet at end"]),
    ],
)
def test_each_can_fall_short(change, names):
    made = document(**change)
    rows = bars(made, {})
    assert [row.name for row in rows if row.status == "falls short"] == names
    assert made.model_copy(update={"bars": rows}).exit_code == 1


def test_what_was_not_measured_is_not_run_and_says_why():
    bare = document(ratio_fp32=None, size_ratio=None).model_copy(update={"quality": None, "long_play": None})
    rows = {row.name: row for row in bars(bare, {"quality": "it has no teacher"})}
    waiting = [row for row in rows.values() if row.status == "not run"]
    assert len(waiting) == 8 and all(row.reason and row.measured == "-" for row in waiting)
    assert rows["to teacher, next frame"].reason == "it has no teacher"
    assert "took no part" in rows["fps, int8 to fp32"].reason


def test_all_of_it_is_read_on_80_columns():
    made = document(still=0.05, separation=0.5)
    apart = made.machine.model_copy(update={"core_to_core_ns": (160.0, 590.0, 165.0)})
    shown = io.StringIO()
    Console(file=shown, width=80).print(
        summary.render(made.model_copy(update={"bars": bars(made, {}), "machine": apart}))
    )
    assert "…" not in shown.getvalue() and "0.05, 1 of 2 below" in shown.getvalue()
    assert "from (float32, 25 steps)" in shown.getvalue()
    assert "165 ns there and back (160 to 590 over the rounds)" in shown.getvalue()


@pytest.mark.parametrize(
    ("names", "labels"),
    [
        (["coinrun-onnx-int8"], ["…n-onnx-int8"]),
        (["coinrun-onnx-int8", "coinrun-onnx-fp32"], ["int8", "fp32"]),
        (["coinrun-onnx", "coinrun-onnx"], ["onnx", "onnx"]),
        (["a", "a-b"], ["a", "a-b"]),
    ],
)
def test_bundles_are_told_apart_by_what_their_names_do_not_share(names, labels):
    assert summary._labels(names) == labels
