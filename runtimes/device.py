"""Memory, copies and one stream of a device without torch: an NVIDIA card, or host memory in its place.

Addresses are plain integers, sizes are bytes. Work on a device's stream runs in the order it was given.
"""

from __future__ import annotations

import ctypes
from collections.abc import Callable
from importlib import import_module
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from pocketgenie.errors import UserError

Bytes = NDArray[np.uint8]

OUT_OF_MEMORY = 2
REASONS = {
    3: "the NVIDIA driver is shutting down; start again",
    34: "no NVIDIA driver: libcuda is a stub here; install NVIDIA's driver for this card",
    35: "the NVIDIA driver is too old; update it",
    46: "the NVIDIA card is in use by another process alone; end that process",
    100: "no NVIDIA card is visible; look at nvidia-smi and CUDA_VISIBLE_DEVICES",
    101: "there is no such NVIDIA card; look at nvidia-smi and CUDA_VISIBLE_DEVICES",
    700: "the NVIDIA card met an illegal address; start again, and report it if it stays",
    802: "the NVIDIA card is not ready yet; try again in a minute",
    803: "the NVIDIA driver and its library differ in version; restart this machine",
    804: "this NVIDIA card takes no newer CUDA than its driver's; update the NVIDIA driver",
}
"""CUresult numbers that a user can do something about, and what."""
UNKNOWN = "the NVIDIA driver failed; look at nvidia-smi, update the driver or restart this machine"


class Device(Protocol):
    """What `DeviceBackend` needs of a device."""

    name: str
    capability: str
    """CUDA compute capability, like "8.9"."""
    driver: str
    """What the driver offers, like "CUDA 13.0"."""
    stream: int
    """Handle that engines take."""

    def activate(self) -> None:
        """Make the device current in the calling thread. A player may change threads between frames."""
        ...

    def allocate(self, size: int, purpose: str) -> int:
        """Zeroed memory of the device -> its address, aligned to 256. Raises UserError for too little."""
        ...

    def pinned(self, size: int) -> Bytes:
        """Host memory that the device copies from and to by itself. It lives until `close`."""
        ...

    def upload(self, address: int, source: Bytes) -> None:
        """Copy pinned memory to the device, on the stream."""
        ...

    def download(self, target: Bytes, address: int) -> None:
        """Copy to pinned memory, on the stream."""
        ...

    def copy(self, target: int, source: int, size: int) -> None:
        """Copy within the device, on the stream."""
        ...

    def synchronize(self) -> None:
        """Wait for all that was put on the stream."""
        ...

    def record(self, work: Callable[[], object]) -> Callable[[], None]:
        """Record what `work` puts on the stream, without running it -> puts it all on the stream at once."""
        ...

    def free_memory(self) -> int:
        """Bytes that can be allocated now."""
        ...

    def close(self) -> None:
        """Free everything; what `pinned` gave must not be touched any more."""
        ...


class HostDevice:
    """Host memory in a device's place, every copy done at once: for machines without a card and tests."""

    name, capability, driver, stream = "host memory", "0.0", "none", 0

    def __init__(self) -> None:
        self.blocks: list[Bytes] = []

    def activate(self) -> None:
        pass

    def allocate(self, size: int, purpose: str) -> int:
        block = self.pinned(size + 256)
        return block.ctypes.data + -block.ctypes.data % 256

    def pinned(self, size: int) -> Bytes:
        self.blocks.append(np.zeros(size, np.uint8))
        return self.blocks[-1]

    def upload(self, address: int, source: Bytes) -> None:
        self.copy(address, source.ctypes.data, source.nbytes)

    def download(self, target: Bytes, address: int) -> None:
        self.copy(target.ctypes.data, address, target.nbytes)

    def copy(self, target: int, source: int, size: int) -> None:
        ctypes.memmove(target, source, size)

    def synchronize(self) -> None:
        pass

    def record(self, work: Callable[[], object]) -> Callable[[], None]:
        return lambda: void(work())

    def free_memory(self) -> int:
        import psutil

        return int(psutil.virtual_memory().available)

    def close(self) -> None:
        self.blocks.clear()


def void(_: object) -> None:
    """Forget a result."""


