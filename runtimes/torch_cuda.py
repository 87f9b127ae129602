"""Runtimes `cuda-eager`, `cuda-compiled` and `cuda-graph`: PyTorch on a GPU, memory kept on the device.

`cuda-graph` is the strongest of them: the step written for a GPU (torch_step), compiled, and a whole frame
(all refinement passes and the decoder) captured in one CUDA graph. Without the capture, all of it runs on the
CPU as well.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from importlib.util import find_spec
from typing import Any, Literal

import torch
from torch import Tensor, nn

from pocketgenie.errors import UserError
from pocketgenie.export.bundle import Bundle
from pocketgenie.genie.checkpoint import Genie
from pocketgenie.genie.config import GenieConfig
from pocketgenie.genie.contract import World
from pocketgenie.genie.graphs import GenieWorld
from pocketgenie.genie.quantizer import Quantizer
from pocketgenie.runtimes.fp8 import check_card, use_float8
from pocketgenie.runtimes.reference import Forward, reference_world
from pocketgenie.runtimes.session import GraphSession
from pocketgenie.runtimes.torch_backend import TorchDeviceBackend, place
from pocketgenie.runtimes.torch_step import FrameDynamics, with_frame_steps

Runtime = Literal["cuda-eager", "cuda-compiled", "cuda-graph"]
Compiled = Literal["whole", "layers", "no"]
CARD = "cuda:0"
HOT = ("play", "logits", "decode")
"""What is compiled: the graph of every frame, the one that L1 looks at, and a stage that is timed apart."""
DEEP = 60
"""Layers of a frame, all passes counted: beyond, one program for all of them takes too long to compile."""
TUNED: dict[str, str | int | bool | Callable[..., Any]] = {
    "max_autotune": True,
    "coordinate_descent_tuning": True,
}
"""Inductor times its matrix kernels against cuBLAS, and reads the memory in fused reductions instead of
thousands of one-row matrix products."""
WARM_UP = 3  # runs before a capture: compiling, autotuning, cuBLAS's workspace


class Captured:
    """A module on a GPU as a CUDA graph, captured at its first call for the addresses of those inputs.

    A world's graphs share one pool: the outputs of one last until another runs, and by then its tokens and
    frame are with the host and its entry is in the ring.
    """

    def __init__(self, forward: Forward, device: torch.device, pool: Any) -> None:
        self.forward, self.device, self.pool = forward, device, pool
        self.addresses: tuple[int, ...] = ()
        self.graph: torch.cuda.CUDAGraph | None = None
        self.outputs: tuple[Tensor, ...] = ()

    def __call__(self, *inputs: Tensor) -> tuple[Tensor, ...]:
        addresses = tuple(tensor.data_ptr() for tensor in inputs)
        if self.graph is None or addresses != self.addresses:
            self.graph = self._capture(inputs)
            self.addresses = addresses
        self.graph.replay()
        return self.outputs

    def _capture(self, inputs: tuple[Tensor, ...]) -> torch.cuda.CUDAGraph:
        with torch.cuda.device(self.device):
            aside = torch.cuda.Stream()
            aside.wait_stream(torch.cuda.current_stream())
            with torch.cuda.stream(aside):
                for _ in range(WARM_UP):
                    self.forward(*inputs)
            torch.cuda.current_stream().wait_stream(aside)
            graph = torch.cuda.CUDAGraph()
            with torch.cuda.graph(graph, pool=self.pool, capture_error_mode="thread_local"):
                self.outputs = self.forward(*inputs)
        return graph


def open_world(
    world: World,
    runtime: Runtime,
    *,
    device: torch.device | str = CARD,
    dtype: torch.dtype = torch.float32,
    compiled: Compiled | None = None,
    float8: bool = False,
) -> GraphSession:
    """Play a world, whose weights are converted in place and shared by all who play it. Raises UserError.

    compiled: how `cuda-graph` is compiled before its capture. `whole`: one program per graph, the fastest;
    `layers`: one program per kind of layer, shared by all layers and passes; `no`: not at all; None: `whole`
    unless the world is DEEP. float8: the dynamics' products in float8, a copy of its own, in any runtime.
    """
    where, graphs = torch.device(device), world.graphs()
    for graph in graphs.values():
        place(graph.module, where, dtype)
    passes = world.spec.memories["dynamics"].entry[0] * (world.spec.steps + 1)
    if where.type == "cuda" and find_spec("triton") is None:
        compiled = "no"  # Inductor has nothing to write kernels in (torch for Windows)
    compiled = compiled or ("layers" if passes > DEEP else "whole")
    if runtime == "cuda-graph" or float8:
        by_layer = runtime == "cuda-graph" and compiled == "layers"
        graphs = with_frame_steps(graphs, lambda layer: _tuned(layer, where) if by_layer else layer)
    if float8:
        check_card(where)
        for part in {part for graph in graphs.values() for part in graph.module.modules()}:
            if isinstance(part, FrameDynamics):
                use_float8(part)
    pool = torch.cuda.graph_pool_handle() if where.type == "cuda" else None

    def wrap(name: str, module: nn.Module) -> Forward:
        if runtime == "cuda-eager":
            return module
        if runtime == "cuda-compiled":
            return _reduce_overhead(module) if name in HOT else module
        forward: Forward = _tuned(module, where) if compiled == "whole" and name in HOT else module
        return Captured(forward, where, pool) if pool else forward

    return GraphSession(world.spec, TorchDeviceBackend(graphs, where, dtype, wrap))


def _tuned(module: nn.Module, device: torch.device) -> Callable[..., Any]:
    """Compiled as well as Inductor can, to be captured from outside; for the CPU, a trial, just compiled."""
    options = TUNED if device.type == "cuda" else {}
    return torch.compile(module, dynamic=False, fullgraph=True, options=options)


def _reduce_overhead(module: nn.Module) -> Forward:
    """What a good user writes: at batch 1 launches bind, so with Inductor's own CUDA graphs."""
    compiled = torch.compile(module, dynamic=False, fullgraph=True, mode="reduce-overhead")

    def forward(*inputs: Tensor) -> tuple[Tensor, ...]:
        torch.compiler.cudagraph_mark_step_begin()  # the last run's outputs are in the ring and may go
        drawn: tuple[Tensor, ...] = compiled(*inputs)
        return drawn

    return forward


