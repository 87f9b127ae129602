"""Mixed precision, written into the graph: products in float16, everything else in float32.

TensorRT is strongly typed and does what the graph says, so the types are decided here, once, for every
runtime. Keys and values are rounded to float16 before they are multiplied in any case: the memory is
float16 from the ring to the product, and moving it costs half the bytes.
"""

from __future__ import annotations

from collections import defaultdict

import numpy as np
import onnx
from onnx import NodeProto, TensorProto, helper, numpy_helper

from pocketgenie.errors import UserError

PRODUCTS = {"MatMul", "Gemm", "Conv"}
MOVES = {
    *("Concat", "DequantizeLinear", "Expand", "Flatten", "Gather", "GatherND", "Identity", "QuantizeLinear"),
    *("Reshape", "Slice", "Split", "Squeeze", "Transpose", "Unsqueeze"),
}
"""Operators that do no arithmetic that float16 could spoil: they run in the type that takes fewest Casts."""
FLOAT, HALF = int(TensorProto.FLOAT), int(TensorProto.FLOAT16)
SUFFIX = {FLOAT: ".float", HALF: ".half"}
LARGE_TABLE = 1 << 16
"""Elements from which on a table that is only looked up is stored in float16; smaller ones save nothing."""


def to_fp16(model: onnx.ModelProto) -> onnx.ModelProto:
    """A float32 graph, weights inside -> the same with products in float16; `model` stays as it is.

    Inputs `*memory` and outputs `*entry` become float16, all others keep their types. Products that decide
    (`deciding`) stay float32. Raises UserError where nothing can be converted or a weight is too large.
    """
    mixed = onnx.ModelProto()
    mixed.CopyFrom(model)
    types = _Types(mixed)
    if not types.products:
        raise UserError("the graph has no float32 product to convert to float16; export it as fp32")
    _rewrite(mixed.graph, types)
    return mixed


def is_memory(name: str) -> bool:
    """Whether an input or output of a graph is a ring's memory or an entry of it."""
    return name.endswith(("memory", "entry"))


def float_tensors(model: onnx.ModelProto) -> set[str]:
    """Names of all float32 tensors: inputs, constants and results."""
    graph = onnx.shape_inference.infer_shapes(model, strict_mode=True).graph
    values = (*graph.input, *graph.output, *graph.value_info)
    found = {value.name for value in values if value.type.tensor_type.elem_type == FLOAT}
    return found | {tensor.name for tensor in graph.initializer if tensor.data_type == FLOAT}


def deciding(graph: onnx.GraphProto, floats: set[str]) -> set[str]:
    """Tensors from which a choice is made without another product between: logits, noise, latents, pixels.

    A choice is a node that turns floats into something else (ArgMax, a comparison, a Cast to integers), or an
    output that is judged as a float (logits, distances). Half a unit in float16's last place can turn it.
    """
    found = {output.name for output in graph.output if output.name in floats and not is_memory(output.name)}
    for node in reversed(graph.node):
        if node.op_type in PRODUCTS:
            continue
        chooses = not floats.intersection(node.output) and node.op_type != "QuantizeLinear"
        if floats.intersection(node.input) if chooses else found.intersection(node.output):
            found.update(node.input)
    return found


