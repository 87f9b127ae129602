"""int4, weights only, a scale for every 32 weights of a channel. It saves bytes, not time: the
embedded world shrinks to a quarter and plays as fast as float32. Rounded to nearest, layer by layer.

`cpu`: the operator MatMulNBits. `qdq`: the weights behind a DequantizeLinear of opset 21, which TensorRT for
RTX builds as well and ONNX Runtime turns into MatMulNBits.
"""

from __future__ import annotations

from collections.abc import Collection

import onnx
from onnxruntime.quantization import QuantFormat

from pocketgenie.quantize.int8 import Form
from pocketgenie.quantize.proof import prove, quiet

BLOCK = 32
"""Weights that share a scale."""
ACCURACY = 4
"""ONNX Runtime's level of the same number: activations are multiplied in int8, block by block."""


FORMATS = {"cpu": QuantFormat.QOperator, "qdq": QuantFormat.QDQ, "optimum": QuantFormat.QOperator}


def to_int4(model: onnx.ModelProto, chosen: Collection[str], form: Form = "cpu") -> onnx.ModelProto:
    """A graph of products.merged -> the same with the weights of the MatMuls named in `chosen` in int4.

    `model` stays as it is. Raises UserError where too little was quantized.
    """
    copy = onnx.ModelProto()
    copy.CopyFrom(model)  # the library changes what it is given
    others = [node.name for node in copy.graph.node if node.op_type == "MatMul" and node.name not in chosen]
    with quiet():
        from onnxruntime.quantization.matmul_nbits_quantizer import MatMulNBitsQuantizer  # sets up logging

        quantizer = MatMulNBitsQuantizer(
            copy,
            bits=4,
            block_size=BLOCK,
            is_symmetric=True,
            accuracy_level=ACCURACY,
            quant_format=FORMATS[form],
            nodes_to_exclude=others,
            op_types_to_quantize=("MatMul",),
        )
        quantizer.process()
    made = prove(model, quantizer.model.model, chosen)
    results = {name for node in model.graph.node if node.name in chosen for name in node.output}
    inferred = onnx.shape_inference.infer_shapes(model).graph  # onnx does not know the shapes of MatMulNBits
    made.graph.value_info.extend(value for value in inferred.value_info if value.name in results)
    return made
