"""Runtime `ort-cuda`: ONNX Runtime's CUDA provider, everything bound by address, the memory on the card.

Its kernels run on the device's stream, in one order with the copies, so a frame waits once, at its end.
CUDA graphs of the provider are left off: they need every node on the card, small integers included.
"""

from __future__ import annotations

import contextlib
import io
import warnings
from collections import Counter
from collections.abc import Iterator
from functools import cache, partial
from pathlib import Path

import numpy as np
import onnxruntime as ort

from pocketgenie.errors import UserError
from pocketgenie.export.bundle import Bundle
from pocketgenie.runtimes.device import CudaDevice, Device
from pocketgenie.runtimes.device_backend import DeviceBackend, Tensor
from pocketgenie.runtimes.machine import cores
from pocketgenie.runtimes.ort_cpu import IDENTITY
from pocketgenie.runtimes.session import GraphSession

CUDA, CPU = "CUDAExecutionProvider", "CPUExecutionProvider"
DTYPES = {
    "tensor(uint8)": "uint8",
    "tensor(int32)": "int32",
    "tensor(float)": "float32",
    "tensor(float16)": "float16",
}
HEAVY = ("MatMul", "Gemm", "Conv", "Attention")
"""Operators that hold a world's work, with all that begin with these names; the rest is small integers."""
MEND = "pip uninstall onnxruntime; pip install 'onnxruntime-gpu[cuda,cudnn]'"


class OrtEngine:
    """One graph in ONNX Runtime, on a card or, with the provider CPU, on a HostDevice.

    Raises UserError when the provider is missing or leaves heavy work to the CPU.
    """

    def __init__(self, model: Path | bytes, device: Device, provider: str) -> None:
        options = ort.SessionOptions()
        options.intra_op_num_threads = cores()
        options.log_severity_level = 3
        options.add_session_config_entry("session.record_ep_graph_assignment_info", "1")
        chosen: list[object] = [provider]
        if provider == CUDA:
            # TF32 would round float32 to 10 bits: fp32 bundles are held to the reference's tokens
            chosen = [(CUDA, {"device_id": "0", "user_compute_stream": str(device.stream), "use_tf32": "0"})]
        source = model if isinstance(model, bytes) else str(model)
        with _quiet():
            self.session = ort.InferenceSession(source, options, providers=chosen, enable_fallback=0)
        if self.session.get_providers()[0] != provider:
            raise UserError(f"onnxruntime cannot use its CUDA provider{_lacking()}; {MEND}")
        self.kind = "cuda" if provider == CUDA else "cpu"
        sides = ((self.session.get_inputs(), True), (self.session.get_outputs(), False))
        self.tensors = tuple(
            Tensor(node.name, DTYPES.get(node.type, node.type), tuple(node.shape), is_input)
            for nodes, is_input in sides
            for node in nodes
        )
        self.binding = self.session.io_binding()
        self.run_options = ort.RunOptions()
        self.run_options.add_run_config_entry("disable_synchronize_execution_providers", "1")

    def bind(self, name: str, address: int) -> None:
        tensor = next(tensor for tensor in self.tensors if tensor.name == name)
        bind = self.binding.bind_input if tensor.is_input else self.binding.bind_output
        bind(name, self.kind, 0, np.dtype(tensor.dtype).type, tensor.shape, address)

    def enqueue(self) -> None:
        self.session.run_with_iobinding(self.binding, self.run_options)

    def heavy_on(self, provider: str) -> dict[str, int]:
        """How many nodes of each heavy operator a provider runs."""
        return dict(
            Counter(
                node.op_type
                for part in self.session.get_provider_graph_assignment_info()
                for node in part.get_nodes()
                if part.ep_name == provider and node.op_type.startswith(HEAVY)
            )
        )


def open_engine(bundle: Bundle, device: Device, provider: str, graph: str) -> OrtEngine:
    """A graph of a bundle. Raises UserError also when ONNX Runtime leaves heavy work of it to the CPU."""
    engine = OrtEngine(bundle.path(bundle.manifest.graphs[graph].file), device, provider)
    if provider == CUDA and (left := engine.heavy_on(CPU)):
        words = ", ".join(f"{count} {name}" for name, count in left.items())
        raise UserError(
            f"onnxruntime's CUDA provider has no kernel for {words} of `{graph}`; "
            "export with --precision fp16 or fp32"
        )
    return engine


def load(bundle: Bundle) -> GraphSession:
    """Play a bundle's ONNX graphs on the card. Raises UserError for a missing provider, driver or card."""
    require_provider()
    return on_device(bundle, CudaDevice(who="onnxruntime-gpu"), CUDA)


def on_device(bundle: Bundle, device: Device, provider: str) -> GraphSession:
    """The same on any device: with a HostDevice and the provider CPU it runs anywhere."""
    backend = DeviceBackend(bundle, device, partial(open_engine, bundle, device, provider))
    try:
        session = GraphSession(bundle.manifest.spec, backend)
        backend.open("play")
    except BaseException:
        backend.close()
        raise
    return session


def require_provider() -> None:
    """Raises UserError when this onnxruntime was built without CUDA, or cannot say what runs where."""
    if CUDA not in ort.get_available_providers():
        raise UserError(f"onnxruntime here has no CUDA provider; {MEND}")
    if not hasattr(ort.InferenceSession, "get_provider_graph_assignment_info"):
        raise UserError(f"onnxruntime {ort.__version__} is too old; pip install --upgrade onnxruntime-gpu")


def probe() -> str:
    """Run a minimal graph on the card, for `doctor`."""
    require_provider()
    device = CudaDevice(who="onnxruntime-gpu")
    try:
        engine = OrtEngine(IDENTITY, device, CUDA)
        block = device.pinned(4)
        block.view(np.float32)[0] = 1
        given, taken = device.allocate(4, "a test"), device.allocate(4, "a test")
        engine.bind("x", given)
        engine.bind("y", taken)
        device.upload(given, block)
        engine.enqueue()
        device.download(block, taken)
        device.synchronize()
        assert block.view(np.float32)[0] == 1
        del engine
        return f"onnxruntime-gpu {ort.__version__} on {device.name}, driver for {device.driver}"
    finally:
        device.close()


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """A provider that does not load writes pages to the terminal; `_lacking` says the same in one line."""
    ort.set_default_logger_severity(4)
    try:
        _preload()
        with contextlib.redirect_stdout(io.StringIO()), warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        ort.set_default_logger_severity(2)


@cache
def _preload() -> str:
    """Load CUDA and cuDNN from Python's packages, where they are -> what ONNX Runtime says of it."""
    with contextlib.redirect_stdout(io.StringIO()) as said:
        if CUDA in ort.get_available_providers() and hasattr(ort, "preload_dlls"):
            ort.preload_dlls()
    return said.getvalue()


def _lacking() -> str:
    """The first library that could not be loaded, in brackets; nothing when all could."""
    lines = [line for line in _preload().splitlines() if line.startswith("Failed to load")]
    return f" ({lines[0].partition(': ')[2]})" if lines else ""