class CudaDevice:
    """The first visible NVIDIA card, by CUDA's driver interface.

    Raises UserError without a driver or a card; and when the driver is older than CUDA `needs` (a major
    version, that of `who`). Its context is the primary one, which TensorRT, ONNX Runtime and torch share.
    """

    def __init__(self, needs: int = 12, who: str = "cuda-bindings") -> None:
        api: Any = import_module("cuda.bindings.driver")
        self._api = api
        self._addresses: list[int] = []
        self._pinned: list[int] = []
        try:
            self._do("cuInit", 0)
        except RuntimeError:  # DynamicLibNotFoundError, or the older bindings' own words
            raise UserError(
                "no NVIDIA driver: its library libcuda is not here; install NVIDIA's driver for this card"
            ) from None
        version = int(self._do("cuDriverGetVersion"))
        check_driver(version, needs, who)
        self._device = self._do("cuDeviceGet", 0)
        self._context = self._do("cuDevicePrimaryCtxRetain", self._device)
        self.activate()
        self._stream = self._do("cuStreamCreate", api.CUstream_flags.CU_STREAM_NON_BLOCKING.value)
        self.stream = int(self._stream)
        attribute = api.CUdevice_attribute
        major, minor = (
            self._do("cuDeviceGetAttribute", which, self._device)
            for which in (
                attribute.CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_MAJOR,
                attribute.CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_MINOR,
            )
        )
        self.name = self._do("cuDeviceGetName", 256, self._device).split(b"\0")[0].decode()
        self.capability = f"{major}.{minor}"
        self.driver = f"CUDA {version // 1000}.{version % 1000 // 10}"

    def activate(self) -> None:
        self._do("cuCtxSetCurrent", self._context)

    def allocate(self, size: int, purpose: str) -> int:
        size = max(size, 1)  # the driver gives no empty blocks
        code, address = self._api.cuMemAlloc(size)
        if int(code) == OUT_OF_MEMORY:
            raise too_little_memory(purpose, size, self.free_memory())
        self._check("cuMemAlloc", code)
        self._addresses.append(int(address))
        self._do("cuMemsetD8Async", address, 0, size, self._stream)
        return int(address)

    def pinned(self, size: int) -> Bytes:
        size = max(size, 1)
        address = int(self._do("cuMemHostAlloc", size, 0))
        self._pinned.append(address)
        block: Bytes = np.ctypeslib.as_array((ctypes.c_uint8 * size).from_address(address))
        block[:] = 0
        return block

    def upload(self, address: int, source: Bytes) -> None:
        self._do("cuMemcpyHtoDAsync", address, source.ctypes.data, source.nbytes, self._stream)

    def download(self, target: Bytes, address: int) -> None:
        self._do("cuMemcpyDtoHAsync", target.ctypes.data, address, target.nbytes, self._stream)

    def copy(self, target: int, source: int, size: int) -> None:
        self._do("cuMemcpyDtoDAsync", target, source, size, self._stream)

    def synchronize(self) -> None:
        self._do("cuStreamSynchronize", self._stream)

    def record(self, work: Callable[[], object]) -> Callable[[], None]:
        mode = self._api.CUstreamCaptureMode.CU_STREAM_CAPTURE_MODE_THREAD_LOCAL
        self._do("cuStreamBeginCapture", self._stream, mode)
        try:
            work()
        finally:
            code, graph = self._api.cuStreamEndCapture(self._stream)
        self._check("cuStreamEndCapture", code)
        recording = self._do("cuGraphInstantiate", graph, 0)
        self._do("cuGraphDestroy", graph)
        return lambda: void(self._do("cuGraphLaunch", recording, self._stream))

    def free_memory(self) -> int:
        free, _total = self._do("cuMemGetInfo")
        return int(free)

    def close(self) -> None:
        self.activate()
        self.synchronize()
        for address in self._addresses:
            self._do("cuMemFree", address)
        for address in self._pinned:
            self._do("cuMemFreeHost", address)
        self._addresses, self._pinned = [], []
        self._do("cuStreamDestroy", self._stream)
        self._do("cuDevicePrimaryCtxRelease", self._device)

    def _do(self, function: str, *arguments: Any) -> Any:
        """Call the driver -> what it gave: nothing, one value or several."""
        code, *values = getattr(self._api, function)(*arguments)
        self._check(function, code)
        return values[0] if len(values) == 1 else tuple(values)

    def _check(self, function: str, code: Any) -> None:
        if int(code):
            raise cuda_error(function, int(code), code.name)


def cuda_error(function: str, code: int, name: str) -> UserError:
    """What a CUDA driver's error code means, in one line."""
    if code == OUT_OF_MEMORY:
        return UserError("the NVIDIA card is out of memory; close other programs that use it")
    what, mend = REASONS.get(code, UNKNOWN).split("; ")
    return UserError(f"{what} ({function}: {name}); {mend}")


def check_driver(offered: int, needed: int, who: str) -> None:
    """`offered` as CUDA says it: 12040 is 12.4. Raises UserError when it is older than the major `needed`."""
    if offered < 1000 * needed:
        raise UserError(
            f"the NVIDIA driver is too old: it offers CUDA {offered // 1000}.{offered % 1000 // 10}, "
            f"{who} needs CUDA {needed}; update the driver"
        )


def too_little_memory(purpose: str, needed: int, free: int) -> UserError:
    """Sizes in bytes."""
    return UserError(
        f"too little memory on the NVIDIA card: {purpose} needs {needed / 1e6:,.0f} MB, "
        f"{free / 1e6:,.0f} MB are free; close other programs that use the card"
    )
