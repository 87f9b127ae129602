"""Every node of an ONNX model, subgraphs and functions included, with what is known where it stands."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from typing import Any, Final

import numpy as np
from onnx import (
    AttributeProto,
    GraphProto,
    ModelProto,
    NodeProto,
    TensorProto,
    helper,
    inliner,
    numpy_helper,
    shape_inference,
)

CASTS: Final = frozenset({"Cast", "CastLike"})


@dataclass(frozen=True)
class Scope:
    """A graph or a subgraph: the values that its nodes see."""

    outputs: frozenset[str]
    """Names of the whole model's outputs."""
    types: dict[str, int] = field(default_factory=dict)
    shapes: dict[str, tuple[int, ...]] = field(default_factory=dict)
    """0 where a dimension is not fixed."""
    constants: dict[str, TensorProto] = field(default_factory=dict)
    makers: dict[str, NodeProto] = field(default_factory=dict)
    """By the names of what they make."""
    folded: set[str] = field(default_factory=set)
    """uint8 values that follow from constants alone."""

    def inner(self) -> Scope:
        """What a subgraph sees: all of this, and what it adds itself."""
        return Scope(
            self.outputs,
            self.types.copy(),
            self.shapes.copy(),
            self.constants.copy(),
            self.makers.copy(),
            self.folded.copy(),
        )

    def keep(self, name: str, tensor: TensorProto) -> None:
        """Note a constant."""
        self.constants[name] = tensor
        self.types[name] = tensor.data_type
        if tensor.data_type == TensorProto.UINT8:
            self.folded.add(name)


@dataclass(frozen=True)
class Site:
    """One node where it stands, and the compute capabilities it is to run on."""

    node: NodeProto
    scope: Scope
    capabilities: frozenset[str]

    @property
    def operator(self) -> str:
        """Name of the operator, with its domain where that is not ONNX's own."""
        own = self.node.domain in ("", "ai.onnx")
        return self.node.op_type if own else f"{self.node.domain}.{self.node.op_type}"

    @property
    def name(self) -> str:
        """The node's name; where it has none, that of its first output."""
        return self.node.name or next(iter(self.node.output), "")

    def source(self, place: int) -> str:
        """The name of an input, "" where it is left out; Identity nodes are looked through."""
        name = self.node.input[place] if place < len(self.node.input) else ""
        while (maker := self.scope.makers.get(name)) is not None and maker.op_type == "Identity":
            name = maker.input[0]
        return name

    def maker(self, place: int) -> str:
        """The operator that makes an input; "" for inputs of the graph and constants."""
        maker = self.scope.makers.get(self.source(place))
        return maker.op_type if maker else ""

    def type(self, name: str) -> int:
        return self.scope.types.get(name, TensorProto.UNDEFINED)

    @property
    def types(self) -> set[int]:
        return {self.type(name) for name in (*self.node.input, *self.node.output)}

    def shape(self, place: int) -> tuple[int, ...]:
        return self.scope.shapes.get(self.node.input[place], ())

    def constant(self, name: str) -> np.ndarray[Any, Any] | None:
        """Its value; None where it is computed, or kept outside of the model."""
        tensor = self.scope.constants.get(name)
        if tensor is None or tensor.data_location == TensorProto.EXTERNAL:
            return None
        return numpy_helper.to_array(tensor)

    def attribute(self, name: str) -> Any:
        """Its value; 0 where it is not set."""
        found = (item for item in self.node.attribute if item.name == name)
        return next((helper.get_attribute_value(item) for item in found), 0)


def sites(model: ModelProto, capabilities: frozenset[str]) -> Iterator[Site]:
    """Every node, in order, a subgraph's after the node that holds it. External weights may be absent."""
    if model.functions:
        model = inliner.inline_local_functions(model)
    model = shape_inference.infer_shapes(model)
    outer = Scope(frozenset(value.name for value in model.graph.output))
    for node, scope in _walk(model.graph, outer):
        yield Site(node, scope, capabilities)


def _walk(graph: GraphProto, scope: Scope) -> Iterator[tuple[NodeProto, Scope]]:
    for value in (*graph.input, *graph.value_info, *graph.output):
        scope.types[value.name] = value.type.tensor_type.elem_type
        dims = value.type.tensor_type.shape.dim
        scope.shapes[value.name] = tuple(dim.dim_value for dim in dims)
    for tensor in graph.initializer:
        scope.keep(tensor.name, tensor)
    for node in graph.node:
        scope.makers.update(dict.fromkeys(node.output, node))
        if node.op_type == "Constant" and (tensor := _constant(node.attribute[0])) is not None:
            scope.keep(node.output[0], tensor)
        read, made = (_uint8(scope, names) for names in (node.input, node.output))
        if read and read <= scope.folded and node.op_type not in CASTS:
            scope.folded.update(made)
        yield node, scope
        for attribute in node.attribute:
            if attribute.type == AttributeProto.GRAPH:
                yield from _walk(attribute.g, scope.inner())


def _uint8(scope: Scope, names: Iterable[str]) -> set[str]:
    return {name for name in names if scope.types.get(name) == TensorProto.UINT8}


def _constant(attribute: AttributeProto) -> TensorProto | None:
    """What a Constant node holds; None for text and sparse tensors."""
    if attribute.name == "value":
        return attribute.t
    value = np.asarray(helper.get_attribute_value(attribute))
    return numpy_helper.from_array(value) if value.dtype.kind in "if" else None
