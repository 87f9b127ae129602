"""int8 in two forms, both by ONNX Runtime's own quantizers, both on products with constant weights, which get
a scale per output channel; biases, results and all else stay floats.

`cpu`: what ONNX Runtime on a CPU multiplies fastest. An activation's range is taken anew at every call.
`qdq`: what TensorRT for RTX builds as well: symmetric on both sides, with an activation's range fixed before.

Either plays the embedded world 2.0 times as fast as float32 with one thread. SkipLayerNormalization for
Add and LayerNormalization made that 1.4, MultiHeadAttention for its parts did nothing. SmoothQuant (arXiv
2211.10438: scales moved from the inputs of a product into its weights) is left out: on samples that the form
qdq was not calibrated on KL 0.00103 in place of 0.00107 (strength 0.5 and 0.65; 0.25 0.00104, 0.8 0.00118).
"""

from __future__ import annotations

import tempfile
from collections.abc import Collection
from pathlib import Path
from typing import Literal

import onnx
from onnx import numpy_helper
from onnxruntime.quantization import (
    CalibrationDataReader,
    CalibrationMethod,
    QuantFormat,
    QuantType,
    quantize_dynamic,
    quantize_static,
)

from pocketgenie.quantize.proof import prove, quiet
from pocketgenie.runtimes.session import Array

Form = Literal["cpu", "qdq", "optimum"]
"""optimum: as `cpu`, by that library (quantize/optimum.py)."""
PERCENTILE = 99.999
"""Of an activation's values, those within its range. On the embedded world, a pass over samples it was not
calibrated on: KL 0.0008 and top-1 98.8 %; min and max 0.0010 and 97.9 % (entropy chooses the same); 99.99
0.0012 and 98.4 %; 99.9 0.0049 and 96.1 %."""


def to_int8_cpu(model: onnx.ModelProto, chosen: Collection[str]) -> onnx.ModelProto:
    """A graph of products.merged -> the same with the MatMuls named in `chosen` as MatMulInteger.

    `model` stays as it is. Raises UserError where too little was quantized.
    """
    with tempfile.TemporaryDirectory() as folder, quiet():
        path = Path(folder) / "int8.onnx"
        quantize_dynamic(
            _copy(model),
            path,
            op_types_to_quantize=["MatMul"],
            nodes_to_quantize=list(chosen),
            per_channel=True,
            weight_type=QuantType.QInt8,  # the type that CPUs multiply three times as fast as uint8
            extra_options={"WeightSymmetric": True, "MatMulConstBOnly": True},
        )
        return prove(model, _plain(onnx.load(path)), chosen)


def to_int8_qdq(
    model: onnx.ModelProto, chosen: Collection[str], calibration: list[dict[str, Array]]
) -> onnx.ModelProto:
    """A graph of products.merged -> the same with the MatMuls named in `chosen` between Q/DQ pairs.

    `calibration` holds the graph's inputs as they are met in play. `model` stays as it is. Raises UserError
    where too little was quantized.
    """
    with tempfile.TemporaryDirectory() as folder, quiet():
        path = Path(folder) / "int8.onnx"
        quantize_static(
            _copy(model),
            path,
            _Reader(calibration),
            quant_format=QuantFormat.QDQ,
            op_types_to_quantize=["MatMul"],
            nodes_to_quantize=list(chosen),
            per_channel=True,
            activation_type=QuantType.QInt8,
            weight_type=QuantType.QInt8,
            calibrate_method=CalibrationMethod.Percentile,
            extra_options={
                "CalibPercentile": PERCENTILE,
                "CalibStridedMinMax": 1,  # takes in the samples one by one (any method), not all at once
                "ActivationSymmetric": True,
                "WeightSymmetric": True,
                "MatMulConstBOnly": True,
                "QuantizeBias": False,
                "OpTypesToExcludeOutputQuantization": ["MatMul"],
            },
        )
        return prove(model, _plain(onnx.load(path)), chosen)


def _copy(model: onnx.ModelProto) -> onnx.ModelProto:
    copy = onnx.ModelProto()
    copy.CopyFrom(model)  # the library changes what it is given
    return copy


def _plain(model: onnx.ModelProto) -> onnx.ModelProto:
    """Constants as bytes, like those of the exporter."""
    for tensor in model.graph.initializer:
        tensor.CopyFrom(numpy_helper.from_array(numpy_helper.to_array(tensor), tensor.name))
    return model


class _Reader(CalibrationDataReader):  # type: ignore[misc]
    """Samples, one by one, as the library asks for them."""

    def __init__(self, samples: list[dict[str, Array]]) -> None:
        self.samples, self.range = samples, iter(samples)

    def __len__(self) -> int:
        return len(self.samples)

    def set_range(self, start_index: int, end_index: int) -> None:
        self.range = iter(self.samples[start_index:end_index])

    def get_next(self) -> dict[str, Array] | None:
        return next(self.range, None)
