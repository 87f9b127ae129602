"""Runs a bundle's graphs on a device: everything bound once, the rings stay there, a frame is one round trip.

The small inputs of a graph lie in one block and its host outputs in another, so that a frame is one copy up,
one enqueue, one copy down and one wait. All of it is put on one stream, which also orders what several
graphs do to the same ring: `observe` writes what `play` reads next.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np

from pocketgenie.errors import UserError
from pocketgenie.export.bundle import Bundle
from pocketgenie.genie.spec import MemorySpec, TensorSpec
from pocketgenie.runtimes.device import Bytes, Device
from pocketgenie.runtimes.session import Array

ALIGNMENT = 256
"""Of every tensor's address: what cudaMalloc gives, and the most that any library asks for."""


@dataclass(frozen=True)
class Tensor:
    """An engine's own word on one of its inputs or outputs."""

    name: str
    dtype: str
    shape: tuple[int, ...]
    is_input: bool


class Engine(Protocol):
    """One graph, ready to run on a device."""

    tensors: tuple[Tensor, ...]

    def bind(self, name: str, address: int) -> None:
        """Where a tensor lies from now on."""
        ...

    def enqueue(self) -> None:
        """Put one run on the device's stream, without waiting for it."""
        ...


@dataclass(frozen=True)
class Entry:
    """A graph's new memory entry, on the device until that graph runs again."""

    address: int
    size: int


class DeviceMemory:
    """A ring's memory [W, *entry] on the device, zeroed."""

    def __init__(self, device: Device, spec: MemorySpec) -> None:
        self.device, self.slots = device, spec.slots
        self.stride = nbytes(spec.output())
        self.address = device.allocate(self.slots * self.stride, "the memory of past frames")

    def __setitem__(self, slot: int, entry: Entry) -> None:
        """One copy within the device, after what was enqueued before it."""
        assert 0 <= slot < self.slots and entry.size == self.stride
        self.device.copy(self.address + slot * self.stride, entry.address, self.stride)


class DeviceBackend:
    """The Backend of a bundle on a device; `open_engine` gives the engine of a graph at its first use.

    `first_ran` is called whenever a graph has run for the first time.
    """

    def __init__(
        self,
        bundle: Bundle,
        device: Device,
        open_engine: Callable[[str], Engine],
        first_ran: Callable[[], None] = lambda: None,
    ) -> None:
        self.bundle, self.device, self.open_engine, self.first_ran = bundle, device, open_engine, first_ran
        self.graphs: dict[str, _BoundGraph] = {}
        self.ran: set[str] = set()

    def memory(self, spec: MemorySpec) -> DeviceMemory:
        self.device.activate()
        return DeviceMemory(self.device, spec)

    def open(self, graph: str) -> _BoundGraph:
        """Load a graph's engine and bind it, if that was not done before. Raises UserError."""
        self.device.activate()
        if graph not in self.graphs:
            if graph not in self.bundle.manifest.graphs:
                raise UserError(f"this bundle has no graph `{graph}`; export the world again")
            self.graphs[graph] = _BoundGraph(self, graph)
        return self.graphs[graph]

    def run(self, graph: str, inputs: Mapping[str, Any]) -> dict[str, Any]:
        outputs = self.open(graph).run(inputs)
        if graph not in self.ran:
            self.ran.add(graph)
            self.first_ran()
        return outputs

    def close(self) -> None:
        self.graphs.clear()  # the engines, before the memory that they are bound to
        self.device.close()


class _BoundGraph:
    def __init__(self, backend: DeviceBackend, graph: str) -> None:
        self.device = device = backend.device
        entry = backend.bundle.manifest.graphs[graph]
        self.engine = backend.open_engine(graph)
        check_tensors(graph, entry.inputs, entry.outputs, self.engine.tensors)
        rings = {f"{spec.prefix}memory" for spec in backend.bundle.manifest.spec.memories.values()}
        entries = {spec.name for spec in entry.outputs if spec.name.endswith("entry")}
        self.taken = {tensor.name for tensor in self.engine.tensors}
        self.rings: dict[str, DeviceMemory] = {}
        self.up, self.up_address, self.inputs = self._block(
            graph, [spec for spec in entry.inputs if spec.name not in rings]
        )
        self.down, self.down_address, self.fetched = self._block(
            graph, [spec for spec in entry.outputs if spec.name not in entries]
        )
        self.outputs: dict[str, Any] = dict(self.fetched)
        for spec in entry.outputs:
            if spec.name in entries:  # never straight into its slot: the graph still reads that one
                held = Entry(device.allocate(nbytes(spec), f"`{graph}`"), nbytes(spec))
                self._bind(spec.name, held.address)
                self.outputs[spec.name] = held

    def _block(self, graph: str, specs: list[TensorSpec]) -> tuple[Bytes, int, dict[str, Array]]:
        """One block for these tensors, bound: in pinned memory, on the device, and as views of the former."""
        offsets, size = pack({spec.name: nbytes(spec) for spec in specs})
        block, address = self.device.pinned(size), self.device.allocate(size, f"`{graph}`")
        views = {}
        for spec in specs:
            start = offsets[spec.name]
            self._bind(spec.name, address + start)
            views[spec.name] = block[start : start + nbytes(spec)].view(spec.dtype).reshape(spec.shape)
        return block, address, views

    def _bind(self, name: str, address: int) -> None:
        if name in self.taken:
            self.engine.bind(name, address)

    def run(self, inputs: Mapping[str, Any]) -> dict[str, Any]:
        for name, value in inputs.items():
            if isinstance(value, DeviceMemory):
                if self.rings.get(name) is not value:
                    self._bind(name, value.address)
                    self.rings[name] = value
            else:
                assert value.shape == self.inputs[name].shape, name
                np.copyto(self.inputs[name], value, casting="no")
        self.device.upload(self.up_address, self.up)
        self.engine.enqueue()
        if self.fetched:
            self.device.download(self.down, self.down_address)
        self.device.synchronize()  # before the pinned blocks are read or written again
        return self.outputs


def nbytes(spec: TensorSpec) -> int:
    """Bytes of a tensor."""
    return math.prod(spec.shape) * np.dtype(spec.dtype).itemsize


def pack(sizes: Mapping[str, int]) -> tuple[dict[str, int], int]:
    """Sizes in bytes -> offsets in one block, each a multiple of ALIGNMENT, and the block's size."""
    offsets, end = {}, 0
    for name, size in sizes.items():
        offsets[name] = end
        end += size + -size % ALIGNMENT
    return offsets, end


def check_tensors(
    graph: str, inputs: tuple[TensorSpec, ...], outputs: tuple[TensorSpec, ...], found: tuple[Tensor, ...]
) -> None:
    """Raises UserError unless an engine takes and gives what the manifest says of its graph.

    An engine may have dropped an input that nothing depends on.
    """
    said = {Tensor(spec.name, spec.dtype, spec.shape, True) for spec in inputs}
    said |= {Tensor(spec.name, spec.dtype, spec.shape, False) for spec in outputs}
    names = {tensor.name for tensor in found}
    dropped = {tensor for tensor in said if tensor.is_input and tensor.name not in names}
    for tensor in sorted((said - dropped) ^ set(found), key=lambda tensor: tensor.name):
        of = f"{'input' if tensor.is_input else 'output'} {tensor.name} {tensor.dtype} {list(tensor.shape)}"
        where = "is in the manifest but not in its file" if tensor in said else "is not in the manifest"
        raise UserError(f"`{graph}` does not fit this bundle: {of} {where}; export the world again")
