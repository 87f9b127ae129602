"""Static int8 in Q/DQ form: products with constant weights, a scale per output channel and one per input.

Only what ONNX Runtime on the CPU runs as integers and TensorRT for RTX builds as well: symmetric (no zero
points), int8 on both sides; biases and results stay floats. The library is ONNX Runtime's own quantizer,
which says nothing when it quantizes nothing: the products are counted afterwards.
"""

from __future__ import annotations

import contextlib
import io
import logging
import tempfile
from collections.abc import Iterator
from pathlib import Path

import onnx
from onnx import TensorProto, numpy_helper
from onnxruntime.quantization import (
    CalibrationDataReader,
    CalibrationMethod,
    QuantFormat,
    QuantType,
    quantize_static,
)

from pocketgenie.errors import UserError
from pocketgenie.quantize.halves import deciding, float_tensors
from pocketgenie.runtimes.session import Array

WEIGHTED = ("Gemm", "MatMul")
LEAST_SHARE = 0.9
"""Of the products that are to be quantized, how many must be."""
PERCENTILE = 99.999
"""Of an activation's values, those within its range. On the embedded world, a pass over samples it was not
calibrated on: KL 0.0008 and top-1 98.8 %; min and max 0.0010 and 97.9 % (entropy chooses the same); 99.99
0.0012 and 98.4 %; 99.9 0.0049 and 96.1 %."""


def to_int8(model: onnx.ModelProto, calibration: list[dict[str, Array]]) -> onnx.ModelProto:
    """A float32 graph, weights inside -> the same with int8 products; `model` stays as it is.

    `calibration` holds the graph's inputs as they are met in play. Attention (no constant weights), products
    that decide (halves.deciding) and all else stay float32. Raises UserError where too little was quantized.
    """
    decides = deciding(model.graph, float_tensors(model))
    constants = {tensor.name for tensor in model.graph.initializer}
    chosen = [
        node.name
        for node in model.graph.node
        if node.op_type in WEIGHTED and node.input[1] in constants and node.output[0] not in decides
    ]
    copy = onnx.ModelProto()
    copy.CopyFrom(model)  # the library changes what it is given
    with tempfile.TemporaryDirectory() as folder, _quiet():
        path = Path(folder) / "int8.onnx"
        quantize_static(
            copy,
            path,
            _Reader(calibration),
            quant_format=QuantFormat.QDQ,
            op_types_to_quantize=list(WEIGHTED),
            nodes_to_quantize=chosen,
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
                "OpTypesToExcludeOutputQuantization": list(WEIGHTED),
            },
        )
        quantized = onnx.load(path)
    quantized.producer_name, quantized.producer_version = model.producer_name, model.producer_version
    for tensor in quantized.graph.initializer:  # as bytes, like those of the exporter
        tensor.CopyFrom(numpy_helper.from_array(numpy_helper.to_array(tensor), tensor.name))
    done, weighted = count_products(quantized)
    if not chosen or done < LEAST_SHARE * len(chosen) or quantized.ByteSize() >= model.ByteSize():
        raise UserError(
            f"int8 took only {done} of {weighted} products with weights; export with --precision fp16"
        )
    return quantized


def count_products(model: onnx.ModelProto) -> tuple[int, int]:
    """How many products compute in int8 (both inputs dequantized, weights stored so), and how many have
    constant weights at all."""
    constants = {tensor.name: tensor.data_type for tensor in model.graph.initializer}
    sources = {node.output[0]: node for node in model.graph.node if node.op_type == "DequantizeLinear"}
    done = weighted = 0
    for node in model.graph.node:
        if node.op_type in WEIGHTED:
            activation, weight = (sources.get(name) for name in node.input[:2])
            stored = constants.get(weight.input[0] if weight else node.input[1])
            weighted += stored is not None
            done += activation is not None and stored == TensorProto.INT8
    return done, weighted


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


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """The library recommends its own pre-processing, which the exporter has done."""
    before = logging.root.manager.disable
    logging.disable(logging.WARNING)
    try:
        with contextlib.redirect_stdout(io.StringIO()):
            yield
    finally:
        logging.disable(before)
