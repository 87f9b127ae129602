"""Runtime `ort-cpu`: ONNX Runtime on the CPU. Tensors are bound once; the memory is read in place."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import onnxruntime as ort

from pocketgenie.errors import UserError
from pocketgenie.export.bundle import Bundle
from pocketgenie.genie.spec import MemorySpec
from pocketgenie.runtimes.machine import cores
from pocketgenie.runtimes.session import Array, GraphSession

IDENTITY = (
    b'\x08\t\x12\x00:7\n\x10\n\x01x\x12\x01y"\x08Identity\x12\x01gZ\x0f\n\x01x\x12\n\n\x08\x08\x01\x12\x04\n\x02\x08\x01'
    b"b\x0f\n\x01y\x12\n\n\x08\x08\x01\x12\x04\n\x02\x08\x01B\x04\n\x00\x10\x14"
)
"""An ONNX model, y = x, float32 [1], opset 20."""


ADD_FUSION = "MatMulAddFusion"
"""Makes one Gemm of a product and the residual after it, before int8 is looked for. In Q/DQ pairs the
embedded world played 0.87 times as fast as float32 with it, 1.7 times without (one thread, float32 head)."""


class OrtBackend:
    """One session per graph, opened at first use."""

    def __init__(self, bundle: Bundle, providers: list[str], threads: int = 0) -> None:
        self.bundle, self.providers = bundle, providers
        self.threads = threads or cores()
        self.bound: dict[str, _BoundGraph] = {}

    def memory(self, spec: MemorySpec) -> Array:
        return np.zeros((spec.slots, *spec.entry), spec.dtype)

    def run(self, graph: str, inputs: Mapping[str, Array]) -> dict[str, Array]:
        if graph not in self.bound:
            self.bound[graph] = _BoundGraph(self, graph)
        return self.bound[graph].run(inputs)

    def close(self) -> None:
        self.bound.clear()


class _BoundGraph:
    def __init__(self, backend: OrtBackend, graph: str) -> None:
        entry = backend.bundle.manifest.graphs.get(graph)
        if entry is None:
            raise UserError(f"this bundle has no graph `{graph}`; export the world again")
        options = ort.SessionOptions()
        options.intra_op_num_threads = backend.threads
        options.log_severity_level = 3
        path = backend.bundle.folder / entry.file
        pairs = backend.bundle.manifest.recipe.get("form") == "qdq"
        self.session = ort.InferenceSession(
            str(path),
            options,
            providers=backend.providers,
            disabled_optimizers=[ADD_FUSION] if pairs else None,
        )
        self.binding = self.session.io_binding()
        self.addresses: dict[str, int] = {}
        self.inputs: dict[str, Array] = {}
        self.outputs = {spec.name: np.zeros(spec.shape, spec.dtype) for spec in entry.outputs}
        for name, array in self.outputs.items():
            self.binding.bind_output(name, "cpu", 0, array.dtype.type, array.shape, array.ctypes.data)

    def run(self, inputs: Mapping[str, Array]) -> dict[str, Array]:
        for name, array in inputs.items():
            if self.addresses.get(name) != array.ctypes.data:
                self.binding.bind_input(name, "cpu", 0, array.dtype.type, array.shape, array.ctypes.data)
                self.addresses[name] = array.ctypes.data
            self.inputs[name] = array  # keeps the bound memory alive
        self.session.run_with_iobinding(self.binding)
        return self.outputs


def load(bundle: Bundle) -> GraphSession:
    return GraphSession(bundle.manifest.spec, OrtBackend(bundle, ["CPUExecutionProvider"]))


def probe() -> str:
    """Run a minimal graph, for `doctor`."""
    session = ort.InferenceSession(IDENTITY, providers=["CPUExecutionProvider"])
    assert session.run(None, {"x": np.ones(1, np.float32)})[0] == 1
    return f"onnxruntime {ort.__version__}"
