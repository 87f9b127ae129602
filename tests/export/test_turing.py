"""The form of a graph that Turing can run computes what the graph computes."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import onnxruntime as ort
import pytest
from onnx import numpy_helper, parser

from pocketgenie.export.lint import lint
from pocketgenie.export.turing import turing_form, without_float_products

CASES = {
    "weights": "g (float[2,3,4,8] x) => (float[2,3,4,5] y) { y = MatMul(x, w85) }",
    "weights and bias": "g (float[4,8] x) => (float[4,5] y) { y = Gemm(x, w85, b5) }",
    "transposed": "g (float[4,8] x) => (float[4,5] y) { y = Gemm<transB=1>(x, w58, b5) }",
    "a bias for each row": "g (float[4,8] x) => (float[4,5] y) { y = Gemm(x, w85, b41) }",
    "attention": "g (float[2,4,8] x, float[2,8,6] z) => (float[2,4,6] y) { y = MatMul(x, z) }",
    "broadcast": "g (float[2,3,4,8] x, float[8,6] z) => (float[2,3,4,6] y) { y = MatMul(x, z) }",
}
WEIGHTS = {"w85": (8, 5), "w58": (5, 8), "b5": (5,), "b41": (4, 1)}


@pytest.mark.parametrize("text", CASES.values(), ids=CASES.keys())
def test_products_are_gone_and_values_stay(text):
    rng = np.random.default_rng(0)
    model = parser.parse_model(f'<ir_version: 10, opset_import: ["": 20]>\n{text}')
    for name, shape in WEIGHTS.items():
        if any(name in node.input for node in model.graph.node):
            array = rng.standard_normal(shape, np.float32)
            model.graph.initializer.append(numpy_helper.from_array(array, name))
    inputs = {
        value.name: rng.standard_normal(
            [dim.dim_value for dim in value.type.tensor_type.shape.dim], np.float32
        )
        for value in model.graph.input
    }
    wanted = _run(model, inputs)
    rewritten = without_float_products(model)
    onnx.checker.check_model(rewritten, full_check=True)
    assert lint(rewritten, ("7.5",)) == []
    np.testing.assert_allclose(_run(rewritten, inputs), wanted, atol=1e-5)


def test_half_products_are_left_alone():
    model = parser.parse_model(
        '<ir_version: 10, opset_import: ["": 20]>\n'
        "g (float16[4,8] x, float16[8,6] z) => (float16[4,6] y) { y = MatMul(x, z) }"
    )
    assert [node.op_type for node in without_float_products(model).graph.node] == ["MatMul"]


def test_a_whole_graph_in_its_file(tiny_bundle: Path, tmp_path: Path):
    """With float frames and logits alike to rounding."""
    for name in ("decode", "logits"):
        source = tiny_bundle / f"{name}.onnx"
        assert lint(onnx.load(source, load_external_data=False), ("7.5",))
        target = turing_form(source, tmp_path)
        assert lint(onnx.load(target), ("7.5",)) == []
        inputs = {}
        for value in onnx.load(source, load_external_data=False).graph.input:
            kind = onnx.helper.tensor_dtype_to_np_dtype(value.type.tensor_type.elem_type)
            inputs[value.name] = np.ones([dim.dim_value for dim in value.type.tensor_type.shape.dim], kind)
        found, wanted = (ort.InferenceSession(path).run(None, inputs)[0] for path in (target, source))
        np.testing.assert_allclose(found, wanted, atol=1 if found.dtype == np.uint8 else 1e-4)


def _run(model: onnx.ModelProto, inputs: dict[str, np.ndarray]) -> np.ndarray:
    return ort.InferenceSession(model.SerializeToString()).run(None, inputs)[0]
