"""Playing a bundle needs neither torch nor anything else that the base install leaves out."""

import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parent.parent

# Only the extras install these: importing one fails in the child, and its traceback says who asked.
ABSENT = ("accelerate", "av", "matplotlib", "onnx", "onnxscript", "safetensors", "tensorboard", "torch")

# The runtimes that are torch; every other module of runtimes/ plays without it.
TORCH_RUNTIMES = {
    *("reference", "compiled", "torch_cuda", "torch_step", "torch_backend", "fp8"),
    *("card_limits", "sweep_torch"),
}

PLAYS = [
    "pocketgenie",
    "pocketgenie.cli",
    "pocketgenie.errors",
    "pocketgenie.export.bundle",
    "pocketgenie.export.manifest",
    "pocketgenie.genie.noise",
    "pocketgenie.genie.spec",
    "pocketgenie.training.evaluation",
    *(
        f"pocketgenie.runtimes.{path.stem}"
        for path in sorted((ROOT / "runtimes").glob("*.py"))
        if path.stem not in TORCH_RUNTIMES | {"__init__"}
    ),
]

IMPORT_ALL = """
import importlib, sys
absent, names = (argument.split(",") for argument in sys.argv[1:])
for name in absent:
    sys.modules[name] = None
for name in names:
    importlib.import_module(name)
loaded = sorted(name for name in absent if sys.modules[name] is not None)
assert not loaded, f"loaded all the same: {loaded}"
print(len(names))
"""


def test_the_modules_that_play_import_without_the_extras():
    child = subprocess.run(
        [sys.executable, "-c", IMPORT_ALL, ",".join(ABSENT), ",".join(PLAYS)], capture_output=True, text=True
    )
    assert child.returncode == 0, child.stderr
    assert child.stdout.split() == [str(len(PLAYS))]
