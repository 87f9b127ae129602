"""Float32 products for Turing (rtx20): TensorRT for RTX has none there, but it has convolutions and sums.

Nothing else changes: fp16 graphs keep a few float32 products on purpose, and these stay float32.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import onnx
from onnx import ModelProto, NodeProto, TensorProto, helper, numpy_helper, shape_inference

WHOLE = 1 << 30
"""Bytes; a larger model is written with its weights beside it, since one file may hold 2 GB."""


def turing_form(source: Path, folder: Path) -> Path:
    """Write an ONNX file's form for Turing into `folder`, weights included -> its path."""
    model = without_float_products(onnx.load(source))
    target = folder / source.name
    large = model.ByteSize() > WHOLE
    onnx.save(model, target, save_as_external_data=large, location=f"{source.stem}.bin")
    return target


def without_float_products(model: ModelProto) -> ModelProto:
    """The same model, its weights inside, without the float32 MatMul and Gemm of its main graph: a 1 × 1 Conv
    where the weights are constant, otherwise products and a ReduceSum. Shapes must be static."""
    model = shape_inference.infer_shapes(model)
    rewriter = _Rewriter(model)
    nodes = [new for node in model.graph.node for new in rewriter.rewritten(node)]
    del model.graph.node[:]
    model.graph.node.extend(nodes)
    used = {name for node in nodes for name in node.input}
    kept = [tensor for tensor in (*model.graph.initializer, *rewriter.constants) if tensor.name in used]
    del model.graph.initializer[:]
    model.graph.initializer.extend(kept)
    return model


class _Rewriter:
    def __init__(self, model: ModelProto) -> None:
        graph = model.graph
        self.weights = {tensor.name: tensor for tensor in graph.initializer}
        self.types = {tensor.name: tensor.data_type for tensor in graph.initializer}
        self.shapes = {tensor.name: tuple(tensor.dims) for tensor in graph.initializer}
        for value in (*graph.input, *graph.value_info, *graph.output):
            self.types[value.name] = value.type.tensor_type.elem_type
            self.shapes[value.name] = tuple(dim.dim_value for dim in value.type.tensor_type.shape.dim)
        self.constants: list[TensorProto] = []

    def rewritten(self, node: NodeProto) -> list[NodeProto]:
        """The nodes that take a node's place."""
        if node.op_type not in ("MatMul", "Gemm") or self.types.get(node.input[0]) != TensorProto.FLOAT:
            return [node]
        options = {item.name: helper.get_attribute_value(item) for item in node.attribute}
        if options.get("transA") or options.get("alpha", 1) != 1 or options.get("beta", 1) != 1:
            return [node]
        if node.input[1] in self.weights and len(self.shapes[node.input[1]]) == 2:
            return self._convolved(node, bool(options.get("transB")))
        return [node] if node.op_type == "Gemm" else self._summed(node)

    def _convolved(self, node: NodeProto, transposed: bool) -> list[NodeProto]:
        """x [..., K] with weights [K, N]: every row is an image of one pixel and K channels."""
        x, product = node.input[0], node.output[0]
        array = numpy_helper.to_array(self.weights[node.input[1]])
        kernel_NK = array if transposed else array.T
        kernel = self._constant(f"{product}_kernel", np.ascontiguousarray(kernel_NK)[:, :, None, None])
        rows = self._constant(f"{product}_rows", np.array([-1, kernel_NK.shape[1], 1, 1]))
        shape = self._constant(f"{product}_shape", np.array(self.shapes[product]))
        biases = list(node.input[2:])
        added = bool(biases) and self.shapes[biases[0]] != kernel_NK.shape[:1]  # not one value per column
        pixels, made, flat = f"{product}_pixels", f"{product}_convolved", f"{product}_flat"
        nodes = [
            _node("Reshape", [x, rows], pixels),
            _node("Conv", [pixels, kernel, *([] if added else biases)], made),
            _node("Reshape", [made, shape], flat if added else product),
        ]
        return [*nodes, _node("Add", [flat, biases[0]], product)] if added else nodes

    def _summed(self, node: NodeProto) -> list[NodeProto]:
        """a [..., M, K] and b [..., K, N]: a [..., M, K, 1] times b [..., 1, K, N], summed over K."""
        (a, b), product = node.input, node.output[0]
        if min(len(self.shapes[a]), len(self.shapes[b])) < 2:
            return [node]
        columns, rows, terms = f"{product}_columns", f"{product}_rows", f"{product}_terms"
        return [
            _node("Unsqueeze", [a, self._constant(f"{columns}_axis", np.array([-1]))], columns),
            _node("Unsqueeze", [b, self._constant(f"{rows}_axis", np.array([-3]))], rows),
            _node("Mul", [columns, rows], terms),
            _node("ReduceSum", [terms, self._constant(f"{terms}_axis", np.array([-2]))], product, keepdims=0),
        ]

    def _constant(self, name: str, value: np.ndarray[Any, Any]) -> str:
        self.constants.append(numpy_helper.from_array(value, name))
        return name


def _node(operator: str, inputs: list[str], output: str, **options: Any) -> NodeProto:
    return helper.make_node(operator, inputs, [output], name=output, **options)
