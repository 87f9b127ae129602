"""L0, and the operations of a frame: what the exported files say. No torch; `onnx` only if installed."""

from __future__ import annotations

from collections import Counter
from math import prod
from pathlib import Path
from typing import Any

from pocketgenie.errors import UserError
from pocketgenie.export.bundle import Bundle
from pocketgenie.genie.spec import TensorSpec
from pocketgenie.runtimes.results import ArtefactFigures

LEAST_QUANTIZED = {"int8": 0.8, "int4": 0.8, "mixed": 0.0}
"""Share of the products with weights that must have weights of 8 bits or less, and one at least: all but a
few that decide (quantize/halves.py); of a mixture, what the search found."""
ORT_TYPES = {"uint8": "uint8", "int32": "int32", "float32": "float", "float16": "float16"}
Shapes = dict[str, tuple[int, ...]]

PRODUCTS = {"MatMul", "MatMulInteger", "MatMulNBits", "Gemm", "Conv"}
"""Operators whose multiply-adds are counted. The others of an export do little per element."""
UNKNOWN_PRODUCTS = {"Attention", "ConvTranspose", "Einsum", "MultiHeadAttention"} | {"If", "Loop", "Scan"}
"""Operators that may hide products; a graph that has one is not counted rather than counted wrong."""


def inspect(bundle: Bundle) -> ArtefactFigures:
    """Every graph file's inputs and outputs, as ONNX Runtime sees them, against the manifest; operators."""
    import onnxruntime as ort

    options = ort.SessionOptions()
    options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_DISABLE_ALL
    options.intra_op_num_threads, options.log_severity_level = 1, 3
    problems: list[str] = []
    for entry in bundle.manifest.graphs.values():
        path = str(bundle.path(entry.file))
        session = ort.InferenceSession(path, options, providers=["CPUExecutionProvider"])
        for wanted, held in ((entry.inputs, session.get_inputs()), (entry.outputs, session.get_outputs())):
            problems += _differences(entry.file, wanted, held)
    problems += _not_quantized(bundle)
    return ArtefactFigures(problems=tuple(problems), operators=_operators(bundle))


def _not_quantized(bundle: Bundle) -> list[str]:
    """A bundle that says that it is quantized and holds hardly a product with small weights; none to say
    without the `onnx` package."""
    precision = bundle.manifest.precision
    if precision not in LEAST_QUANTIZED or "play" not in bundle.manifest.graphs:
        return []
    try:
        import onnx

        from pocketgenie.quantize.proof import count_products
    except ImportError:
        return []
    file = bundle.manifest.graphs["play"].file
    done, weighted = count_products(onnx.load(bundle.path(file), load_external_data=False))
    if done and done >= LEAST_QUANTIZED[precision] * weighted:
        return []
    return [f"{file} has {done} of {weighted} products with weights quantized, which is not {precision}"]


def _differences(file: str, wanted: tuple[TensorSpec, ...], held: list[Any]) -> list[str]:
    promised = [(spec.name, f"tensor({ORT_TYPES[spec.dtype]})", spec.shape) for spec in wanted]
    found = [(one.name, one.type, tuple(one.shape)) for one in held]
    lacking = [f"{file} lacks {one}, which the manifest names" for one in promised if one not in found]
    return lacking + [f"{file} has {one}, unknown to the manifest" for one in found if one not in promised]


def _operators(bundle: Bundle) -> dict[str, dict[str, int]] | None:
    """Graph -> operator -> count, subgraphs included; None without the `onnx` package."""
    try:
        import onnx
    except ImportError:
        return None

    def count(graph: onnx.GraphProto) -> Counter[str]:
        counted = Counter(node.op_type for node in graph.node)
        for node in graph.node:
            for attribute in node.attribute:
                if attribute.type == onnx.AttributeProto.GRAPH:
                    counted += count(attribute.g)
        return counted

    return {
        name: dict(count(onnx.load(bundle.path(entry.file), load_external_data=False).graph))
        for name, entry in bundle.manifest.graphs.items()
    }


def gflop_per_frame(path: Path) -> float:
    """Matrix operations of one run of a graph in 10^9, a multiply-add counted as two.

    Products of constants alone, which a runtime folds, are left out. Raises UserError where that cannot be.
    """
    try:
        import onnx
    except ImportError:
        raise UserError("counting operations needs onnx; pip install 'pocketgenie[export]'") from None
    model = onnx.shape_inference.infer_shapes(onnx.load(path, load_external_data=False), data_prop=True)
    graph = model.graph
    shapes: Shapes = {
        value.name: tuple(dim.dim_value for dim in value.type.tensor_type.shape.dim)
        for value in (*graph.input, *graph.output, *graph.value_info)
    }
    shapes |= {tensor.name: tuple(tensor.dims) for tensor in graph.initializer}
    constant = {"", *(tensor.name for tensor in graph.initializer)}
    operations = 0
    for node in graph.node:
        if constant.issuperset(node.input):
            constant.update(node.output)
        elif node.op_type in UNKNOWN_PRODUCTS or model.functions:
            raise UserError(f"{path.name} has the operator {node.op_type}, whose operations are not counted")
        elif node.op_type in PRODUCTS:
            operations += 2 * _multiply_adds(node, shapes)
    return operations / 1e9


def _multiply_adds(node: Any, shapes: Shapes) -> int:
    """Elements of the result x the length of the sum behind each."""
    first, second = (shapes[name] for name in node.input[:2])
    if node.op_type == "Conv":  # weights [M, C / group, kH, kW]
        summed = prod(second[1:])
    elif node.op_type == "MatMulNBits":  # its weights are packed
        summed = next(a.i for a in node.attribute if a.name == "K")
    elif node.op_type == "Gemm" and any(a.name == "transA" and a.i for a in node.attribute):
        summed = first[0]
    else:
        summed = first[-1]
    result = shapes[node.output[0]]
    assert all(result) and summed, f"{node.op_type} {node.output[0]} has no static shape"
    return prod(result) * summed
