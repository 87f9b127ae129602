"""A world's PyTorch modules on a device of choice, behind pinned memory for what the host sends and sees."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from pocketgenie.genie.contract import TORCH_DTYPES, GraphDef
from pocketgenie.genie.quantizer import Quantizer
from pocketgenie.genie.sampler import Sampler
from pocketgenie.genie.spec import MemorySpec, TensorSpec
from pocketgenie.runtimes.fp8 import Float8Linear
from pocketgenie.runtimes.reference import Forward
from pocketgenie.runtimes.session import Array

KEPT = (Sampler, Quantizer, Float8Linear)
"""Modules with dtypes of their own: noise, codes and scales stay float32 whatever the weights are."""
ALIGNED = 64  # bytes between the tensors of a transfer


class Transfer:
    """Host arrays of fixed shapes and their places on the device, a block each: one copy moves them all."""

    def __init__(self, specs: tuple[TensorSpec, ...], device: torch.device) -> None:
        sizes = [TORCH_DTYPES[spec.dtype].itemsize * int(np.prod(spec.shape)) for spec in specs]
        ends = np.cumsum([-(-size // ALIGNED) * ALIGNED for size in sizes], dtype=int).tolist()
        total = ends[-1] if ends else 0
        self.host_block = torch.zeros(total, dtype=torch.uint8, pin_memory=device.type == "cuda")
        self.device_block = torch.zeros(total, dtype=torch.uint8, device=device)
        self.host: dict[str, Tensor] = {}
        self.device: dict[str, Tensor] = {}
        for spec, size, begin in zip(specs, sizes, [0, *ends], strict=False):
            for block, places in ((self.host_block, self.host), (self.device_block, self.device)):
                part = block[begin : begin + size].view(TORCH_DTYPES[spec.dtype]).view(spec.shape)
                places[spec.name] = part
        self.arrays: dict[str, Array] = {name: part.numpy() for name, part in self.host.items()}

    def send(self, inputs: Mapping[str, Any]) -> None:
        """Copy host arrays in. The last transfer must be over: a run ends with a synchronisation."""
        for name, array in self.arrays.items():
            array[...] = inputs[name]
        self.device_block.copy_(self.host_block, non_blocking=True)


class TorchDeviceBackend:
    """Runs a world's modules on `device` at `dtype`, and takes the modules over: they are converted in place.

    Small inputs go through pinned memory to fixed places on the device, entries stay there, the outputs that
    a player looks at come back through pinned memory, and each run synchronises once. `wrap` may compile or
    capture a module.
    """

    def __init__(
        self,
        graphs: Mapping[str, GraphDef],
        device: torch.device | str,
        dtype: torch.dtype = torch.float32,
        wrap: Callable[[str, nn.Module], Forward] = lambda name, module: module,
    ) -> None:
        torch.set_float32_matmul_precision("highest")  # float32 is float32: no TensorFloat-32
        torch._dynamo.config.recompile_limit = 64  # one process may play a world at many N and dtypes
        self.graphs, self.device, self.dtype = graphs, torch.device(device), dtype
        for graph in graphs.values():
            place(graph.module, self.device, dtype)
        self.forwards = {name: wrap(name, graph.module) for name, graph in graphs.items()}
        self.transfers: dict[str, tuple[Transfer, Transfer]] = {}

    def memory(self, spec: MemorySpec) -> Tensor:
        """[W, *entry] of `dtype`, whatever the spec's own dtype is."""
        memory = torch.zeros(spec.slots, *spec.entry, dtype=self.dtype, device=self.device)
        torch._dynamo.mark_static_address(memory)  # else `reduce-overhead` copies it at every frame
        return memory

    @torch.inference_mode()
    def run(self, graph: str, inputs: Mapping[str, Any]) -> dict[str, Any]:
        definition = self.graphs[graph]
        if graph not in self.transfers:
            small = tuple(spec for spec in definition.inputs if not isinstance(inputs[spec.name], Tensor))
            shown = tuple(spec for spec in definition.outputs if not spec.name.endswith("entry"))
            self.transfers[graph] = Transfer(small, self.device), Transfer(shown, self.device)
        there, back = self.transfers[graph]
        there.send(inputs)
        drawn = self.forwards[graph](*(there.device.get(s.name, inputs[s.name]) for s in definition.inputs))
        outputs: dict[str, Any] = {}
        for spec, value in zip(definition.outputs, drawn, strict=True):
            if spec.name in back.host:
                back.host[spec.name].copy_(value.to(TORCH_DTYPES[spec.dtype]), non_blocking=True)
                outputs[spec.name] = back.arrays[spec.name]
            else:
                outputs[spec.name] = value
        if self.device.type == "cuda":
            torch.cuda.current_stream(self.device).synchronize()
        return outputs

    def close(self) -> None:
        """Give the device's memory back, as far as nobody else holds the world."""
        self.forwards.clear()
        self.transfers.clear()
        self.graphs = {}
        if self.device.type == "cuda":
            torch.cuda.empty_cache()


def place(module: nn.Module, device: torch.device, dtype: torch.dtype) -> None:
    """Move a module; its floating weights become `dtype`, but for those of KEPT."""
    for part in module.modules():
        for name, tensor in [*part.named_parameters(recurse=False), *part.named_buffers(recurse=False)]:
            turned = tensor.is_floating_point() and not isinstance(part, KEPT)
            placed = tensor.detach().to(device, dtype if turned else tensor.dtype)
            if isinstance(tensor, nn.Parameter):
                tensor.data = placed
            else:
                setattr(part, name, placed)
