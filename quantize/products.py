"""The products with constant weights of a graph: which there are, to which layer each belongs, and the one
form in which runtimes multiply integers fast (MatMul, with one product where several read the same tensor).
"""

from __future__ import annotations

import re
from collections import defaultdict
from typing import Literal

import numpy as np
import onnx
from onnx import NodeProto, TensorProto, helper, numpy_helper

Bits = Literal["fp32", "int8", "int4"]
"""What a product's weights are stored in."""
WEIGHTED = ("Gemm", "MatMul")
LAYER = re.compile(r"(?:transformer|encoder|decoder)\.blocks\.(\d+)\.(\w+)")
PART = re.compile(r"(?:^|\.)(dynamics|tokenizer\.encoder|tokenizer\.decoder|tokenizer|lam)\.(.+)")
OWN = {
    "tokenizer": {"patch_in": "encoder.in", "latent_out": "encoder.out", "latent_in": "decoder.in"}
    | {"patch_out": "decoder.out"},
    "dynamics": {"code_out": "dynamics.head", "feature_out": "dynamics.head"},
}
"""Parameters that are in no layer -> their group."""
REST = "rest"


def groups(model: onnx.ModelProto) -> dict[str, list[str]]:
    """Layer -> names of its products with constant weights, in the order in which they are computed.

    Layers are named alike in every graph of a world: dynamics.0.spatial, dynamics.0.temporal, dynamics.0.ffn,
    dynamics.head, decoder.in, decoder.0.spatial, ..., decoder.out, and so on. Products whose weights bear no
    known name are in `rest`.
    """
    found: dict[str, list[str]] = defaultdict(list)
    for node in products(model.graph):
        found[layer_of(node.input[1])].append(node.name)
    return dict(found)


def products(graph: onnx.GraphProto) -> list[NodeProto]:
    """The products whose second factor is a constant."""
    constants = {tensor.name for tensor in graph.initializer}
    return [node for node in graph.node if node.op_type in WEIGHTED and node.input[1] in constants]


def layer_of(weight: str) -> str:
    """The group of a weight by its name: `step.dynamics.transformer.blocks.0.ffn.1.weight` is of
    `dynamics.0.ffn`; what was computed from a parameter is named `PARAMETER/...` (export/onnx.py)."""
    named = PART.search(weight.split("/")[0])
    if named is None:
        return REST
    part, rest = named.groups()
    if layer := LAYER.search(weight):
        return ".".join((part.removeprefix("tokenizer."), *layer.groups()))
    return OWN.get(part, {}).get(rest.split(".")[0], REST if part == "tokenizer" else f"{part}.{REST}")


def merged(model: onnx.ModelProto) -> onnx.ModelProto:
    """The same graph with Gemm as MatMul (and Add), and with one MatMul and a Split where several of them
    read one tensor (queries, keys and values); `model` stays as it is.

    ONNX Runtime has its fast integer product for MatMul alone, and on x86 it fuses an int8 activation only
    where that has one reader. Products of different layers are never merged.
    """
    copy = onnx.ModelProto()
    copy.CopyFrom(model)
    _as_matmul(copy.graph)
    _merge(copy.graph)
    drop_unused(copy.graph)
    del copy.graph.value_info[:]
    return copy


def _as_matmul(graph: onnx.GraphProto) -> None:
    constants = {tensor.name: tensor for tensor in graph.initializer}
    nodes: list[NodeProto] = []
    turned: dict[str, str] = {}
    for node in graph.node:
        settings = {entry.name: helper.get_attribute_value(entry) for entry in node.attribute}
        plain = settings.get("alpha", 1.0) == settings.get("beta", 1.0) == 1.0 and not settings.get("transA")
        if node.op_type != "Gemm" or node.input[1] not in constants or not plain:
            nodes.append(node)
            continue
        weight = node.input[1]
        if settings.get("transB"):
            if weight not in turned:
                turned[weight] = f"{weight}/turned"
                values = np.ascontiguousarray(numpy_helper.to_array(constants[weight]).T)
                graph.initializer.append(numpy_helper.from_array(values, turned[weight]))
            weight = turned[weight]
        biases = list(node.input[2:])
        made = f"{node.output[0]}.product" if biases else node.output[0]
        nodes.append(helper.make_node("MatMul", [node.input[0], weight], [made], name=node.name))
        if biases:
            nodes.append(helper.make_node("Add", [made, *biases], [*node.output], name=f"{node.name}.bias"))
    replace(graph.node, nodes)


def _merge(graph: onnx.GraphProto) -> None:
    constants = {tensor.name: tensor for tensor in graph.initializer}
    siblings: dict[tuple[str, str], list[NodeProto]] = defaultdict(list)
    for node in products(graph):
        if node.op_type == "MatMul":
            siblings[node.input[0], layer_of(node.input[1])].append(node)
    first = {found[0].output[0]: found for found in siblings.values() if len(found) > 1}
    others = {node.output[0] for found in first.values() for node in found[1:]}
    nodes: list[NodeProto] = []
    joined: dict[tuple[str, ...], str] = {}
    for node in graph.node:
        if node.output[0] not in first:
            nodes += [] if node.output[0] in others else [node]
            continue
        found = first[node.output[0]]
        weights = tuple(one.input[1] for one in found)
        if weights not in joined:
            joined[weights] = f"{weights[0]}+{len(weights) - 1}"
            values = [numpy_helper.to_array(constants[name]) for name in weights]
            graph.initializer.append(numpy_helper.from_array(np.concatenate(values, -1), joined[weights]))
        widths = np.array([constants[name].dims[-1] for name in weights], np.int64)
        made, sizes = f"{node.output[0]}.merged", f"{joined[weights]}.widths"
        if all(tensor.name != sizes for tensor in graph.initializer):
            graph.initializer.append(numpy_helper.from_array(widths, sizes))
        outputs = [one.output[0] for one in found]
        nodes.append(helper.make_node("MatMul", [node.input[0], joined[weights]], [made], name=node.name))
        nodes.append(helper.make_node("Split", [made, sizes], outputs, name=f"{node.name}.split", axis=-1))
    replace(graph.node, nodes)


def replace(field: object, content: list[NodeProto] | list[TensorProto]) -> None:
    """Put `content`, which may hold parts of it, in the place of a repeated field."""
    kept = list(content)
    del field[:]  # type: ignore[attr-defined]
    field.extend(kept)  # type: ignore[attr-defined]


def drop_unused(graph: onnx.GraphProto) -> None:
    """Remove the constants that no node reads."""
    used = {name for node in graph.node for name in node.input}
    replace(graph.initializer, [tensor for tensor in graph.initializer if tensor.name in used])
