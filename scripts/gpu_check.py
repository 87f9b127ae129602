"""How fast this card plays three worlds, and how near that is to what the card can do.

    python3 scripts/gpu_check.py                        with an NVIDIA card: about 9 minutes
    python3 scripts/gpu_check.py --device cpu --quick   without: a trial of all but the card

It runs from the source tree and needs python 3.11 or later with torch and numpy; no network, nothing is
installed. What else is missing is skipped by name. It measures the card's limits (matrix rates, memory
bandwidth, launches, copies), then frames a second of the embedded world, of the paper's CoinRun world and
of its 10.7B world for N = 25, 4, 2 and 1 refinement steps in several players, what matters most first. Where
the project's other libraries are installed, it checks that every runtime plays the same world (L0 to L4).

After each case it writes the document, the table and the chart, so a run that is stopped loses nothing.
docs/gpu-check.md says how to read them.
"""

from __future__ import annotations

import argparse
import ctypes
import sys
import tempfile
from datetime import UTC, datetime
from importlib import metadata
from importlib.util import find_spec
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
for folder in (ROOT / "scripts", ROOT):  # the worker processes run these lines again
    if str(folder) not in sys.path:
        sys.path.insert(0, str(folder))

from stand_ins import fill_in  # noqa: E402

STOOD_IN = fill_in()

LIBRARIES = ("numpy", "torch", "onnx", "onnxruntime", "onnxruntime-gpu", "tensorrt-rtx", "pydantic", "triton")
TRIAL = "python3 scripts/gpu_check.py --device cpu --quick tries the command without a card"
WORLDS = ("coinrun", "paper_coinrun", "paper_10b")
QUICK = {"rounds": 2, "frames": 8, "turn_seconds": 0.2, "parity_frames": 4, "parity_clips": 2}
FULL = {"rounds": 5, "frames": 300, "turn_seconds": 1.0, "parity_frames": 64, "parity_clips": 8}


def main() -> int:
    """Exit code 0: it ran, whatever it found; 2: it could not begin."""
    options = _options()
    if why := _cannot_begin(options.device):
        print(f"error: {why}", file=sys.stderr)
        return 2

    from pocketgenie.runtimes.sweep import Sweep
    from pocketgenie.runtimes.sweep_chart import draw
    from pocketgenie.runtimes.sweep_contest import Settings
    from pocketgenie.runtimes.sweep_results import Document, to_json, write_whole
    from pocketgenie.runtimes.sweep_table import render

    amounts = QUICK if options.quick else FULL
    chosen = {
        "device": options.device,
        "quick": options.quick,
        "minutes": options.minutes,
        "worlds": tuple(options.worlds.split(",")) if options.worlds else WORLDS,
        "part": options.part,
        **amounts,
    }
    document = Document(
        created=datetime.now(UTC).isoformat(timespec="seconds"), settings=chosen, versions=_versions()
    )
    out = options.out
    out.mkdir(parents=True, exist_ok=True)

    def save() -> None:
        write_whole(out / "gpu-check.json", to_json(document))
        write_whole(out / "gpu-check.txt", render(document))
        write_whole(out / "gpu-check.svg", draw(document))

    def say(what: str) -> None:
        print(f"{sweep.left() / 60:4.1f} min left  {what}", file=sys.stderr, flush=True)

    with tempfile.TemporaryDirectory(prefix="pocketgenie-") as scratch:
        settings = Settings(checkpoint=options.checkpoint.resolve(), scratch=Path(scratch), **chosen)
        sweep = Sweep(settings, document, save, say)
        try:
            sweep.run()
        except KeyboardInterrupt:
            print("stopped; what was measured is kept", file=sys.stderr)
    print(render(document), end="")
    print(f"\n{out / 'gpu-check.json'}, .txt, .svg")
    return 0


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="gpu_check.py", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    add, checkpoint = parser.add_argument, ROOT / "assets/coinrun"
    add("--device", choices=("cuda", "cpu"), default="cuda", help="cpu: a trial of the command")
    add("--quick", action="store_true", help="small twins of the worlds and few frames")
    add("--minutes", type=float, default=9.0, help="begin nothing after so long (default: 9)")
    add("--worlds", default="", help=f"of {','.join(WORLDS)} (default: all)")
    add("--part", choices=("all", "speed", "parity"), default="all", help="what to measure (default: all)")
    add("--out", type=Path, default=Path("dist/gpu-check"), help="folder (default: dist/gpu-check)")
    add("--checkpoint", type=Path, default=checkpoint, help="trained world whose parity is checked")
    options = parser.parse_args()
    if unknown := set(filter(None, options.worlds.split(","))) - set(WORLDS):
        parser.error(f"no world {', '.join(sorted(unknown))}; there are {', '.join(WORLDS)}")
    if options.minutes <= 0:
        parser.error("--minutes must be above 0")
    return options


def _cannot_begin(device: str) -> str | None:
    """Why nothing can be measured, and the mend; None where it can."""
    lacking = [name for name in ("torch", "numpy") if find_spec(name) is None]
    if lacking:
        missing = " and ".join(lacking)
        return f"{sys.executable} has no {missing}; name a python that has: make gpu-check PYTHON=..."
    if device == "cpu":
        return None
    try:
        driver = ctypes.CDLL("nvcuda.dll" if sys.platform == "win32" else "libcuda.so.1")
    except OSError:
        return f"no NVIDIA driver here (libcuda is not there); {TRIAL}"
    if (code := driver.cuInit(0)) != 0:
        return f"no NVIDIA driver that works (cuInit gives {code}); {TRIAL}"
    import torch

    if torch.version.cuda is None:
        return f"torch {torch.__version__} is built without CUDA; install a CUDA build of torch. {TRIAL}"
    if not torch.cuda.is_available():
        built = f"torch {torch.__version__}, built for CUDA {torch.version.cuda},"
        return f"{built} finds no card that it can use; update the driver. {TRIAL}"
    return None


def _versions() -> dict[str, str]:
    found = {"python": sys.version.split()[0]}
    for name in LIBRARIES:
        try:
            found[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            continue
    return found


if __name__ == "__main__":
    sys.exit(main())
