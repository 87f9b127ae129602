"""int4, weights only, a scale for every 32 weights of a channel. It saves bytes, not time: the
embedded world shrinks to a quarter and plays as fast as float32. Rounded by GPTQ (quantize/gptq.py) where
there is something to play, else to nearest.

`cpu`: the operator MatMulNBits. `qdq`: the weights behind a DequantizeLinear of opset 21, which TensorRT for
RTX builds as well and ONNX Runtime turns into MatMulNBits.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping

import ml_dtypes
import numpy as np
import onnx
from onnx import numpy_helper
from onnxruntime.quantization import QuantFormat

from pocketgenie.quantize.gptq import BLOCK, LEAST, Rounded, key
from pocketgenie.quantize.int8 import Form
from pocketgenie.quantize.products import replace
from pocketgenie.quantize.proof import prove, quiet
from pocketgenie.runtimes.session import Array

ACCURACY = 4
"""ONNX Runtime's level of the same number: activations are multiplied in int8, block by block."""


FORMATS = {"cpu": QuantFormat.QOperator, "qdq": QuantFormat.QDQ, "optimum": QuantFormat.QOperator}


def to_int4(
    model: onnx.ModelProto,
    chosen: Collection[str],
    form: Form = "cpu",
    rounded: Mapping[bytes, Rounded] | None = None,
) -> onnx.ModelProto:
    """A graph of products.merged -> the same with the weights of the MatMuls named in `chosen` in int4.

    rounded: gptq.key -> weights; what it lacks is rounded to nearest. `model` stays as it is. Raises
    UserError where too little was quantized.
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
    _once(quantizer.model.model.graph)
    made = prove(model, quantizer.model.model, chosen)
    results = {name for node in model.graph.node if node.name in chosen for name in node.output}
    inferred = onnx.shape_inference.infer_shapes(model).graph  # onnx does not know the shapes of MatMulNBits
    made.graph.value_info.extend(value for value in inferred.value_info if value.name in results)
    _put(model, made, rounded or {})
    return made


def _once(graph: onnx.GraphProto) -> None:
    """In the form qdq the library unpacks a weight anew, by the same name, for each product that reads it."""
    seen: set[str] = set()
    kept = []
    for node in graph.node:
        kept += [] if node.output[0] in seen else [node]
        seen.update(node.output)
    replace(graph.node, kept)
    replace(graph.initializer, list({tensor.name: tensor for tensor in graph.initializer}.values()))


def _put(model: onnx.ModelProto, made: onnx.ModelProto, rounded: Mapping[bytes, Rounded]) -> None:
    """Write weights that were rounded better over those that the library rounded, in its own layouts."""
    weights = {tensor.name: key(tensor) for tensor in model.graph.initializer}
    for tensor in made.graph.initializer:
        for ending, layout in LAYOUTS.items():
            better = rounded.get(weights.get(tensor.name.removesuffix(ending), b""))
            if tensor.name.endswith(ending) and better:
                values = layout(better)
                assert list(values.shape) == list(tensor.dims)
                tensor.CopyFrom(numpy_helper.from_array(values, tensor.name))


def _packed(weight: Rounded) -> Array:
    """uint8 [N, blocks, BLOCK / 2], the earlier of two inputs in the lower half, 0 stands for LEAST"""
    codes = np.pad(weight.codes_KN, ((0, -len(weight.codes_KN) % BLOCK), (0, 0))) - LEAST
    pairs = codes.T.astype(np.uint8).reshape(codes.shape[1], -1, BLOCK // 2, 2)
    return np.asarray(pairs[..., 0] | pairs[..., 1] << 4)


LAYOUTS: dict[str, Callable[[Rounded], Array]] = {
    "_Q4": _packed,
    "_scales": lambda weight: np.ascontiguousarray(weight.scales_BN.T),
    "_DQ_Q4": lambda weight: weight.codes_KN.astype(ml_dtypes.int4),
    "_DQ_scales": lambda weight: weight.scales_BN,
}
"""What ONNX Runtime appends to a weight's name -> its content."""