@contextmanager
def _made_as(device: torch.device, dtype: torch.dtype) -> Iterator[None]:
    """New tensors are made on `device`, floating ones of `dtype`."""
    before = torch.get_default_dtype()
    torch.set_default_dtype(dtype)
    try:
        with device:
            yield
    finally:
        torch.set_default_dtype(before)


def random_world(
    config: GenieConfig, device: torch.device | str, dtype: torch.dtype, seed: int = 0
) -> GenieWorld:
    """A world of any size with random weights, made where it will be played: no other copy ever exists.

    Fresh worlds begin as the identity and say the same everywhere; here every product keeps its input's
    size, each layer adds its share, and logits spread by about 1. On `meta` it only has shapes.
    """
    where = torch.device(device)
    torch.manual_seed(seed)
    with _made_as(where, dtype), torch.no_grad():
        genie = Genie(config).eval().requires_grad_(False)
        layers = config.dynamics.transformer.layers
        for name, weight in genie.named_parameters():
            if name.endswith(("out.weight", "ffn.3.weight")):
                weight.normal_(std=(3 * layers * weight.shape[1]) ** -0.5)
            elif name.endswith(("age_bias", "bias_table")):
                weight.normal_(std=0.3)
            elif name.endswith("code_out"):
                weight.normal_(std=weight.shape[1] ** -0.5)
    for part in genie.modules():
        if isinstance(part, Quantizer):
            part.float()
    return GenieWorld(genie)


def load_eager(bundle: Bundle) -> GraphSession:
    return _load(bundle, "cuda-eager")


def load_compiled(bundle: Bundle) -> GraphSession:
    return _load(bundle, "cuda-compiled")


def load_graph(bundle: Bundle) -> GraphSession:
    return _load(bundle, "cuda-graph")


def _load(bundle: Bundle, runtime: Runtime) -> GraphSession:
    probe()
    return open_world(reference_world(bundle), runtime)


def probe() -> str:
    """The card, by name. Raises UserError where there is none."""
    if torch.version.cuda is None:
        raise UserError(
            f"torch {torch.__version__} is a build without CUDA; on a machine with an NVIDIA card: "
            "pip install --force-reinstall torch (Windows: the CUDA command from pytorch.org/get-started)"
        )
    if not torch.cuda.is_available():
        raise UserError("torch sees no NVIDIA driver or card; install the driver, or play it with ort-cpu")
    major, minor = torch.cuda.get_device_capability()
    name = torch.cuda.get_device_name()
    return (
        f"torch {torch.__version__}, CUDA {torch.version.cuda}, {name} (compute capability {major}.{minor})"
    )
