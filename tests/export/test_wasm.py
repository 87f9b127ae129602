"""Graphs as WebAssembly runs them compute the same, without the norm that it is slow at."""

from __future__ import annotations

import numpy as np
import onnx
import onnxruntime as ort
import pytest
from onnx import TensorProto, helper, numpy_helper

from pocketgenie.export.wasm import for_wasm

GRAPHS = ("encode", "observe", "play", "logits", "infer_action")


def norm(shape: tuple[int, ...], biased: bool, **settings) -> onnx.ModelProto:
    rng = np.random.default_rng(0)
    constants = {"scale": rng.standard_normal(shape[-1]), "shift": rng.standard_normal(shape[-1])}
    inputs = ["x", *list(constants)[: 2 if biased else 1]]
    graph = helper.make_graph(
        [helper.make_node("LayerNormalization", inputs, ["y"], name="norm", **settings)],
        "g",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, shape)],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, shape)],
        [numpy_helper.from_array(constants[name].astype(np.float32), name) for name in inputs[1:]],
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=10)


def run(model: onnx.ModelProto, **inputs: np.ndarray) -> np.ndarray:
    return ort.InferenceSession(model.SerializeToString()).run(None, inputs)[0]


@pytest.mark.parametrize(
    ("shape", "biased", "settings"),
    [
        ((64, 256), False, {"axis": -1, "epsilon": 1e-5}),
        ((7, 3, 16), True, {"axis": 2, "epsilon": 1e-3}),
        ((5, 8), True, {}),
        ((1, 4, 1, 8), False, {"epsilon": 1e-6}),
    ],
)
def test_the_norm_is_the_same_also_of_rows_far_from_zero(shape, biased, settings):
    model = norm(shape, biased, **settings)
    made = for_wasm(model)
    onnx.checker.check_model(made)
    kinds = {node.op_type for node in made.graph.node}
    assert "InstanceNormalization" in kinds and "LayerNormalization" not in kinds
    for spread, offset in ((1, 0), (0.01, 3), (30, -200)):
        x = (np.random.default_rng(1).standard_normal(shape) * spread + offset).astype(np.float32)
        np.testing.assert_allclose(run(model, x=x), run(made, x=x), rtol=2e-3, atol=2e-3)


def test_a_norm_over_more_than_the_last_axis_stays():
    model = norm((4, 3, 8), False)
    model.graph.node[0].attribute.append(helper.make_attribute("axis", 1))
    assert [node.op_type for node in for_wasm(model).graph.node] == ["LayerNormalization"]


@pytest.mark.parametrize("graph", GRAPHS)
def test_a_worlds_graphs_have_none_left(tiny_bundle, graph):
    model = onnx.load(tiny_bundle / f"{graph}.onnx")
    made = for_wasm(model)
    onnx.checker.check_model(made)
    before, after = ([node.op_type for node in one.graph.node] for one in (model, made))
    assert before.count("LayerNormalization") == after.count("InstanceNormalization") > 0
    assert "LayerNormalization" not in after
