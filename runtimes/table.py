"""Every runtime is one row, and in one module a loader, bundle -> Session; SDKs are imported there."""

from __future__ import annotations

from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from typing import Literal

from pocketgenie.errors import UserError
from pocketgenie.export.bundle import Bundle, load_bundle
from pocketgenie.runtimes.session import Session


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
    """Bundles it can play."""
    device: Literal["cpu", "cuda"] = "cpu"
    loader: str = "load"
    """Function of the module."""


RUNTIMES: dict[str, Runtime] = {
    row.name: row
    for row in (
        Runtime(
            name="reference",
            module="pocketgenie.runtimes.reference",
            description="PyTorch, eager, float32, streaming memory: what all else is measured against",
            needs=("torch", "safetensors"),
            mend="pip install 'pocketgenie[export]'",
            targets=("onnx",),
        ),
        Runtime(
            name="compiled",
            module="pocketgenie.runtimes.compiled",
            description="torch.compile (Inductor, weights frozen) of the reference",
            needs=("torch", "safetensors"),
            mend="pip install 'pocketgenie[export]' and a C++ compiler (Debian: apt-get install g++)",
            targets=("onnx",),
        ),
        Runtime(
            name="ort-cpu",
            module="pocketgenie.runtimes.ort_cpu",
            description="ONNX Runtime on the CPU",
            needs=("onnxruntime",),
            mend="pip install onnxruntime",
            targets=("onnx",),
        ),
    )
}


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
