"""Runtime `tensorrt`: a bundle's engines on an NVIDIA card, by TensorRT for RTX or by standard TensorRT.

Both libraries have one interface. Where it differs, the library is asked, not the bundle: TensorRT for RTX
captures a frame into a CUDA graph by itself and keeps what it compiles; for standard TensorRT the enqueue is
recorded once it has run (its developer guide, "CUDA graphs"), and there is nothing to keep.
"""

from __future__ import annotations

import mmap
from collections.abc import Callable
from importlib import import_module, metadata
from importlib.util import find_spec
from typing import Any

from pocketgenie.errors import UserError
from pocketgenie.export.bundle import Bundle
from pocketgenie.export.cards import INSTALL, LIBRARIES
from pocketgenie.export.manifest import Engines
from pocketgenie.runtimes.device import CudaDevice, Device
from pocketgenie.runtimes.device_backend import DeviceBackend, Tensor
from pocketgenie.runtimes.engine_cache import cache_for
from pocketgenie.runtimes.engine_fit import name_of, need, played_bytes, rebuild, refusal, require_engines
from pocketgenie.runtimes.session import GraphSession

HINT = "; --fallback plays the ONNX inside the same bundle"
DTYPES = {"UINT8": "uint8", "INT32": "int32", "FLOAT": "float32", "HALF": "float16"}


class TrtEngine:
    """One graph's engine and the context that runs it."""

    def __init__(self, library: Library, engine: Any, config: Any, context: Any, captures: bool) -> None:
        self.context = context  # let go of in this order: the library wants what made it to outlive it
        self.config, self.engine, self.library = config, engine, library
        self.captures = captures
        """Whether the library itself replays the run as one CUDA graph."""
        self.ran = False
        self.replay: Callable[[], None] | None = None
        self.tensors = tuple(self._tensor(engine.get_tensor_name(at)) for at in range(engine.num_io_tensors))

    def _tensor(self, name: str) -> Tensor:
        dtype = self.engine.get_tensor_dtype(name).name
        is_input = self.engine.get_tensor_mode(name) == self.library.sdk.TensorIOMode.INPUT
        return Tensor(name, DTYPES.get(dtype, dtype), tuple(self.engine.get_tensor_shape(name)), is_input)

    def bind(self, name: str, address: int) -> None:
        self.ran, self.replay = False, None
        if not self.context.set_tensor_address(name, address):
            raise self.library.failure(f"does not take an address for {name}")

    def enqueue(self) -> None:
        if self.ran and not self.captures:
            self._record()
        if self.replay is None:
            self._enqueue()
            self.ran = True
        else:
            self.replay()

    def _enqueue(self) -> None:
        if not self.context.execute_async_v3(self.library.device.stream):
            raise self.library.failure("does not run an engine")

    def _record(self) -> None:
        """Once only: an engine that cannot be captured is enqueued afresh for every frame."""
        self.captures = True
        try:
            self.replay = self.library.device.record(self._enqueue)
        except UserError:
            self.replay = None


class Library:
    """TensorRT on one device for one bundle: opens engines, keeps what it compiled for this card."""

    def __init__(self, bundle: Bundle, engines: Engines, sdk: Any, device: Device) -> None:
        self.bundle, self.engines, self.sdk, self.device = bundle, engines, sdk, device
        self.words: list[str] = []
        self.logger = error_logger(sdk, self.words)
        self.runtime = sdk.Runtime(self.logger)
        self.kept = cache_for(bundle, engines.library, device.name, device.driver)
        self.cache: Any = None

    def open(self, graph: str) -> TrtEngine:
        """A graph, ready to be bound. Raises UserError for an engine that this library or card refuses."""
        file = self.engines.graphs[graph].file
        need(self.device, self.bundle.manifest.files[file].size, f"`{graph}`")
        with (
            open(self.bundle.path(file), "rb") as opened,
            mmap.mmap(opened.fileno(), 0, access=mmap.ACCESS_READ) as plan,
        ):
            self._check(graph, plan)
            engine = self.runtime.deserialize_cuda_engine(plan)
        if engine is None:
            raise self._refusal(graph, set())
        need(self.device, engine.device_memory_size_v2, f"what `{graph}` works in")
        config = engine.create_runtime_config()
        captures = hasattr(config, "cuda_graph_strategy")
        if captures:
            config.cuda_graph_strategy = self.sdk.CudaGraphStrategy.WHOLE_GRAPH_CAPTURE
        if hasattr(config, "set_runtime_cache"):
            self._attach(config)
        context = engine.create_execution_context(runtime_config=config)
        if context is None:
            raise self.failure(f"does not start `{graph}`")
        return TrtEngine(self, engine, config, context, captures)

    def keep(self) -> None:
        """Write what was compiled so far beside the bundle."""
        if self.cache is not None and (compiled := self.cache.serialize()) is not None:
            self.kept.write(bytes(compiled))

    def failure(self, what: str) -> UserError:
        """With the library's own last words."""
        words = " ".join(self.words[-1].split()) if self.words else "it does not say why"
        return UserError(
            f"{name_of(self.engines)} {what} ({words[:300]}); {rebuild(self.bundle, self.device)}"
        )

    def _attach(self, config: Any) -> None:
        """One cache for all engines. The library refuses a content that does not fit and fills it anew."""
        if self.cache is None:
            self.cache = config.create_runtime_cache()
            if content := self.kept.read():
                self.cache.deserialize(content)
        config.set_runtime_cache(self.cache)

    def _check(self, graph: str, plan: Any) -> None:
        """What is valid but suboptimal plays all the same. Standard TensorRT has no such question."""
        if hasattr(self.runtime, "get_engine_validity"):
            validity, bits = self.runtime.get_engine_validity(plan)
            if validity == self.sdk.EngineValidity.INVALID:
                flags = self.sdk.EngineInvalidityDiagnostics.__members__.items()
                raise self._refusal(graph, {name for name, flag in flags if bits & int(flag)})

    def _refusal(self, graph: str, diagnostics: set[str]) -> UserError:
        known = refusal(self.bundle, self.engines, self.device, diagnostics)
        return known or self.failure(f"refuses the engine of `{graph}`")


