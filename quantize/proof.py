"""Every quantizer proves that it quantized: the libraries say nothing when they do nothing."""

from __future__ import annotations

import contextlib
import io
import logging
from collections.abc import Collection, Iterator

import onnx
from onnx import NodeProto, TensorProto

from pocketgenie.errors import UserError
from pocketgenie.quantize.products import WEIGHTED

LEAST_SHARE = 0.9
"""Of the products that are to be quantized, how many must be."""
SMALL = {TensorProto.INT8, TensorProto.UINT8, TensorProto.INT4, TensorProto.UINT4}
INTEGER = ("DynamicQuantizeMatMul", "MatMulInteger", "MatMulIntegerToFloat", "MatMulNBits")
"""Operators that are products with small weights by themselves."""


def count_products(model: onnx.ModelProto) -> tuple[int, int]:
    """How many products have weights of 8 bits or less, and how many have constant weights at all."""
    constants = {tensor.name: tensor.data_type for tensor in model.graph.initializer}
    sources = {name: node for node in model.graph.node for name in node.output}
    done = weighted = 0
    for node in model.graph.node:
        if node.op_type in (*WEIGHTED, *INTEGER):
            stored = _stored(node.input[1], constants, sources)
            weighted += stored is not None
            done += stored in SMALL
    return done, weighted


def _stored(name: str, constants: dict[str, int], sources: dict[str, NodeProto]) -> int | None:
    """The type in which a factor lies in the file, behind what only unpacks it; None if it is computed."""
    while name not in constants:
        source = sources.get(name)
        if source is None or source.op_type not in ("Cast", "DequantizeLinear", "Reshape", "Transpose"):
            return None
        name = source.input[0]
    return constants[name]


def prove(before: onnx.ModelProto, after: onnx.ModelProto, chosen: Collection[str]) -> onnx.ModelProto:
    """`after`, made of `before` by quantizing the products `chosen`, with the exporter's name on it. Raises
    UserError where too little was quantized or the constants did not shrink."""
    done, weighted = count_products(after)
    done -= count_products(before)[0]
    if not chosen or done < LEAST_SHARE * len(chosen) or _weigh(after) >= _weigh(before):
        raise UserError(f"only {done} of {weighted} products were quantized; export with --precision fp16")
    del after.graph.value_info[:]
    after.producer_name, after.producer_version = before.producer_name, before.producer_version
    return after


def _weigh(model: onnx.ModelProto) -> int:
    """Bytes of all constants."""
    return sum(tensor.ByteSize() for tensor in model.graph.initializer)


@contextlib.contextmanager
def quiet() -> Iterator[None]:
    """The library recommends its own pre-processing, which the exporter has done, and turns on everybody's
    logging when it is imported."""
    before, handlers, level = logging.root.manager.disable, logging.root.handlers[:], logging.root.level
    logging.disable(logging.WARNING)
    try:
        with contextlib.redirect_stdout(io.StringIO()):
            yield
    finally:
        logging.disable(before)
        logging.root.handlers[:] = handlers
        logging.root.setLevel(level)
