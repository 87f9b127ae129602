"""Every runtime is one row, and in one module a loader, bundle -> Session; SDKs are imported there."""

from __future__ import annotations

from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from typing import Literal

from pocketgenie.errors import UserError
from pocketgenie.export.bundle import Bundle, load_bundle
from pocketgenie.runtimes.session import Session

SOFTWARE = "a software adapter"
"""In what a probe says: a graphics card that a program stands in for, right, and seconds a frame."""


@dataclass(frozen=True, kw_only=True)
class Runtime:
    name: str
    module: str
    description: str
    needs: tuple[str, ...]
    """Import names that must be there."""
    mend: str
    """The command that makes it work where something is missing."""
    targets: tuple[str, ...]
    """Bundles it can play; a target's own runtime is the first row that begins with it and plays graphs."""
    plays: Literal["graphs", "checkpoint"] = "graphs"
    """The bundle's exported graphs, or the float32 checkpoint in its reference/."""
    device: Literal["cpu", "cuda", "webgpu"] = "cpu"
    loader: str = "load"
    """Function of the module."""
    probe: str = "probe"
    """Function of the module that tries it on something tiny, for `doctor`."""


BROWSER = ("playwright", "starlette", "uvicorn")
BROWSER_MEND = "pip install 'pocketgenie[web]', and a Chrome or Chromium (Debian: apt-get install chromium)"

RUNTIMES: dict[str, Runtime] = {
    row.name: row
    for row in (
        Runtime(
            name="reference",
            module="pocketgenie.runtimes.reference",
            description="PyTorch, eager, float32, streaming memory: what all else is measured against",
            needs=("torch", "safetensors"),
            mend="pip install 'pocketgenie[export]'",
            targets=("onnx", "tensorrt", "web"),
            plays="checkpoint",
        ),
        Runtime(
            name="compiled",
            module="pocketgenie.runtimes.compiled",
            description="torch.compile (Inductor, weights frozen) of the reference",
            needs=("torch", "safetensors"),
            mend="pip install 'pocketgenie[export]' and a C++ compiler (Debian: apt-get install g++)",
            targets=("onnx",),
            plays="checkpoint",
        ),
        Runtime(
            name="ort-cpu",
            module="pocketgenie.runtimes.ort_cpu",
            description="ONNX Runtime on the CPU",
            needs=("onnxruntime",),
            mend="pip install onnxruntime",
            targets=("onnx", "tensorrt", "web"),
        ),
        Runtime(
            name="web-wasm",
            module="pocketgenie.runtimes.web",
            description="the site in headless Chromium: WebAssembly, with as many threads as the others get",
            needs=BROWSER,
            mend=BROWSER_MEND,
            targets=("web",),
            loader="load_wasm",
        ),
        Runtime(
            name="web-wasm-1",
            module="pocketgenie.runtimes.web",
            description="the same with one thread, as on servers that do not isolate the page",
            needs=BROWSER,
            mend=BROWSER_MEND,
            targets=("web",),
            loader="load_one_thread",
        ),
        Runtime(
            name="web-webgpu",
            module="pocketgenie.runtimes.web",
            description="the site in headless Chromium: WebGPU, by a software adapter where there is no card",
            needs=BROWSER,
            mend=BROWSER_MEND,
            targets=("web",),
            device="webgpu",
            loader="load_webgpu",
            probe="probe_webgpu",
        ),
        Runtime(
            name="tensorrt",
            module="pocketgenie.runtimes.tensorrt",
            description="TensorRT for RTX (or the datacentre's TensorRT): engines built ahead of time",
            needs=("cuda.bindings", "numpy"),
            mend="pip install 'pocketgenie[tensorrt]', on a machine with an NVIDIA driver",
            targets=("tensorrt",),
            device="cuda",
        ),
        Runtime(
            name="ort-cuda",
            module="pocketgenie.runtimes.ort_cuda",
            description="ONNX Runtime on an NVIDIA card, memory kept on the device",
            needs=("onnxruntime", "cuda.bindings"),
            mend="pip install 'pocketgenie[tensorrt]'",
            targets=("onnx", "tensorrt"),
            device="cuda",
        ),
        Runtime(
            name="cuda-eager",
            module="pocketgenie.runtimes.torch_cuda",
            description="PyTorch on an NVIDIA card, eager, float32, memory kept on the device",
            needs=("torch", "safetensors"),
            mend="install a CUDA build of torch (pytorch.org/get-started)",
            targets=("onnx", "tensorrt"),
            plays="checkpoint",
            device="cuda",
            loader="load_eager",
        ),
        Runtime(
            name="cuda-compiled",
            module="pocketgenie.runtimes.torch_cuda",
            description="torch.compile on an NVIDIA card, float32",
            needs=("torch", "safetensors"),
            mend="install a CUDA build of torch (pytorch.org/get-started)",
            targets=("onnx", "tensorrt"),
            plays="checkpoint",
            device="cuda",
            loader="load_compiled",
        ),
        Runtime(
            name="cuda-graph",
            module="pocketgenie.runtimes.torch_cuda",
            description="PyTorch on an NVIDIA card, a whole frame captured in one CUDA graph, float32",
            needs=("torch", "safetensors"),
            mend="install a CUDA build of torch (pytorch.org/get-started)",
            targets=("onnx", "tensorrt"),
            plays="checkpoint",
            device="cuda",
            loader="load_graph",
        ),
    )
}


def own_runtime(target: str) -> str:
    """The runtime that a target is exported for, which plays its bundles by default."""
    return next(row.name for row in RUNTIMES.values() if row.targets[0] == target and row.plays == "graphs")


def load_session(bundle: Path | Bundle, runtime: str) -> Session:
    """Open a bundle (verified) in a runtime. Raises UserError for an unknown, unfit or missing runtime."""
    row = RUNTIMES.get(runtime)
    if row is None:
        raise UserError(f"no runtime {runtime!r}; there are {', '.join(RUNTIMES)}")
    opened = bundle if isinstance(bundle, Bundle) else load_bundle(bundle)
    if opened.manifest.target not in row.targets:
        raise UserError(
            f"{runtime} plays no {opened.manifest.target} bundles; export one with --target {row.targets[0]}"
        )
    try:
        session: Session = getattr(import_module(row.module), row.loader)(opened)
    except ImportError as error:
        raise UserError(f"{runtime} needs {error.name}, which is not installed; {row.mend}") from None
    return session
