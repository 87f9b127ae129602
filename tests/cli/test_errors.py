"""What goes wrong before or around a command is one line and exit code 2."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest


def run(*arguments: object, cwd: Path, **environment: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "pocketgenie", *map(str, arguments)],
        capture_output=True,
        text=True,
        cwd=cwd,
        env=os.environ | environment,
    )


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["export", "nowhere"], "nowhere is no checkpoint"),
        (["evaluate", "nowhere", "--clips", "none.npz"], "nowhere is no checkpoint"),
        (["train", "lam", "--clips", "none.npz", "-o", "out", "--steps", "1"], "no file none.npz"),
        (["train", "lam", "--clips", "none.npz", "-o", "out", "--steps", "1", "--config", "huge"], "coinrun"),
        (["check", "nowhere"], "no bundle"),
        (["play", "nowhere", "--actions", "1", "-o", "out.gif"], "no bundle"),
        (["clips", "nowhere", "-o", "out.npz"], "nowhere"),
    ],
)
def test_one_line_and_exit_code_2(arguments, said, tmp_path):
    ran = run(*arguments, cwd=tmp_path)
    assert ran.returncode == 2, ran.stdout + ran.stderr
    assert said in ran.stderr and ran.stderr.startswith("error: ")
    assert len(ran.stderr.strip().splitlines()) == 1 and "Traceback" not in ran.stderr
    assert not (tmp_path / "out").exists() and not list(tmp_path.glob("out.*"))


def test_debug_shows_the_traceback(tmp_path):
    ran = run("--debug", "export", "nowhere", cwd=tmp_path)
    assert ran.returncode == 2 and "Traceback" in ran.stderr


@pytest.mark.parametrize(("module", "extra"), [("torch", "export"), ("accelerate", "train")])
def test_a_missing_library_is_named_with_its_extra(module, extra, tmp_path):
    (tmp_path / "sitecustomize.py").write_text(f"import sys\nsys.modules['{module}'] = None\n")
    command = (
        ["evaluate", "x", "--clips", "y"]
        if module == "torch"
        else ["train", "lam", "--clips", "y", "-o", "z"]
    )
    ran = run(
        *command, *(["--steps", "1"] if module != "torch" else []), cwd=tmp_path, PYTHONPATH=str(tmp_path)
    )
    assert ran.returncode == 2, ran.stderr
    assert f"{module}" in ran.stderr and f"pocketgenie[{extra}]" in ran.stderr


def test_an_exported_world_evaluates_to_json(tiny_checkpoint, tmp_path):
    out = tmp_path / "figures.json"
    ran = run(
        "evaluate", tiny_checkpoint, "--clips", tiny_checkpoint / "clips.npz", "--json", out, cwd=tmp_path
    )
    assert ran.returncode == 0, ran.stderr
    assert '"next_frame_psnr_db"' in out.read_text() and "recon_psnr_db" in ran.stdout