class _Types:
    """Which type every node computes in, and so in which every tensor is made."""

    def __init__(self, model: onnx.ModelProto) -> None:
        self.graph = model.graph
        self.floats = float_tensors(model)
        self.decides = deciding(self.graph, self.floats)
        self.constants = {tensor.name: tensor for tensor in self.graph.initializer}
        self.products = {
            node.output[0]
            for node in self.graph.node
            if node.op_type in PRODUCTS and node.output[0] in self.floats - self.decides
        }
        self.wanted = self._wanted()
        self.home = {value.name: self.of_edge(value.name) for value in self.graph.input}
        for node in self.graph.node:
            kind = self._kind(node)
            self.home |= {name: kind for name in node.output}

    def of_edge(self, name: str) -> int:
        """The type of a graph's float input or output."""
        return HALF if is_memory(name) else FLOAT

    def of_node(self, node: NodeProto) -> int:
        return self.home[node.output[0]]

    def _wanted(self) -> dict[str, set[int]]:
        """The types in which each tensor is read, seen through nodes that only move it."""
        wanted: dict[str, set[int]] = defaultdict(set)
        for output in self.graph.output:
            wanted[output.name].add(self.of_edge(output.name))
        for node in reversed(self.graph.node):
            kinds = {HALF if node.output[0] in self.products else FLOAT}
            if node.op_type in MOVES:
                kinds = {kind for name in node.output for kind in wanted[name]}
            for name in node.input:
                wanted[name] |= kinds
        return wanted

    def _kind(self, node: NodeProto) -> int:
        if node.op_type not in MOVES:
            return HALF if node.output[0] in self.products else FLOAT
        made = {self.home[name] for name in node.input if name in self.floats - self.constants.keys()}
        if made == {HALF} or self.wanted[node.output[0]] == {HALF}:
            return HALF
        tables = [self.constants[name] for name in node.input if name in self.floats & self.constants.keys()]
        large = not made and any(np.prod(table.dims) >= LARGE_TABLE for table in tables)
        return HALF if large and node.output[0] not in self.decides else FLOAT


def _rewrite(graph: onnx.GraphProto, types: _Types) -> None:
    nodes: list[NodeProto] = []
    constants = [tensor for tensor in graph.initializer if tensor.name not in types.floats]
    made: dict[tuple[str, int], str] = {}

    def read(name: str, kind: int) -> str:
        """The tensor in the type wanted: as it is, a constant converted, or a Cast; each made once."""
        if name not in types.floats:
            return name
        if (name, kind) not in made:
            constant = types.constants.get(name)
            made[name, kind] = name if constant and kind == FLOAT else name + SUFFIX[kind]
            if constant:
                constants.append(_constant(constant, made[name, kind], kind))
            else:
                nodes.append(_cast(made[name, types.home[name]], made[name, kind], kind))
        return made[name, kind]

    for value in graph.input:
        if value.name in types.floats:
            value.type.tensor_type.elem_type = types.of_edge(value.name)
            made[value.name, types.home[value.name]] = value.name
    ends = {value.name: types.of_edge(value.name) for value in graph.output if value.name in types.floats}
    for node in graph.node:
        kind = types.of_node(node)
        node.input[:] = [read(name, kind) for name in node.input]
        for place, name in enumerate(node.output):
            if name in types.floats:
                made[name, kind] = name if ends.get(name, kind) == kind else name + SUFFIX[kind]
                node.output[place] = made[name, kind]
        nodes.append(node)
    for value in graph.output:
        if value.name in ends:
            value.type.tensor_type.elem_type = ends[value.name]
            made_in = types.home[value.name]
            if made_in != ends[value.name]:
                nodes.append(_cast(made[value.name, made_in], value.name, ends[value.name]))
    for field, content in ((graph.node, nodes), (graph.initializer, constants), (graph.value_info, [])):
        kept = list(content)  # before it is cleared
        del field[:]
        field.extend(kept)


def _cast(name: str, result: str, kind: int) -> NodeProto:
    return helper.make_node("Cast", [name], [result], name=f"cast_{result}", to=kind)


def _constant(tensor: TensorProto, name: str, kind: int) -> TensorProto:
    """A float32 constant under a new name, in float32 or float16."""
    values = numpy_helper.to_array(tensor)
    if kind == HALF:
        with np.errstate(over="ignore"):
            values = values.astype(np.float16)
        if not np.isfinite(values).all():
            raise UserError(
                f"the weight {tensor.name} exceeds the range of float16; export with --precision fp32"
            )
    return numpy_helper.from_array(values, name)
