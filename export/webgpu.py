"""A world's graph as WebGPU runs it: float32 products, 32-bit integers, nothing that falls back to the CPU.

ONNX Runtime's WebGPU provider computes no 64-bit integers and no integer products, and reads float16 only on
cards that offer it to browsers. The weights stay as small as they are stored: each is widened by nodes that
depend on constants alone, which ONNX Runtime folds once, when it loads the graph.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import onnx
from onnx import NodeProto, TensorProto, helper, numpy_helper

from pocketgenie.quantize.products import drop_unused, replace

FLOAT, INT32, INT64 = TensorProto.FLOAT, TensorProto.INT32, TensorProto.INT64
LOOK_UPS = ("Gather", "GatherND")
SHAPING = {
    "Unsqueeze",
    "Squeeze",
    "Reshape",
    "Expand",
    "Flatten",
    "Slice",
    "Transpose",
    "Identity",
    "ReduceSum",
}
"""Operators whose first input is data, and whose others are lengths and axes, which stay 64-bit constants."""
ARITHMETIC = {"Add", "Sub", "Mul", "Concat", "Where", "Equal", "Less", "Greater", "Min", "Max", "Neg"}
"""Operators all of whose inputs are data."""


def for_webgpu(model: onnx.ModelProto) -> onnx.ModelProto:
    """The same graph with float32 products, wide tables and 32-bit integers; `model` stays as it is."""
    copy = onnx.ModelProto()
    copy.CopyFrom(model)
    replace(copy.graph.node, _float_products(copy.graph))
    copy = wide_tables(copy)
    _Narrowing(copy).run()
    _drop_dead(copy.graph)
    drop_unused(copy.graph)
    del copy.graph.value_info[:]
    return copy


def _float_products(graph: onnx.GraphProto) -> list[NodeProto]:
    """MatMulInteger with what quantize_dynamic puts around it -> MatMul with the dequantized weights."""
    makers = {name: node for node in graph.node for name in node.output}
    readers: dict[str, list[NodeProto]] = {}
    for node in graph.node:
        for name in node.input:
            readers.setdefault(name, []).append(node)
    made: dict[str, NodeProto] = {}
    widened: dict[str, list[NodeProto]] = {}
    for node in graph.node:
        if node.op_type != "MatMulInteger":
            continue
        source = makers[node.input[0]]
        (cast,) = readers[node.output[0]]
        (scaled,) = readers[cast.output[0]]
        scales = makers[next(name for name in scaled.input if name != cast.output[0])]
        scale = next(name for name in scales.input if name != source.output[1])
        weight = node.input[1]
        wide = f"{weight}.wide"
        widened[wide] = [
            helper.make_node("Cast", [weight], [f"{wide}.levels"], name=f"widen {weight}", to=FLOAT),
            helper.make_node("Mul", [f"{wide}.levels", scale], [wide], name=f"scale {weight}"),
        ]
        result = scaled.output[0]
        made[result] = helper.make_node("MatMul", [source.input[0], wide], [result], name=node.name)
    return [
        *(node for nodes in widened.values() for node in nodes),
        *(made.get(node.output[0], node) for node in graph.node),
    ]


def wide_tables(model: onnx.ModelProto) -> onnx.ModelProto:
    """The same graph with narrow tables widened as they are loaded, not row by row as they are looked up.

    The GPU reads neither int8 nor, on many machines, float16; wasm has no instruction that widens the latter.
    `model` stays as it is.
    """
    copy = onnx.ModelProto()
    copy.CopyFrom(model)
    graph = copy.graph
    tables = {t.name for t in graph.initializer if t.data_type in (TensorProto.FLOAT16, TensorProto.INT8)}
    widened: dict[str, NodeProto] = {}
    looked_up: set[str] = set()
    nodes = []
    for node in graph.node:
        if node.op_type in LOOK_UPS and node.input[0] in tables:
            wide = f"{node.input[0]}.wide"
            widened[wide] = helper.make_node("Cast", [node.input[0]], [wide], name=f"widen {wide}", to=FLOAT)
            node.input[0] = wide
            looked_up.add(node.output[0])
        elif node.op_type == "Cast" and node.input[0] in looked_up:
            node = helper.make_node("Identity", [*node.input], [*node.output], name=node.name)
        nodes.append(node)
    replace(graph.node, [*widened.values(), *nodes])
    del graph.value_info[:]
    return copy


class _Narrowing:
    """Makes a 32-bit twin of every 64-bit value that can have one, and lets all readers take the twin."""

    def __init__(self, model: onnx.ModelProto) -> None:
        inferred = onnx.shape_inference.infer_shapes(model, data_prop=True).graph
        self.graph = model.graph
        values = (*inferred.value_info, *inferred.input, *inferred.output)
        self.types = {value.name: value.type.tensor_type.elem_type for value in values}
        self.shapes = {
            value.name: [dim.dim_value for dim in value.type.tensor_type.shape.dim] for value in values
        }
        self.constants = {tensor.name: tensor for tensor in self.graph.initializer}
        self.types |= {name: tensor.data_type for name, tensor in self.constants.items()}
        self.shapes |= {name: list(tensor.dims) for name, tensor in self.constants.items()}
        self.twins: dict[str, str] = {}
        self.nodes: list[NodeProto] = []

    def run(self) -> None:
        """Rewrite the graph in place; what nothing reads any more is left for the caller to drop."""
        for node in list(self.graph.node):
            special: dict[str, Callable[[NodeProto], bool]] = {
                "Cast": self._cast,
                "ArgMax": self._arg_extreme,
                "ArgMin": self._arg_extreme,
                "GatherND": self._gather_nd,
                "ScatterND": self._scatter_nd,
            }
            done = special.get(node.op_type, self._plain)(node)
            if not done:
                self.nodes.append(node)
        replace(self.graph.node, self.nodes)

    def add(self, operator: str, inputs: list[str], result: str, **settings: Any) -> str:
        """Append a node."""
        self.nodes.append(helper.make_node(operator, inputs, [result], name=result, **settings))
        return result

    def constant(self, name: str, values: Any) -> str:
        """Append a constant, once."""
        if name not in self.constants:
            self.constants[name] = numpy_helper.from_array(np.asarray(values), name)
            self.graph.initializer.append(self.constants[name])
        return name

    def twin(self, name: str) -> str | None:
        """The 32-bit twin of a 64-bit value, if it has one; a constant gets its own."""
        if name in self.twins or self.types.get(name) != INT64:
            return self.twins.get(name)
        if name not in self.constants:
            return None
        values = numpy_helper.to_array(self.constants[name]).clip(-(2**31), 2**31 - 1)
        self.twins[name] = self.constant(f"{name}.int32", values.astype(np.int32))
        return self.twins[name]

    def _cast(self, node: NodeProto) -> bool:
        (source,), (result,) = node.input, node.output
        to = next(entry.i for entry in node.attribute if entry.name == "to")
        if to == INT64:
            narrow = source if self.types.get(source) == INT32 else None
            self.twins[result] = narrow or self.add("Cast", [source], f"{result}.int32", to=INT32)
            return False
        if self.types.get(source) == INT64 and (narrow := self.twin(source)):
            if to == INT32:
                self.add("Identity", [narrow], result)
            else:
                self.add("Cast", [narrow], result, to=to)
            return True
        return False

    def _arg_extreme(self, node: NodeProto) -> bool:
        """The lowest index of the largest or smallest value, in floats: exact up to 2^24 values."""
        (source,), (result,) = node.input, node.output
        settings = {entry.name: entry.i for entry in node.attribute}
        shape = self.shapes[source]
        if settings.get("axis", 0) not in (-1, len(shape) - 1) or settings.get("select_last_index"):
            return False
        axis = self.constant("last axis", np.array([-1], np.int64))
        places = self.constant(f"{shape[-1]} places", np.arange(shape[-1], dtype=np.float32))
        beyond = self.constant("beyond", np.float32(1 << 24))
        extreme = {"ArgMax": "ReduceMax", "ArgMin": "ReduceMin"}[node.op_type]
        best = self.add(extreme, [source, axis], f"{result}.best", keepdims=1)
        here = self.add("Equal", [source, best], f"{result}.here")
        candidates = self.add("Where", [here, places, beyond], f"{result}.candidates")
        keeps = settings.get("keepdims", 1)
        place = self.add("ReduceMin", [candidates, axis], f"{result}.place", keepdims=keeps)
        self.twins[result] = self.add("Cast", [place], f"{result}.int32", to=INT32)
        return False

    def _gather_nd(self, node: NodeProto) -> bool:
        """Rows by an index of one number are a Gather."""
        data, index = node.input
        if self.shapes[index][-1] != 1 or any(entry.i for entry in node.attribute):
            return False
        narrow = self.twin(index)
        if narrow is None:
            return False
        if index in self.constants:
            rows = numpy_helper.to_array(self.constants[index])[..., 0].astype(np.int32)
            flat = self.constant(f"{index}.rows", rows)
        else:
            shape = self.constant(f"{index}.shape", np.array(self.shapes[index][:-1], np.int64))
            flat = self.add("Reshape", [narrow, shape], f"{node.output[0]}.rows")
        return self._gather(data, flat, node.output[0], 0)

    def _gather(self, data: str, index: str, result: str, axis: int) -> bool:
        if self.types.get(data) == INT64 and (narrow := self.twin(data)):
            self.twins[result] = self.add("Gather", [narrow, index], f"{result}.int32", axis=axis)
            return False
        self.add("Gather", [data, index], result, axis=axis)
        return True

    def _scatter_nd(self, node: NodeProto) -> bool:
        """Rows at places known beforehand: each place takes its update, or stays."""
        data, index, updates = node.input
        if index not in self.constants or self.shapes[index][-1] != 1 or node.attribute:
            return False
        if self.types.get(data) == INT64 and not (self.twin(data) and self.twin(updates)):
            return False
        rows = numpy_helper.to_array(self.constants[index]).reshape(-1)
        length, rank = self.shapes[data][0], len(self.shapes[data])
        taken = np.zeros(length, np.int32)
        taken[rows] = np.arange(len(rows))
        new = np.zeros(length, bool)
        new[rows] = True
        result = node.output[0]
        where = self.constant(f"{index}.new", new.reshape(-1, *[1] * (rank - 1)))
        wide = self.types.get(data) == INT64
        old, values = (self.twins[data], self.twins[updates]) if wide else (data, updates)
        spread = self.add(
            "Gather", [values, self.constant(f"{index}.taken", taken)], f"{result}.spread", axis=0
        )
        kept = self.add("Where", [where, spread, old], f"{result}.int32" if wide else result)
        if wide:
            self.twins[result] = kept
        return not wide

    def _plain(self, node: NodeProto) -> bool:
        if node.op_type == "Gather":
            index = node.input[1]
            narrow = self.twin(index) if self.types.get(index) == INT64 else index
            axis = next((entry.i for entry in node.attribute if entry.name == "axis"), 0)
            return bool(narrow) and self._gather(node.input[0], str(narrow), node.output[0], axis)
        if node.op_type == "GatherElements" and (narrow := self.twin(node.input[1])):
            node.input[1] = narrow
            return False
        data = list(node.input[:1]) if node.op_type in SHAPING else list(node.input)
        wide = [name for name in data if self.types.get(name) == INT64]
        if not wide or node.op_type not in SHAPING | ARITHMETIC or not all(self.twin(name) for name in wide):
            return False
        made = NodeProto()
        made.CopyFrom(node)
        made.input[:] = [*(self.twins.get(name, name) for name in data), *node.input[len(data) :]]
        if all(self.types.get(name) != INT64 for name in node.output):  # a comparison
            self.nodes.append(made)
            return True
        made.output[:] = [f"{name}.int32" for name in node.output]
        self.twins |= {name: f"{name}.int32" for name in node.output}
        self.nodes.append(made)
        return False


def _drop_dead(graph: onnx.GraphProto) -> None:
    """Remove nodes that no output depends on."""
    needed = {value.name for value in graph.output}
    kept: list[NodeProto] = []
    for node in reversed(graph.node):
        if needed.intersection(node.output):
            needed.update(node.input)
            kept.append(node)
    replace(graph.node, kept[::-1])
