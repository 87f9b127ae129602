"""`check` and `bench` as a user runs them: exit codes, the files they leave, one line for what is wrong."""

import json
import os
import shutil
import subprocess
import sys

import pytest

from pocketgenie.export.bundle import load_bundle
from pocketgenie.runtimes.results import BenchDocument, CheckDocument, ParityDocument


def run(*arguments, **environment):
    return subprocess.run(
        [sys.executable, "-m", "pocketgenie", *map(str, arguments)],
        capture_output=True,
        text=True,
        env=os.environ | {"COLUMNS": "80"} | environment,
    )


@pytest.fixture
def bundle(tiny_bundle, tmp_path):
    return shutil.copytree(tiny_bundle, tmp_path / "tiny")


@pytest.mark.slow
def test_a_sound_bundle_passes_and_gets_its_report(bundle, tmp_path):
    ran = run("check", bundle, "--runtime", "ort-cpu", "--frames", 16, "--json", tmp_path / "check.json")
    assert ran.returncode == 0, ran.stdout + ran.stderr
    assert max(map(len, ran.stdout.splitlines())) <= 80
    assert "passed" in ran.stdout and "16 of 16" in ran.stdout
    document = CheckDocument.model_validate_json((tmp_path / "check.json").read_text())
    assert document.exit_code == 0
    (row,) = json.loads((tmp_path / "check.json").read_text())["runtimes"]
    assert row["status"] == "passed" and row["fps"]["ratio_paper_way"] > 1
    assert row["parity"]["rollout"]["frames"] == 16 and row["parity"]["pass"]["top1"] == 1
    names = load_bundle(bundle).manifest.files  # verified: every hash was amended
    assert {"parity.json", "bench.json", "report.md", "report.html", "rollout.gif"} <= names.keys()
    ParityDocument.model_validate_json((bundle / "parity.json").read_text())
    BenchDocument.model_validate_json((bundle / "bench.json").read_text())


@pytest.mark.slow
def test_another_world_falls_short_and_no_report_leaves_the_bundle_alone(faulty_bundle, tmp_path):
    bundle = shutil.copytree(faulty_bundle, tmp_path / "tiny")
    before = (bundle / "manifest.json").read_bytes()
    ran = run("check", bundle, "--runtime", "ort-cpu", "--frames", 8, "--no-report", "--min-fps", 1e9)
    assert ran.returncode == 1, ran.stdout + ran.stderr
    assert "falls short" in ran.stdout and "L1 pass: max abs" in ran.stdout
    assert "fps is below 1e+09" in " ".join(ran.stdout.split())
    assert (bundle / "manifest.json").read_bytes() == before and not (bundle / "parity.json").exists()


@pytest.mark.slow
def test_bench_times_a_bundle_that_has_no_reference(bundle, tmp_path):
    from pocketgenie.export.bundle import seal
    from pocketgenie.export.manifest import Draft

    manifest = load_bundle(bundle).manifest
    shutil.rmtree(bundle / "reference")
    draft = {name: getattr(manifest, name) for name in Draft.model_fields} | {"reference": None}
    seal(bundle, Draft(**draft))
    ran = run("bench", bundle, "--runtime", "ort-cpu", "--json", tmp_path / "bench.json")
    assert ran.returncode == 0, ran.stdout + ran.stderr
    (document,) = json.loads((tmp_path / "bench.json").read_text())
    read = BenchDocument.model_validate(document)
    (row,) = document["runtimes"]
    assert row["fps"]["median"] > 0 and row["fps"]["ratio_cached"] is None
    assert read.reference.fps_cached is None and "without its reference" in read.reference.reasons[0]
    ran = run("check", bundle)
    assert ran.returncode == 2 and "without --no-reference" in ran.stderr


def spoil(bundle):
    with open(bundle / "weights.bin", "r+b") as file:
        file.seek(100)
        file.write(b"\x7f")


@pytest.mark.parametrize(
    ("arguments", "said", "spoils"),
    [
        (["--runtime", "ort-quantum"], "ort-quantum", None),
        (["--runtime", "reference"], "reference", None),
        ([], "altered", spoil),
        ([], "no bundle", lambda bundle: (bundle / "manifest.json").unlink()),
    ],
    ids=["unknown runtime", "the reference itself", "a flipped byte", "no manifest"],
)
@pytest.mark.parametrize("command", ["check", "bench"])
def test_what_cannot_run_is_one_line_and_exit_code_2(bundle, command, arguments, said, spoils):
    if spoils:
        spoils(bundle)
    ran = run(command, bundle, *arguments)
    assert ran.returncode == 2
    assert said in ran.stderr and "Traceback" not in ran.stderr
    assert len(ran.stderr.strip().splitlines()) == 1
