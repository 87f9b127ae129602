"""Constants stored in fewer bytes than they are computed in: looked-up tables in int8, the rest in float16
where that loses nothing. ONNX Runtime widens the latter once, when it loads the graph."""

from __future__ import annotations

import numpy as np
import onnx
from onnx import NodeProto, TensorProto, helper, numpy_helper

from pocketgenie.quantize.halves import LARGE_TABLE, deciding, float_tensors
from pocketgenie.quantize.products import drop_unused, replace
from pocketgenie.runtimes.session import Array

LARGE = 1024
"""Elements of a constant from which on float16 is worth a node."""
LEVELS = 127
LOOK_UPS = ("Gather", "GatherND")


def narrow_tables(model: onnx.ModelProto) -> onnx.ModelProto:
    """The same float32 graph with large tables of which rows are looked up in int8, a scale for each row; the
    noise of sampling (a table from which a choice is made) in float16. Only the rows looked up are widened.

    On the embedded world int8 embeddings cost a KL of 0.00003, and the noise is off by 2^-11 of itself, where
    int8 products move a logit by 0.1. `model` stays as it is.
    """
    copy = onnx.ModelProto()
    copy.CopyFrom(model)
    graph = copy.graph
    decides = deciding(graph, float_tensors(copy))
    tables = {tensor.name: tensor for tensor in graph.initializer if _is_table(tensor)}
    nodes: list[NodeProto] = []
    for node in graph.node:
        if node.op_type in LOOK_UPS and node.input[0] in tables and not any(a.i for a in node.attribute):
            narrow = _halves if node.output[0] in decides else _rows  # no axis but the first, no batch
            constants, made = narrow(node, numpy_helper.to_array(tables[node.input[0]]))
            known = {tensor.name for tensor in graph.initializer}
            graph.initializer.extend(tensor for tensor in constants if tensor.name not in known)
            nodes += made
        else:
            nodes.append(node)
    replace(graph.node, nodes)
    drop_unused(graph)
    return copy


def _halves(node: NodeProto, table: Array) -> tuple[list[TensorProto], list[NodeProto]]:
    name, result = f"{node.input[0]}.half", node.output[0]
    looked_up = helper.make_node(node.op_type, [name, node.input[1]], [f"{result}.half"], name=node.name)
    constant = numpy_helper.from_array(table.astype(np.float16), name)
    return [constant], [looked_up, _widen(f"{result}.half", result)]


def _rows(node: NodeProto, table: Array) -> tuple[list[TensorProto], list[NodeProto]]:
    name, result = node.input[0], node.output[0]
    scales = np.maximum(np.abs(table).max(-1, keepdims=True) / LEVELS, np.finfo(np.float32).tiny)
    parts = {"rows": np.round(table / scales).astype(np.int8), "scales": scales.astype(np.float32)}
    nodes = [
        helper.make_node(
            node.op_type, [f"{name}.{part}", node.input[1]], [f"{result}.{part}"], name=f"{node.name}.{part}"
        )
        for part in parts
    ]
    product = helper.make_node("Mul", [f"{result}.wide", f"{result}.scales"], [result], name=node.name)
    constants = [numpy_helper.from_array(values, f"{name}.{part}") for part, values in parts.items()]
    return constants, [*nodes, _widen(f"{result}.rows", f"{result}.wide"), product]


def _widen(name: str, result: str) -> NodeProto:
    return helper.make_node("Cast", [name], [result], name=f"widen {result}", to=TensorProto.FLOAT)


def exact_in_float16(model: onnx.ModelProto) -> onnx.ModelProto:
    """The same graph with every large float32 constant that float16 holds exactly stored so, and a Cast.

    A checkpoint stored in float16 halves; of one in float32 hardly anything does. `model` stays as it is.
    """
    copy = onnx.ModelProto()
    copy.CopyFrom(model)
    graph = copy.graph
    casts: list[NodeProto] = []
    for tensor in graph.initializer:
        if tensor.data_type != TensorProto.FLOAT or np.prod(tensor.dims) < LARGE:
            continue
        values, name = numpy_helper.to_array(tensor), tensor.name
        with np.errstate(over="ignore"):
            halves = values.astype(np.float16)
        if np.array_equal(halves.astype(np.float32), values):
            tensor.CopyFrom(numpy_helper.from_array(halves, f"{name}.half"))
            casts.append(_widen(tensor.name, name))
    replace(graph.node, [*casts, *graph.node])
    return copy


def _is_table(tensor: TensorProto) -> bool:
    return (
        tensor.data_type == TensorProto.FLOAT
        and len(tensor.dims) == 2
        and np.prod(tensor.dims) >= LARGE_TABLE
    )
