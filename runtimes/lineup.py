"""Which runtimes take part in `check` and `bench`, and how much is measured."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from pocketgenie.errors import UserError
from pocketgenie.export.bundle import Bundle
from pocketgenie.runtimes import machine
from pocketgenie.runtimes.doctor import examine
from pocketgenie.runtimes.results import Settings
from pocketgenie.runtimes.table import RUNTIMES, SOFTWARE, own_runtime


@dataclass(frozen=True, kw_only=True)
class Options:
    """How much is measured."""

    frames: int = 64
    """Of each roll-out of L3."""
    rollouts: int = 4
    rounds: int = 7
    frames_per_round: int = 128
    clips: int = 32
    """At most so many held-out clips, evenly over those of the bundle."""
    seed: int = 0
    min_fps: float = 0.0
    """A runtime whose verdict counts falls short below it."""
    quality: bool = False
    """Judge by the teacher too (of several bundles the first): minutes."""
    bars: bool = False
    """`bench` prints the project's bars for the first bundle."""
    long: tuple[int, int] = (1000, 8)
    """Frames and number of the bars' long roll-outs."""

    def settings(self) -> dict[str, Any]:
        """What a document says of them."""
        return {name: value for name, value in vars(self).items() if name in Settings.model_fields}


@dataclass(frozen=True, kw_only=True)
class Entrants:
    """Which runtimes take part."""

    run: list[str]
    missing: dict[str, str]
    """Runtime -> what it lacks on this machine."""
    wanted: list[str]
    """Those whose verdict is the exit code's."""


def choose(bundle: Bundle, asked: Sequence[str]) -> Entrants:
    """The runtimes asked for, or all that fit the bundle. Raises UserError for one that does not fit.

    Without a GPU, runtimes that need one take part only when asked for, or as the target's own; WebGPU on a
    software adapter likewise.
    """
    target = bundle.manifest.target
    own = own_runtime(target)
    fit = [row.name for row in RUNTIMES.values() if target in row.targets and row.name != "reference"]
    for name in asked:
        if name not in fit:
            raise UserError(f"a {target} bundle is not measured in {name!r}; choose of: {', '.join(fit)}")
    gpu = machine.gpu() is not None
    here = [name for name in fit if gpu or RUNTIMES[name].device != "cuda" or name == own]
    names = list(dict.fromkeys(asked)) or sorted(here, key=lambda name: name != own)
    tried = {name: examine(RUNTIMES[name]) for name in names}
    missing = {name: f"{found.detail}; {found.mend}" for name, found in tried.items() if not found.works}
    slow = [name for name in names if name not in asked and SOFTWARE in tried[name].detail]
    missing |= {name: f"{tried[name].detail}; --runtime {name} plays a few frames" for name in slow}
    if bundle.manifest.engines and own in missing:
        missing[own] = f"built, not run: {missing[own]}"
    run = [name for name in names if name not in missing]
    # By default a rival that cannot run here is listed, but spoils nothing: the bundle is not at fault.
    rows = [RUNTIMES[name] for name in run]
    of_graphs = [row.name for row in rows if row.plays == "graphs"]
    return Entrants(run=run, missing=missing, wanted=list(asked) or list(dict.fromkeys((own, *of_graphs))))


def precision_of(bundle: Bundle, runtime: str) -> str:
    """What a runtime computes in: the bundle's precision, or the float32 of its checkpoint."""
    return "fp32" if RUNTIMES[runtime].plays == "checkpoint" else bundle.manifest.precision
