"""Bring your own: a package of a user's own goes through export, check and play, untouched by our code."""

import json
import os
import subprocess
import sys
import tomllib
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

pytestmark = [pytest.mark.slow, pytest.mark.timeout(900)]  # each starts the command afresh, several times
EXAMPLE = Path(__file__).parents[2] / "examples" / "bring_your_own"


@pytest.fixture(scope="module")
def installed(tmp_path_factory):
    """A folder with the example's module and what pip would write of its entry points; its environment."""
    site = tmp_path_factory.mktemp("site")
    (site / "drift_world.py").write_text((EXAMPLE / "drift_world.py").read_text())
    project = tomllib.loads((EXAMPLE / "pyproject.toml").read_text())["project"]
    lines = []
    for group, points in project["entry-points"].items():
        lines += [f"[{group}]", *(f"{name} = {value}" for name, value in points.items())]
    about = site / f"{project['name'].replace('-', '_')}-{project['version']}.dist-info"
    about.mkdir()
    (about / "entry_points.txt").write_text("\n".join(lines) + "\n")
    (about / "METADATA").write_text(f"Name: {project['name']}\nVersion: {project['version']}\n")
    return {**os.environ, "PYTHONPATH": str(site), "COLUMNS": "200"}


@pytest.fixture(scope="module")
def checkpoint(installed, tmp_path_factory):
    folder = tmp_path_factory.mktemp("checkpoint") / "drift"
    run([EXAMPLE / "make_checkpoint.py", folder], installed)
    return folder


@pytest.fixture(scope="module")
def bundle(checkpoint, installed, tmp_path_factory):
    folder = tmp_path_factory.mktemp("bundle") / "drift"
    pocketgenie("export", checkpoint, "--precision", "fp32", "-o", folder, env=installed)
    return folder


def run(arguments, env, code=0):
    line = [sys.executable, *map(str, arguments)]
    done = subprocess.run(line, capture_output=True, text=True, env=env)
    assert done.returncode == code, done.stdout + done.stderr
    return done


def pocketgenie(*arguments, env, code=0):
    return run(["-m", "pocketgenie", *arguments], env, code)


def test_check_holds_it_against_its_own_passes(bundle, installed, tmp_path):
    document = tmp_path / "check.json"
    arguments = "--runtime", "ort-cpu", "--frames", "24", "--no-report", "--json", document
    said = pocketgenie("check", bundle, *arguments, env=installed).stdout
    found = json.loads(document.read_text())
    (row,) = found["runtimes"]
    assert row["status"] == "passed" and not row["parity"]["artefact"]["problems"]
    assert row["parity"]["frame"]["token_match"] == 1 and row["parity"]["rollout"]["margin"] in (None, 0)
    assert "delta_psnr_db" not in row["parity"]["world"]
    assert row["reasons"] == [
        "controllability: this world has no action model to name the actions of a video"
    ]
    assert found["reference"]["paper_way_of"] == "project" and row["fps"]["ratio_paper_way"] > 0
    assert "project's way" in said and "paper's way" not in said


def test_it_learns_to_play_in_fewer_steps(checkpoint, installed, tmp_path):
    student = tmp_path / "student"
    arguments = ["--clips", checkpoint / "clips.npz", "-o", student, "--updates", 2, "--batch", 2]
    pocketgenie("distill", "steps", checkpoint, "--steps", 1, *arguments, env=installed)
    world = json.loads((student / "world.json").read_text())
    assert world["config"]["steps"] == 1
    assert world["lineage"]["recipe"]["steps"].startswith("2 to 1 steps, from frames, remask")
    assert (student / "world.safetensors").read_bytes() != (checkpoint / "world.safetensors").read_bytes()


def test_it_plays_into_a_gif(bundle, installed, tmp_path):
    out = tmp_path / "out.gif"
    pocketgenie("play", bundle, "--actions", "1,2x4,4", "-o", out, env=installed)
    with Image.open(out) as film:
        assert getattr(film, "n_frames", 1) >= 2
        assert np.array(film.convert("RGB")).std() > 0


def test_playing_needs_the_bundle_and_no_package(bundle, tmp_path):
    out = tmp_path / "out.gif"
    pocketgenie("play", bundle, "--actions", "1", "-o", out, env=dict(os.environ))
    assert out.exists()


def test_without_the_package_its_kind_is_unknown(checkpoint, tmp_path):
    said = pocketgenie("export", checkpoint, "-o", tmp_path / "out", env=dict(os.environ), code=2).stderr
    assert said.startswith("error: no kind of world 'drift'") and len(said.splitlines()) == 1
