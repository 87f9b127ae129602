"""A world's graph as WebAssembly runs it fastest. It computes the same; `ort-cpu` plays these graphs as well.

Half of a frame there is not products. ONNX Runtime's LayerNormalization sums value by value, which nothing
vectorizes; its InstanceNormalization of the same rows does: 10 % of the embedded world's frame.
"""

from __future__ import annotations

from math import prod

import numpy as np
import onnx
from onnx import NodeProto, helper, numpy_helper

from pocketgenie.export.webgpu import wide_tables
from pocketgenie.quantize.products import replace
from pocketgenie.runtimes.session import Array

EPSILON = 1e-5  # where a LayerNormalization does not say its own


def for_wasm(model: onnx.ModelProto) -> onnx.ModelProto:
    """The same graph, its tables widened when loaded, its norms vectorized; `model` stays as it is."""
    made = wide_tables(model)
    graph = made.graph
    inferred = onnx.shape_inference.infer_shapes(made).graph
    shapes = {
        value.name: [dim.dim_value for dim in value.type.tensor_type.shape.dim]
        for value in (*inferred.value_info, *inferred.input, *inferred.output)
    }
    constants: dict[str, Array] = {}
    nodes: list[NodeProto] = []
    for node in graph.node:
        shape = shapes.get(node.input[0], []) if node.op_type == "LayerNormalization" else []
        settings = {entry.name: helper.get_attribute_value(entry) for entry in node.attribute}
        last = settings.get("axis", -1) in (-1, len(shape) - 1)
        if shape and all(shape) and last and len(node.output) == 1:
            nodes += _instance_norm(node, shape, settings.get("epsilon", EPSILON), constants)
        else:
            nodes.append(node)
    replace(graph.node, nodes)
    graph.initializer.extend(numpy_helper.from_array(values, name) for name, values in constants.items())
    return made


def _instance_norm(
    node: NodeProto, shape: list[int], epsilon: float, constants: dict[str, Array]
) -> list[NodeProto]:
    """The same norm: every row, as long as the last axis, is an instance of its own."""
    rows, width = prod(shape[:-1]), shape[-1]
    name, result = node.name or node.output[0], node.output[0]
    flat, back = f"{rows} x {width}", " x ".join(map(str, shape))
    constants[f"rows {flat}"] = np.array([1, rows, width], np.int64)
    constants[f"shape {back}"] = np.array(shape, np.int64)
    constants[f"ones {rows}"] = np.ones(rows, np.float32)
    constants[f"zeros {rows}"] = np.zeros(rows, np.float32)
    scaled = f"{result}.scaled" if len(node.input) > 2 and node.input[2] else result
    nodes = [
        helper.make_node("Reshape", [node.input[0], f"rows {flat}"], [f"{result}.rows"], name=f"{name}.rows"),
        helper.make_node(
            "InstanceNormalization",
            [f"{result}.rows", f"ones {rows}", f"zeros {rows}"],
            [f"{result}.even"],
            name=name,
            epsilon=epsilon,
        ),
        helper.make_node(
            "Reshape", [f"{result}.even", f"shape {back}"], [f"{result}.back"], name=f"{name}.back"
        ),
        helper.make_node("Mul", [f"{result}.back", node.input[1]], [scaled], name=f"{name}.scale"),
    ]
    if scaled != result:
        nodes.append(helper.make_node("Add", [scaled, node.input[2]], [result], name=f"{name}.shift"))
    return nodes
