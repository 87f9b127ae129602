"""int4, weights only: MatMulNBits, a scale for every 32 weights of a channel. It saves bytes, not time."""

from __future__ import annotations

from collections.abc import Collection

import onnx

from pocketgenie.quantize.proof import prove, quiet

BLOCK = 32
"""Weights that share a scale."""
ACCURACY = 4
"""ONNX Runtime's level of the same number: activations are multiplied in int8, block by block."""


def to_int4(model: onnx.ModelProto, chosen: Collection[str]) -> onnx.ModelProto:
    """A graph of products.merged -> the same with the MatMuls named in `chosen` as MatMulNBits.

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
            nodes_to_exclude=others,
            op_types_to_quantize=("MatMul",),
        )
        quantizer.process()
    return prove(model, quantizer.model.model, chosen)
