"""`make gpu-check` as a person runs it: on a machine with torch alone, on a full one, where it cannot run."""

import json
import os
import runpy
import subprocess
import sys
from pathlib import Path

import pytest

from pocketgenie.genie.config import load_config, shipped_configs

ROOT = Path(__file__).parent.parent.parent
SCRIPT = ROOT / "scripts" / "gpu_check.py"
HIDDEN = (
    *("pydantic", "pydantic_core", "rich", "typer", "psutil", "PIL", "textual", "accelerate"),
    *("onnx", "onnxruntime", "onnxscript", "matplotlib", "safetensors", "tensorrt_rtx"),
)


def run(*arguments, hidden=(), tmp_path, **environment):
    """The command in a process of its own; every python below it finds nothing of `hidden`."""
    (tmp_path / "sitecustomize.py").write_text(
        f"import sys\nfor name in {hidden!r}: sys.modules[name] = None\n"
    )
    env = os.environ | {"PYTHONPATH": str(tmp_path), "OMP_NUM_THREADS": "1"} | environment
    command = [sys.executable, str(SCRIPT), *arguments]
    return subprocess.run(command, capture_output=True, text=True, env=env, cwd=tmp_path)


def quick(tmp_path, *arguments, hidden=()):
    """A trial -> its document. Nothing is compiled: that takes minutes, and tests of the players do it."""
    out = tmp_path / "out"
    done = run(
        *("--device", "cpu", "--quick", "--out", str(out), *arguments),
        hidden=hidden,
        tmp_path=tmp_path,
        TORCHDYNAMO_DISABLE="1",
    )
    assert done.returncode == 0, done.stderr
    assert sorted(path.name for path in out.iterdir()) == ["gpu-check.json", "gpu-check.svg", "gpu-check.txt"]
    assert (out / "gpu-check.txt").read_text() in done.stdout
    assert max(map(len, (out / "gpu-check.txt").read_text().splitlines())) <= 80
    return json.loads((out / "gpu-check.json").read_text(), parse_constant=pytest.fail)


@pytest.mark.slow
def test_a_machine_with_torch_and_numpy_alone_measures_all_but_the_bundles(tmp_path):
    found = quick(tmp_path, hidden=HIDDEN)
    assert found["finished"] and found["device"]["kind"] == "cpu"
    rows = {(row["world"], row["steps"], row["dtype"], row["player"]): row for row in found["cases"]}
    assert {row["player"] for row in rows.values() if row["speed"]} == {
        *("cuda-eager", "cuda-compiled", "cuda-graph", "paper-way")
    }
    assert rows["paper_10b", 2, "float8", "cuda-graph"]["status"] == "measured"
    for row in rows.values():
        if row["player"] == "ort-cpu":
            assert row["status"] == "not run" and row["reason"].startswith(
                "pydantic and others are not installed"
            )
    assert [row["status"] for row in found["parity"]] == ["not run", "not run"]
    assert all("pip install" in row["reason"] for row in found["parity"])
    assert {goal["status"] for goal in found["goals"]} == {"not run"}


@pytest.mark.slow
def test_exported_graphs_take_part_where_their_libraries_are(tmp_path):
    found = quick(tmp_path, "--worlds", "coinrun", "--part", "speed")
    exported = [row for row in found["cases"] if row["player"] == "ort-cpu"]
    assert exported and all(row["status"] == "measured" and row["stages_ms"] for row in exported), exported
    assert found["parity"] == []


@pytest.mark.slow
def test_the_trained_world_is_checked_and_what_lacks_is_named(tmp_path, tiny_checkpoint):
    checkpoint = ("--checkpoint", str(tiny_checkpoint))
    found = quick(tmp_path, "--part", "parity", *checkpoint, hidden=("tensorrt_rtx",))
    proven, engines = found["parity"]
    assert proven["status"] == "measured", proven["reason"]
    assert [(row["name"], row["status"]) for row in proven["check"]["runtimes"]] == [("ort-cpu", "passed")]
    assert engines["status"] == "not run" and "tensorrt-rtx is not installed" in engines["reason"]
    assert found["cases"] == []


def test_no_driver_is_one_line_and_exit_code_2(tmp_path):
    if Path("/proc/driver/nvidia").exists():
        pytest.skip("there is an NVIDIA driver")
    done = run(tmp_path=tmp_path)
    assert done.returncode == 2 and done.stdout == ""
    assert done.stderr.count("\n") == 1
    assert "no NVIDIA driver" in done.stderr and "--device cpu --quick" in done.stderr


def test_no_torch_is_one_line_and_exit_code_2(tmp_path):
    done = run("--device", "cpu", "--quick", hidden=("torch",), tmp_path=tmp_path)
    assert done.returncode == 2 and done.stderr.count("\n") == 1 and "has no torch" in done.stderr


def test_help_teaches(tmp_path):
    done = run("--help", tmp_path=tmp_path)
    assert done.returncode == 0
    assert all(told in done.stdout for told in ("--minutes", "--device cpu --quick", "no network", "10.7B"))


def test_an_unknown_world_is_named(tmp_path):
    done = run("--worlds", "mars", tmp_path=tmp_path)
    assert done.returncode == 2 and "no world mars" in done.stderr


WORLDS_WITHOUT_PYDANTIC = """
import json, sys
sys.modules["pydantic"] = sys.modules["safetensors"] = None
sys.path[:0] = sys.argv[1:]
from stand_ins import fill_in
assert fill_in() == ("pydantic", "safetensors")
from pocketgenie.genie.config import load_config, shipped_configs
def told(config):
    spec = config.spec()
    return [config.model_dump(), spec.model_dump(), spec.tokens, spec.no_action, spec.frame_shape,
            config.tokenizer.quantizer.size, config.model_copy(update={"name": "twin"}).model_dump()]
print(json.dumps([told(load_config(name)) for name in shipped_configs()]))
from pocketgenie.genie.config import QuantizerConfig
for wrong in ({"kind": "vq"}, {"kind": "fsq", "levels": [4], "more": 1}):
    try:
        QuantizerConfig(**wrong)
    except ValueError:
        continue
    raise SystemExit(f"{wrong} was taken")
same = load_config("coinrun")
again = load_config("coinrun")
assert same == again != load_config("paper_10b") and hash(same) == hash(again)
try:
    same.name = "other"
except ValueError:
    pass
else:
    raise SystemExit("it is not frozen")
"""


def test_worlds_are_the_same_with_the_stand_ins():
    command = [sys.executable, "-c", WORLDS_WITHOUT_PYDANTIC, str(ROOT), str(ROOT / "scripts")]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr

    def told(config):
        spec = config.spec()
        twin = config.model_copy(update={"name": "twin"})
        sizes = [spec.tokens, spec.no_action, spec.frame_shape, config.tokenizer.quantizer.size]
        return [config.model_dump(), spec.model_dump(), *sizes, twin.model_dump()]

    real = [told(load_config(name)) for name in shipped_configs()]
    assert json.loads(done.stdout) == json.loads(json.dumps(real))


def test_nothing_stands_in_for_what_is_installed():
    fill_in = runpy.run_path(str(ROOT / "scripts" / "stand_ins.py"))["fill_in"]
    before = sys.modules["pydantic"]
    assert fill_in() == () and sys.modules["pydantic"] is before
