"""What the figures were measured on, and what one process takes of it. No torch."""

from __future__ import annotations

import ctypes
import os
import platform
import sys
from importlib import metadata
from pathlib import Path
from typing import NamedTuple

import psutil

from pocketgenie import __version__
from pocketgenie.runtimes.results import Machine

LIBRARIES = (
    "numpy",
    "onnx",
    "onnxruntime",
    "onnxruntime-gpu",
    "tensorrt-rtx",
    "tensorrt",
    "cuda-bindings",
    "torch",
)


CAPABILITY_MAJOR, CAPABILITY_MINOR = 75, 76  # CUdevice_attribute


def cores() -> int:
    """Threads that every runtime gets: the physical cores it may use, or OMP_NUM_THREADS where set.

    One number for all, so that no runtime is measured with more of the machine than its rivals.
    """
    if (wished := os.environ.get("OMP_NUM_THREADS", "")).isdigit() and int(wished):
        return int(wished)
    physical = psutil.cpu_count(logical=False) or 1
    return min(physical, len(os.sched_getaffinity(0))) if sys.platform == "linux" else physical


class Gpu(NamedTuple):
    """An NVIDIA card."""

    name: str
    capability: str
    """CUDA compute capability, like "8.9"."""


def gpu() -> Gpu | None:
    """The first NVIDIA card, as its driver sees it; None without a driver or a card."""
    try:
        cuda = ctypes.CDLL("nvcuda.dll" if sys.platform == "win32" else "libcuda.so.1")
    except OSError:
        return None
    device, name = ctypes.c_int(), ctypes.create_string_buffer(256)
    major, minor = ctypes.c_int(), ctypes.c_int()
    errors = (
        cuda.cuInit(0),
        cuda.cuDeviceGet(ctypes.byref(device), 0),
        cuda.cuDeviceGetName(name, 256, device),
        cuda.cuDeviceGetAttribute(ctypes.byref(major), CAPABILITY_MAJOR, device),
        cuda.cuDeviceGetAttribute(ctypes.byref(minor), CAPABILITY_MINOR, device),
    )
    return None if any(errors) else Gpu(name.value.decode(), f"{major.value}.{minor.value}")


def describe() -> Machine:
    """This machine, without its matrix rate."""
    return Machine(
        cpu=_cpu(),
        gpu=card.name if (card := gpu()) else None,
        cores=cores(),
        memory_gb=round(psutil.virtual_memory().total / 1e9, 1),
        system=f"{platform.system()} {platform.machine()}, Python {platform.python_version()}",
    )


def versions() -> dict[str, str]:
    """Of pocketgenie and of the libraries that are installed here."""
    found = {"pocketgenie": __version__}
    for name in LIBRARIES:
        try:
            found[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            continue
    return found


def peak_memory_mb() -> float:
    """Peak resident memory of this process so far, MB = 10^6 bytes."""
    if sys.platform == "linux":  # ru_maxrss would begin with the size of the process that started this one
        for line in Path("/proc/self/status").read_text().splitlines():
            if line.startswith("VmHWM:"):
                return int(line.split()[1]) * 1024 / 1e6
    if sys.platform == "win32":
        return float(psutil.Process().memory_info().peak_wset) / 1e6
    import resource

    unit = 1 if sys.platform == "darwin" else 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit / 1e6


def _cpu() -> str:
    if sys.platform == "linux":
        for line in Path("/proc/cpuinfo").read_text().splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    return platform.processor() or platform.machine()
