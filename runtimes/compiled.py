"""Runtime `compiled`: torch.compile of the reference, tuned as a good user would (frozen weights)."""

from __future__ import annotations

import subprocess
import sysconfig
from contextlib import nullcontext

import torch
from torch import Tensor
from torch._inductor import config as inductor
from torch._inductor.cpp_builder import get_cpp_compiler

from pocketgenie.errors import UserError
from pocketgenie.export.bundle import Bundle
from pocketgenie.runtimes.reference import Forward, TorchBackend, reference_world
from pocketgenie.runtimes.session import GraphSession

HOT = ("play", "logits")
"""What is compiled: the graph of every frame, and the one that L1 looks at. The others run eager."""


def _compile(name: str, module: torch.nn.Module) -> Forward:
    return _Frozen(module) if name in HOT else module


class _Frozen:
    """A compiled module whose weights are constants, packed for the CPU's matrix kernels.

    Freezing is a setting of the whole process, read when the first call compiles; then it is put back.
    """

    def __init__(self, module: torch.nn.Module) -> None:
        self.forward = torch.compile(module, dynamic=False, fullgraph=True)
        self.compiled = False

    def __call__(self, *inputs: Tensor) -> tuple[Tensor, ...]:
        with nullcontext() if self.compiled else inductor.patch(freezing=True):
            outputs: tuple[Tensor, ...] = self.forward(*inputs)
        self.compiled = True
        return outputs


def load(bundle: Bundle) -> GraphSession:
    world = reference_world(bundle)
    return GraphSession(world.spec, TorchBackend(world.graphs(), _compile))


def probe() -> str:
    """What it compiles with, for `doctor`; kernels include Python.h. Raises UserError where that fails."""
    compiler = get_cpp_compiler()
    check = [compiler, "-fsyntax-only", "-I", sysconfig.get_path("include"), "-x", "c++", "-"]
    program = "#include <Python.h>\n#include <cmath>\n"
    tried = subprocess.run(check, input=program, capture_output=True, text=True)
    if tried.returncode:
        raise UserError(f"{compiler} does not compile: {tried.stderr.strip().splitlines()[0]}")
    return f"torch {torch.__version__}, {compiler}"