def load(bundle: Bundle) -> GraphSession:
    """Play a bundle's engines. Raises UserError, one line with the mend, for whatever stands against it."""
    try:
        engines = require_engines(bundle)
        sdk = require_library(bundle, engines)
        device = CudaDevice(needs=cuda_major(sdk.__name__), who=name_of(engines))
        return on_device(bundle, engines, sdk, device)
    except UserError as error:
        raise UserError(f"{error}{HINT}") from None


def on_device(bundle: Bundle, engines: Engines, sdk: Any, device: Device) -> GraphSession:
    library = Library(bundle, engines, sdk, device)
    backend = DeviceBackend(bundle, device, library.open, library.keep)
    try:
        need(device, played_bytes(bundle, engines), "this world")
        session = GraphSession(bundle.manifest.spec, backend)
        backend.open("play")
    except BaseException:
        backend.close()
        raise
    return session


def require_library(bundle: Bundle, engines: Engines) -> Any:
    """The library in the version that built the engines. Raises UserError when it is not here."""
    module = LIBRARIES[engines.flavor]
    try:
        import_module("cuda.bindings.driver")
        sdk = import_module(module)
    except ModuleNotFoundError as error:
        raise UserError(f"{error.name} is not installed; {INSTALL[engines.flavor]}") from None
    except (ImportError, OSError) as error:
        raise UserError(f"{module} does not load ({error}); {INSTALL[engines.flavor]} again") from None
    name, _, version = engines.library.rpartition(" ")
    if sdk.__version__ != version:
        raise UserError(
            f"this bundle's engines were built by {name} {version}, here is {sdk.__version__}; "
            f"pip install {name}=={version}, or {rebuild(bundle, None)}"
        )
    return sdk


def cuda_major(module: str) -> int:
    """The CUDA that the installed library was made for: 13 when its package is tensorrt_rtx_cu13."""
    for major in (13, 12):
        try:
            metadata.version(f"{module}_cu{major}")
        except metadata.PackageNotFoundError:
            continue
        return major
    return 12


def error_logger(sdk: Any, words: list[str]) -> Any:
    """A logger that keeps errors and prints nothing."""
    severity = sdk.ILogger.Severity

    class Logger(sdk.ILogger):  # type: ignore[misc]  # the library ships no types
        def __init__(self) -> None:
            sdk.ILogger.__init__(self)

        def log(self, level: Any, message: str) -> None:
            if level in (severity.ERROR, severity.INTERNAL_ERROR):
                words.append(message)

    return Logger()


def probe() -> str:
    """Name the libraries, the card and the driver, for `doctor`. Raises UserError."""
    here = [module for module in LIBRARIES.values() if find_spec(module)]
    if not here:
        raise UserError(f"neither {' nor '.join(LIBRARIES.values())} is installed; {INSTALL['rtx']}")
    named = [f"{module} {import_module(module).__version__}" for module in here]
    device = CudaDevice(needs=cuda_major(here[0]), who=here[0])
    try:
        return f"{', '.join(named)} on {device.name} ({device.capability}), driver for {device.driver}"
    finally:
        device.close()
