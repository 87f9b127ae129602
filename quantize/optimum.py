"""int8 by the library optimum: ONNX Runtime's dynamic quantizer with the settings that optimum keeps for this
machine's instruction set. Its own extra: `pip install 'pocketgenie[optimum]'`."""

from __future__ import annotations

import platform
import tempfile
from collections.abc import Collection
from pathlib import Path

import onnx
from onnx import numpy_helper

from pocketgenie.errors import UserError
from pocketgenie.quantize.proof import prove, quiet

CPUINFO = Path("/proc/cpuinfo")
PRESETS = {"avx512_vnni": "avx512_vnni", "avx512f": "avx512"}
"""Flag of the processor -> method of optimum's AutoQuantizationConfig, best first."""


def preset() -> str:
    """The name of optimum's settings for this machine: arm64, avx512_vnni, avx512, or avx2 where unknown."""
    if platform.machine().lower() in ("arm64", "aarch64"):
        return "arm64"
    flags = CPUINFO.read_text().split() if CPUINFO.exists() else []
    return next((name for flag, name in PRESETS.items() if flag in flags), "avx2")


def to_int8_optimum(model: onnx.ModelProto, chosen: Collection[str]) -> onnx.ModelProto:
    """A graph of products.merged -> the same with the MatMuls named in `chosen` in int8, ranges taken anew at
    every call. `model` stays as it is. Raises UserError without optimum, and where too little was quantized.
    """
    try:
        from optimum.onnxruntime import ORTQuantizer
        from optimum.onnxruntime.configuration import AutoQuantizationConfig
    except ImportError:
        raise UserError(
            "optimum is not installed; pip install 'pocketgenie[optimum]', or leave --form optimum out"
        ) from None
    with tempfile.TemporaryDirectory() as scratch, quiet():
        folder = Path(scratch)
        onnx.save(model, folder / "model.onnx")
        settings = getattr(AutoQuantizationConfig, preset())(
            is_static=False,
            per_channel=True,
            nodes_to_quantize=list(chosen),
            operators_to_quantize=["MatMul"],
        )
        ORTQuantizer(folder / "model.onnx").quantize(save_dir=folder, quantization_config=settings)
        made = onnx.load(folder / "model_quantized.onnx")
    for tensor in made.graph.initializer:  # as bytes, like those of the exporter
        tensor.CopyFrom(numpy_helper.from_array(numpy_helper.to_array(tensor), tensor.name))
    return prove(model, made, chosen)
