"""Graphs as WebGPU runs them compute the same, and nothing in them is left to the CPU."""

from __future__ import annotations

import base64
from pathlib import Path

import numpy as np
import onnx
import onnxruntime as ort
import pytest
from onnx import TensorProto, helper, numpy_helper

from pocketgenie.errors import UserError
from pocketgenie.export.lint_web import placed_on_cpu
from pocketgenie.export.ortweb import fetch_package, unpack
from pocketgenie.export.webgpu import for_webgpu, wide_tables
from pocketgenie.export.world import ExportOptions, export_checkpoint
from pocketgenie.quantize.int8 import to_int8_cpu
from pocketgenie.quantize.products import merged, products
from pocketgenie.quantize.storage import narrow_tables
from pocketgenie.runtimes.chromium import Chromium
from pocketgenie.runtimes.serve import serving

GRAPHS = ("encode", "observe", "step", "decode", "play", "logits", "infer_action")
LIMITS = {"tokens": 64, "noise": 200, "action": 5, "filled": 4}


@pytest.fixture(scope="module")
def by_confidence(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tiny world that is refined by confidence, which ranks in the graph."""
    from tests.conftest import save_tiny_checkpoint

    place = tmp_path_factory.mktemp("confidence")
    checkpoint = save_tiny_checkpoint(place / "tiny", order="confidence", steps=3)
    export_checkpoint(checkpoint, place / "bundle", ExportOptions(reference=False), lambda what: None)
    return place / "bundle"


def run(model: onnx.ModelProto, seed: int = 0) -> list[np.ndarray]:
    session = ort.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    rng, inputs = np.random.default_rng(seed), {}
    for entry in session.get_inputs():
        kind = {"tensor(int32)": np.int32, "tensor(uint8)": np.uint8, "tensor(float)": np.float32}[entry.type]
        if entry.name.endswith("ages"):
            values = np.arange(1, entry.shape[0] + 1)
        elif kind == np.float32:
            values = rng.standard_normal(entry.shape)
        else:
            values = rng.integers(0, LIMITS.get(entry.name, 256), entry.shape)
        inputs[entry.name] = values.astype(kind)
    return session.run(None, inputs)


def assert_same(one: onnx.ModelProto, other: onnx.ModelProto) -> None:
    for seed in range(3):
        for wanted, found in zip(run(one, seed), run(other, seed), strict=True):
            assert wanted.dtype == found.dtype
            np.testing.assert_array_equal(wanted, found)


@pytest.mark.parametrize("graph", GRAPHS)
def test_the_graph_for_webgpu_computes_the_same_to_the_bit(tiny_bundle, graph):
    model = onnx.load(tiny_bundle / f"{graph}.onnx")
    made = for_webgpu(model)
    onnx.checker.check_model(made)
    assert_same(model, made)
    assert placed_on_cpu(made) == []


@pytest.mark.slow
def test_ranking_by_confidence_computes_the_same(by_confidence):
    model = onnx.load(by_confidence / "play.onnx")
    made = for_webgpu(model)
    assert_same(model, made)
    assert placed_on_cpu(made) == []


def test_integer_products_become_float_ones_of_the_same_weights(tiny_bundle):
    model = narrow_tables(merged(onnx.load(tiny_bundle / "play.onnx")))
    quantized = to_int8_cpu(model, [node.name for node in products(model.graph)])
    assert any("MatMulInteger" in finding for finding in placed_on_cpu(quantized))
    made = for_webgpu(quantized)
    assert placed_on_cpu(made) == []
    kept = {tensor.name: tensor for tensor in quantized.graph.initializer}
    large = [tensor for tensor in made.graph.initializer if np.prod(tensor.dims) > 512]
    assert large and all(kept[tensor.name] == tensor for tensor in large), "stored as they were"
    for wanted, exact, found in zip(run(quantized), run(model), run(made), strict=True):
        if wanted.dtype == np.float32:
            off, of_activations_too = np.abs(found - exact).max(), np.abs(wanted - exact).max()
            assert off < of_activations_too * 1.5 < 5


def test_narrow_tables_are_widened_when_loaded(tiny_bundle):
    model = narrow_tables(merged(onnx.load(tiny_bundle / "play.onnx")))
    made = wide_tables(model)
    assert_same(model, made)
    small = {TensorProto.INT8, TensorProto.FLOAT16}
    constants = {tensor.name for tensor in made.graph.initializer if tensor.data_type in small}
    readers = {node.op_type for node in made.graph.node if constants & set(node.input)}
    assert constants and readers == {"Cast"}


@pytest.mark.parametrize("operator", ["ArgMax", "ArgMin"])
def test_the_lowest_index_wins_a_tie(operator):
    values = np.array([[1, 5, 5, 0], [0, 0, 3, 3], [7, 7, 7, 7]], np.float32)
    nodes = [
        helper.make_node(operator, ["x"], ["best"], axis=-1, keepdims=0),
        helper.make_node("Cast", ["best"], ["y"], to=TensorProto.INT32),
    ]
    model = _model(nodes, TensorProto.FLOAT, values.shape, TensorProto.INT32, [3])
    made = for_webgpu(model)
    assert placed_on_cpu(model) and not placed_on_cpu(made)
    sessions = [ort.InferenceSession(m.SerializeToString()) for m in (model, made)]
    wanted, found = (session.run(None, {"x": values})[0] for session in sessions)
    np.testing.assert_array_equal(wanted, found)


@pytest.mark.parametrize(
    ("nodes", "why"),
    [
        ([helper.make_node("Round", ["x"], ["y"])], "no code for it"),
        (
            [helper.make_node("Cast", ["x"], ["h"], to=TensorProto.FLOAT16)] * 0
            + [
                helper.make_node("Cast", ["x"], ["l"], to=TensorProto.INT64),
                helper.make_node("Cast", ["l"], ["y"], to=TensorProto.FLOAT),
            ],
            "64-bit integers",
        ),
        (
            [
                helper.make_node("Cast", ["x"], ["h"], to=TensorProto.FLOAT16),
                helper.make_node("Neg", ["h"], ["n"]),
                helper.make_node("Cast", ["n"], ["y"], to=TensorProto.FLOAT),
            ],
            "8-bit or 16-bit values",
        ),
    ],
)
def test_what_is_left_to_the_cpu_is_named_with_its_reason(nodes, why):
    found = placed_on_cpu(_model(nodes, TensorProto.FLOAT, [3], TensorProto.FLOAT, [3]))
    assert found and all(finding.endswith(why) for finding in found)


def _model(nodes, of: int, shape, made: int, result) -> onnx.ModelProto:
    graph = helper.make_graph(
        nodes,
        "g",
        [helper.make_tensor_value_info("x", of, shape)],
        [helper.make_tensor_value_info("y", made, result)],
        [numpy_helper.from_array(np.zeros(1, np.float32), "unused")],
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=10)


LOAD = """async (graph) => {
    const ort = await import('/webgpu/ort.webgpu.min.mjs');
    ort.env.wasm.wasmPaths = '/webgpu/';
    ort.env.wasm.numThreads = 1;
    const bytes = Uint8Array.from(atob(graph), (c) => c.charCodeAt(0));
    await ort.InferenceSession.create(bytes, { executionProviders: ['webgpu'], logSeverityLevel: 0 });
}"""


@pytest.mark.browser
def test_the_browser_leaves_the_same_nodes_to_the_cpu(tiny_bundle, tmp_path):
    """The rules against ONNX Runtime Web's own log of where it places each node."""
    try:
        unpack(fetch_package(), tmp_path)
        browser = Chromium(webgpu=True)
    except UserError as error:
        pytest.skip(str(error))
    said: list[str] = []
    with serving(tmp_path) as address:
        try:
            browser.open_blank(f"{address}/blank")
            if browser.adapter() is None:
                pytest.skip("no WebGPU adapter")
            browser.listen(said.append)
            for graph in ("play", "encode", "infer_action"):
                model = onnx.load(tiny_bundle / f"{graph}.onnx")
                for shaped, clean in ((model, False), (for_webgpu(model), True)):
                    said.clear()
                    browser.ask(LOAD, base64.b64encode(shaped.SerializeToString()).decode())
                    log = "\n".join(said)
                    assert "placed on [WebGpuExecutionProvider]" in log, "it says where the nodes are"
                    assert ("All nodes placed on [WebGpuExecutionProvider]" in log) == clean, (graph, clean)
                    assert (not placed_on_cpu(shaped)) == clean
        finally:
            browser.close()
