"""What a card can do at most, measured: matrix rates, memory bandwidth, launches, copies from the host.

A frame is held against these figures, not against a data sheet. Every figure is a median of many repeats on
random data (a card multiplies zeros faster). The same code measures a CPU: a trial without a card.
"""

from __future__ import annotations

import platform
import subprocess
import time
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from pocketgenie.errors import UserError
from pocketgenie.runtimes.sweep_results import DeviceFacts, Rate

MATRICES = ("bfloat16", "float16", "float8", "float32")
SIZES = ((4096, 4096, 4096), (8192, 8192, 8192), (920, 5120, 4608), (920, 4608, 5120))
"""[m, k] x [k, n]: two that suit a card, and two that the 10.7B world is made of."""
SMALL_SIZES = ((256, 256, 256), (512, 512, 512))
LAUNCHES = 500
FLOAT8 = torch.float8_e4m3fn


class CardLimits:
    """What a worker process holds; each method is one measurement. `device`: "cuda" or "cpu"."""

    def __init__(self, device: str, quick: bool) -> None:
        self.device = torch.device(device)
        self.cuda = self.device.type == "cuda"
        self.seconds = 0.05 if quick else 0.3
        self.sizes = SMALL_SIZES if quick else SIZES
        self.copied = 1 << (24 if quick else 31)
        """Bytes of the buffers that are copied: many times what a cache holds."""
        torch.set_float32_matmul_precision("highest")  # TF32 off

    def facts(self) -> DeviceFacts:
        """What it is."""
        if not self.cuda:
            name = platform.processor() or platform.machine()
            return DeviceFacts(kind="cpu", name=name, torch=torch.__version__)
        card = torch.cuda.get_device_properties(self.device)
        return DeviceFacts(
            kind="cuda",
            name=card.name,
            torch=torch.__version__,
            capability=f"{card.major}.{card.minor}",
            memory_gb=round(card.total_memory / 1e9, 1),
            cuda=str(torch.version.cuda),
            driver=_driver(),
        )

    def matrix(self, dtype: str) -> Rate:
        """TFLOP/s by shape, a multiply-add counted as two; the best is the limit. Raises UserError."""
        if dtype == "float8" and self.cuda and torch.cuda.get_device_capability(self.device) < (8, 9):
            raise UserError("the card has no float8 matrix units (Ada, Hopper and later have)")
        by_shape: dict[str, float] = {}
        for m, k, n in self.sizes:
            seconds = self._median_seconds(self._product(dtype, m, k, n))
            by_shape[f"{m}x{k}x{n}"] = 2e-12 * m * k * n / seconds
        return Rate(best=max(by_shape.values()), unit="TFLOP/s", by_case=by_shape)

    def _product(self, dtype: str, m: int, k: int, n: int) -> Callable[[], Tensor]:
        a, b = torch.randn(m, k, device=self.device), torch.randn(n, k, device=self.device)
        if dtype == "float8":
            a8, b8, one = a.to(FLOAT8), b.to(FLOAT8).t(), torch.ones((), device=self.device)
            return lambda: torch._scaled_mm(
                a8, b8, one, one, out_dtype=torch.bfloat16, use_fast_accum=self.cuda
            )
        kind: torch.dtype = getattr(torch, dtype)
        a, b = a.to(kind), b.to(kind).t()  # both row-major in k, as activations and nn.Linear's weights lie
        return lambda: a @ b

    def bandwidth(self) -> Rate:
        """GB/s of a large copy within the device's memory, bytes read and written."""
        source = torch.empty(self.copied // 4, device=self.device).normal_()
        target = torch.empty_like(source)
        seconds = self._median_seconds(lambda: target.copy_(source))
        return Rate(best=2e-9 * self.copied / seconds, unit="GB/s", by_case={})

    def launches(self) -> Rate:
        """Microseconds from one tiny kernel to the next: called one by one, and replayed in a CUDA graph."""
        x = torch.zeros(32, device=self.device)

        def many() -> None:
            for _ in range(LAUNCHES):
                x.add_(1)

        by_case = {"eager": 1e6 * self._median_seconds(many) / LAUNCHES}
        if self.cuda:
            graph = torch.cuda.CUDAGraph()
            with torch.cuda.graph(graph):
                many()
            by_case["graph"] = 1e6 * self._median_seconds(graph.replay) / LAUNCHES
        return Rate(best=min(by_case.values()), unit="us", by_case=by_case)

    def host_copies(self) -> Rate:
        """GB/s from pinned host memory to the card and back. Raises UserError without a card."""
        if not self.cuda:
            raise UserError("a CPU copies nothing over PCIe")
        size = min(self.copied, 1 << 28)
        host = torch.ones(size, dtype=torch.uint8).pin_memory()
        card = torch.empty(size, dtype=torch.uint8, device=self.device)
        by_case = {
            "to the card": 1e-9 * size / self._median_seconds(lambda: card.copy_(host, non_blocking=True)),
            "to the host": 1e-9 * size / self._median_seconds(lambda: host.copy_(card, non_blocking=True)),
        }
        return Rate(best=max(by_case.values()), unit="GB/s", by_case=by_case)

    def _median_seconds(self, work: Callable[[], Any]) -> float:
        """Of one call, in batches long enough for a host's clock."""
        for _ in range(3):
            work()
        calls, spent, times = 1, 0.0, list[float]()
        while spent < self.seconds or len(times) < 3:
            self._wait()
            began = time.perf_counter()
            for _ in range(calls):
                work()
            self._wait()
            took = time.perf_counter() - began
            if took < self.seconds / 20:
                calls *= 2  # too short to be timed: not counted
            else:
                spent += took
                times.append(took / calls)
        return sorted(times)[len(times) // 2]

    def _wait(self) -> None:
        if self.cuda:
            torch.cuda.synchronize(self.device)


def _driver() -> str | None:
    """The driver's version, where nvidia-smi tells it."""
    query = ["nvidia-smi", "--query-gpu=driver_version", "--format=csv,noheader"]
    try:
        told = subprocess.run(query, capture_output=True, text=True, timeout=20, check=True).stdout.split()
    except (OSError, subprocess.SubprocessError):
        return None
    return told[0] if told else None
