"""ONNX graphs become TensorRT engines: by TensorRT for RTX, which needs no GPU, or by the datacentre's
TensorRT, which builds for the GPU of its own machine. One code path for both.

Networks are strongly typed: precision is what the ONNX graph says, and float32 is float32 (no TF32). Engine
files are plain; cards and versions go into the manifest.
"""

from __future__ import annotations

import gc
import os
import re
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from importlib import import_module
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, Final

import onnx

from pocketgenie.errors import UserError
from pocketgenie.export.cards import INSTALL, LIBRARIES, Card
from pocketgenie.export.lint import lint
from pocketgenie.export.manifest import Engine, Engines, Flavor
from pocketgenie.export.turing import turing_form
from pocketgenie.runtimes.machine import gpu
from pocketgenie.runtimes.tensorrt import error_logger

NAMED: Final = "--flavor rtx with a card by its name, like --cards rtx40, needs none"
TURING: Final = "7.5"
LONGEST: Final = 300
"""Characters of the library's own words in an error."""


def build_engines(
    folder: Path,
    files: Mapping[str, str],
    cards: Sequence[Card],
    flavor: Flavor,
    report: Callable[[str], None],
) -> Engines:
    """Write an engine GRAPH.engine into `folder` for each of `files` {graph: ONNX file}, for all `cards`.

    `report` is told what is being done. Raises UserError where the library, or a GPU that it needs, is
    missing, and for a node that cannot be built.
    """
    capabilities = check_builder(cards, flavor)
    sdk, graphs = _sdk(flavor), {}
    with TemporaryDirectory(dir=folder) as scratch:
        sources = {name: folder / file for name, file in files.items()}
        if flavor == "rtx" and TURING in capabilities:
            sources = {name: turing_form(path, Path(scratch)) for name, path in sources.items()}
        for name, source in sources.items():
            _refuse(name, source, capabilities)
        for name, source in sources.items():
            report(f"building the engine {name}")
            started = time.perf_counter()
            _build(sdk, name, source, folder / f"{name}.engine", cards if flavor == "rtx" else ())
            seconds = round(time.perf_counter() - started, 2)
            graphs[name] = Engine(file=f"{name}.engine", build_seconds=seconds)
    return Engines(
        flavor=flavor,
        library=engine_library(flavor),
        cards=tuple(card.name for card in cards),
        capabilities=capabilities,
        graphs=graphs,
    )


def check_builder(cards: Sequence[Card], flavor: Flavor) -> tuple[str, ...]:
    """The compute capabilities of `cards`, none for `portable`. Raises UserError where no engine can be built
    for them: to be asked before anything takes time."""
    if flavor == "standard":
        found = _capability_here("--flavor standard builds only for the GPU of its own machine")
        if any(not card.needs_gpu for card in cards):
            raise UserError("--flavor standard builds only for the GPU of this machine; add --cards this")
    elif any(card.needs_gpu for card in cards):
        found = _capability_here("--cards this builds for the GPU of this machine")
    else:
        found = ""
    _sdk(flavor)
    return (found,) if found else tuple(card.capability for card in cards if card.capability)


def engine_library(flavor: Flavor) -> str:
    """What builds and loads engines here, like "tensorrt-rtx 1.7.1.116". Raises UserError without it."""
    return f"{LIBRARIES[flavor].replace('_', '-')} {_sdk(flavor).__version__}"


def _sdk(flavor: Flavor) -> Any:
    try:
        return import_module(LIBRARIES[flavor])
    except ModuleNotFoundError:
        raise UserError(f"{LIBRARIES[flavor]} is not installed; {INSTALL[flavor]}") from None
    except (ImportError, OSError) as error:
        raise UserError(f"{LIBRARIES[flavor]} does not load ({error}); {INSTALL[flavor]} again") from None


def _capability_here(why: str) -> str:
    """Compute capability of this machine's first GPU. Raises UserError without one."""
    if (card := gpu()) is None:
        raise UserError(f"{why}: no NVIDIA driver or GPU; {NAMED}")
    return card.capability


