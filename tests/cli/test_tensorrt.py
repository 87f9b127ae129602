"""`export --target tensorrt` as a user runs it without an NVIDIA card: real engines, nothing claimed."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from pocketgenie.export.bundle import load_bundle
from pocketgenie.runtimes.machine import gpu
from pocketgenie.runtimes.results import CheckDocument

pytest.importorskip("tensorrt_rtx", reason="tensorrt_rtx is not installed: it builds the engines")

NOT_RUN = "built, not run: no NVIDIA driver"


def run(*arguments: object, cwd: Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "pocketgenie", *map(str, arguments)],
        capture_output=True,
        text=True,
        cwd=cwd,
        env=os.environ | {"COLUMNS": "80"},
    )


@pytest.fixture(scope="module")
def made(tiny_checkpoint, tmp_path_factory):
    folder = tmp_path_factory.mktemp("made")
    ran = run("export", tiny_checkpoint, "--target", "tensorrt", "--check", "--json", "c.json", cwd=folder)
    return folder, folder / "dist" / "tiny-tensorrt-fp16", ran


@pytest.mark.slow
@pytest.mark.skipif(gpu() is not None, reason="this machine has an NVIDIA card, which plays the engines")
def test_without_a_card_the_engines_are_built_and_nothing_is_claimed(made):
    folder, bundle, ran = made
    assert ran.returncode == 0, ran.stdout + ran.stderr
    assert NOT_RUN in " ".join(ran.stdout.split()) and "engines for rtx30, rtx40, rtx50" in ran.stdout
    manifest = load_bundle(bundle).manifest
    assert manifest.engines and manifest.engines.graphs.keys() == manifest.graphs.keys()
    document = CheckDocument.model_validate_json((folder / "c.json").read_text())
    rows = {row.name: row for row in document.runtimes}
    assert document.exit_code == 2 and rows["tensorrt"].status == "not run" and rows["tensorrt"].fps is None
    assert rows["ort-cpu"].status == "passed" and rows["ort-cpu"].precision == "fp16"
    report = (bundle / "report.md").read_text()
    assert NOT_RUN in report and "## The engines" in report and "`play.engine`" in report

    ran = run("check", bundle, "--runtime", "tensorrt", cwd=folder)
    assert ran.returncode == 2 and NOT_RUN in " ".join(ran.stdout.split())
    assert max(map(len, ran.stdout.splitlines())) <= 80


@pytest.mark.slow
@pytest.mark.skipif(gpu() is not None, reason="this machine has an NVIDIA card, which plays the engines")
def test_play_names_the_way_out_and_takes_it_when_told(made):
    folder, bundle, _ = made
    ran = run("play", bundle, "--actions", "1,2", "-o", "out.gif", cwd=folder)
    assert ran.returncode == 2 and len(ran.stderr.strip().splitlines()) == 1
    assert "no NVIDIA driver" in ran.stderr and "--fallback" in ran.stderr
    ran = run("play", bundle, "--actions", "1,2", "-o", "out.gif", "--fallback", cwd=folder)
    assert ran.returncode == 0 and "playing the same bundle's ONNX on ort-cpu" in ran.stderr
    assert (folder / "out.gif").stat().st_size


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--cards", "rtx4090"], "did you mean rtx40"),
        (["--cards", "portable,rtx30"], "stands alone"),
        (["--cards", "this"], "no NVIDIA driver"),
        (["--flavor", "standard"], "--flavor standard builds only for the GPU"),
    ],
)
@pytest.mark.skipif(gpu() is not None, reason="this machine has an NVIDIA card")
def test_a_choice_that_cannot_be_built_is_one_line_before_anything_is_written(
    arguments, said, tiny_checkpoint, tmp_path
):
    ran = run("export", tiny_checkpoint, "--target", "tensorrt", *arguments, cwd=tmp_path)
    assert ran.returncode == 2 and said in ran.stderr and len(ran.stderr.strip().splitlines()) == 1
    assert not (tmp_path / "dist").exists()
