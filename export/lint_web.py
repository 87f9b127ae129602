"""What ONNX Runtime's WebGPU provider leaves to the CPU: each such node costs a copy there and back a frame.

Established against ONNX Runtime Web 1.30.0 by its own log of where it places each node
(tests/export/test_webgpu.py). What no rule names is taken to run on the GPU.
"""

from __future__ import annotations

from typing import Final

import onnx
from onnx import TensorProto

from pocketgenie.export.sites import Site, sites

_ON_CPU = """
Attention Bernoulli Compress ConvInteger DFT Det DynamicQuantizeLinear If LSTM Loop MatMulInteger Multinomial
NonMaxSuppression NonZero OneHot QLinearConv QLinearMatMul RandomNormal RandomNormalLike RandomUniform
RandomUniformLike Round Scan Sign Unique
"""
ON_CPU: Final = frozenset(_ON_CPU.split())
"""Operators that it has no code for."""
SHAPES_ONLY: Final = frozenset({"Shape", "Size", "Constant", "ConstantOfShape"})
"""Answered before anything runs, where shapes are static."""
SMALL: Final = {TensorProto.INT8, TensorProto.UINT8, TensorProto.FLOAT16}
EDGES: Final = frozenset({"Cast"})
"""Operators that read or make pixels, uint8, at a graph's edge."""


def placed_on_cpu(model: onnx.ModelProto) -> list[str]:
    """Every node that WebGPU leaves to the CPU, and why: "ArgMax node 'argmax': 64-bit integers"."""
    constant = {tensor.name for tensor in model.graph.initializer}
    found = []
    for site in sites(model, frozenset()):
        inputs = {name for name in site.node.input if name}
        if inputs <= constant:  # folded when the graph is loaded
            constant.update(site.node.output)
        elif why := _why(site, inputs - constant):
            found.append(f"{site.operator} node {site.name!r}: {why}")
    return found


def _why(site: Site, computed: set[str]) -> str | None:
    if site.operator in ON_CPU:
        return "no code for it"
    types = {site.type(name) for name in (*computed, *site.node.output)}
    if TensorProto.INT64 in types and site.operator not in SHAPES_ONLY:
        return "64-bit integers"
    if types & SMALL and site.operator not in EDGES:
        return "8-bit or 16-bit values"
    if site.operator == "GatherElements" and site.type(site.node.input[0]) == TensorProto.INT32:
        return "no code for it with integers"
    return None