def _refuse(graph: str, path: Path, capabilities: Sequence[str]) -> None:
    """Raise UserError for a graph with nodes that the library refuses or gets wrong."""
    if findings := lint(onnx.load(path, load_external_data=False), capabilities):
        more = f" (and {len(findings) - 1} more in this graph)" if len(findings) > 1 else ""
        raise UserError(f"the graph {graph} cannot become an engine: {findings[0]}{more}")


def _build(sdk: Any, graph: str, source: Path, target: Path, cards: Sequence[Card]) -> None:
    """Parse, build and write one engine, in a thread of its own: the library swallows a Ctrl-C that reaches
    Python while it calls back. It stops where it reports progress, at the latest at the end of this graph."""
    monitor = _monitor(sdk)
    with ThreadPoolExecutor(1) as pool:
        try:
            pool.submit(_build_here, sdk, graph, source, target, cards, monitor).result()
        except KeyboardInterrupt:
            monitor.stopped = True
            raise


def _build_here(
    sdk: Any, graph: str, source: Path, target: Path, cards: Sequence[Card], monitor: Any
) -> None:
    said: list[str] = []
    with _stderr_closed(), _nothing_collected():
        builder = sdk.Builder(error_logger(sdk, said))
        network = builder.create_network(_flags(sdk))
        parser = sdk.OnnxParser(network, builder.logger)
        if not parser.parse_from_file(str(source)):
            raise _refused(graph, [_described(parser.get_error(i)) for i in range(parser.num_errors)])
        config = builder.create_builder_config()
        config.clear_flag(sdk.BuilderFlag.TF32)
        config.progress_monitor = monitor
        targets = [getattr(sdk.ComputeCapability, card.sdk) for card in cards if card.sdk]
        if targets:
            config.num_compute_capabilities = len(targets)
        for place, capability in enumerate(targets):
            config.set_compute_capability(capability, place)
        plan = builder.build_serialized_network(network, config)
    if plan is None:
        raise _refused(graph, said)
    with target.open("wb") as file:
        file.write(plan)


def _flags(sdk: Any) -> int:
    """Strongly typed, where the library still leaves the choice."""
    flag = getattr(sdk.NetworkDefinitionCreationFlag, "STRONGLY_TYPED", None)
    return 0 if flag is None else 1 << int(flag)


def _monitor(sdk: Any) -> Any:
    """Stops a build once its `stopped` is true."""

    class Monitor(sdk.IProgressMonitor):  # type: ignore[misc]
        def __init__(self) -> None:
            sdk.IProgressMonitor.__init__(self)
            self.stopped = False

        def phase_start(self, *_: object) -> None: ...
        def phase_finish(self, *_: object) -> None: ...
        def step_complete(self, *_: object) -> bool:
            return not self.stopped

    return Monitor()


def _described(error: Any) -> str:
    return f"{error.node_operator()} node {error.node_name()!r}: {error.desc()}"


def _refused(graph: str, said: Sequence[str]) -> UserError:
    """The first of the library's own words, on one line, without the places in its sources."""
    words = " ".join(said[0].split()) if said else "no reason given"
    words = re.sub(
        r"^.*?Error Code \d+: |^Assertion failed: | In \w+ at /_src/\S+|\[\w+\.\w+:\S+ \w+\] ", "", words
    )
    return UserError(
        f"TensorRT cannot build {graph}: {words[:LONGEST]}; change that node, or take --target onnx"
    )


@contextmanager
def _nothing_collected() -> Iterator[None]:
    """The library calls back into Python while it holds a lock that freeing another builder takes as well. A
    collection of garbage in there, with the builder of an earlier error in it, would wait for itself."""
    collecting = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if collecting:
            gc.enable()


@contextmanager
def _stderr_closed() -> Iterator[None]:
    """The library writes to the file descriptor beside its logger; what matters comes by the logger too."""
    sys.stderr.flush()
    kept, nowhere = os.dup(2), os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, 2)
    try:
        yield
    finally:
        os.dup2(kept, 2)
        os.close(kept)
        os.close(nowhere)
