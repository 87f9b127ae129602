"""int8 that is really int8: counted, smaller, near the float graph, and built by TensorRT."""

from __future__ import annotations

import numpy as np
import onnx
import pytest
from onnx import TensorProto

from pocketgenie.errors import UserError
from pocketgenie.quantize.halves import deciding, float_tensors, to_fp16
from pocketgenie.quantize.int8 import WEIGHTED, count_products, to_int8


@pytest.fixture(scope="module", params=("logits", "play", "decode", "observe"))
def pair(request, graphs, samples):
    name = request.param
    return name, graphs[name], to_int8(graphs[name], samples[name])


def weights(model):
    constants = {tensor.name: tensor for tensor in model.graph.initializer}
    decides = deciding(model.graph, float_tensors(model))
    return {
        node.output[0]: constants[node.input[1]]
        for node in model.graph.node
        if node.op_type in WEIGHTED and node.input[1] in constants and node.output[0] not in decides
    }


def test_every_product_with_weights_is_quantized_but_those_that_decide(pair):
    _, model, quantized = pair
    done, weighted = count_products(quantized)
    assert count_products(model) == (0, weighted)
    assert done == len(weights(model)) > 0
    assert weighted - done <= 3, "the head at each step, and the pixels"
    onnx.checker.check_model(quantized, full_check=True)


def test_edges_stay_as_they_are_and_the_given_graph_too(pair, graphs):
    name, model, quantized = pair
    for field in ("input", "output"):
        assert list(getattr(quantized.graph, field)) == list(getattr(model.graph, field))
    assert not any(node.op_type == "QuantizeLinear" for node in graphs[name].graph.node)
    assert [(entry.domain, entry.version) for entry in quantized.opset_import] == [("", 20)]


def test_weights_are_stored_in_a_byte_each_with_a_scale_per_channel(pair):
    _, model, quantized = pair
    stored = {t.name: t for t in quantized.graph.initializer if t.data_type == TensorProto.INT8}
    for tensor in weights(model).values():
        (found,) = (t for name, t in stored.items() if name == f"{tensor.name}_quantized")
        assert len(found.raw_data) * 4 == len(tensor.raw_data)
        (scale,) = (t for t in quantized.graph.initializer if t.name == f"{tensor.name}_scale")
        assert scale.dims and scale.dims[0] in tensor.dims
    zeros = [t for t in quantized.graph.initializer if t.name.endswith("_zero_point")]
    assert zeros and not any(np.any(onnx.numpy_helper.to_array(t)) for t in zeros)


def test_it_computes_nearly_the_same(graphs, samples, run):
    quantized = to_int8(graphs["logits"], samples["logits"])
    pairs = [
        (run(graphs["logits"], inputs)["logits"], run(quantized, inputs)["logits"])
        for inputs in samples["logits"]
    ]
    spread = np.std([wanted for wanted, _ in pairs])
    apart = np.std([found - wanted for wanted, found in pairs])
    assert 0 < apart < 0.1 * spread
    agree = [found.argmax(-1) == wanted.argmax(-1) for wanted, found in pairs]
    assert np.mean(agree) > 0.85


def test_float16_goes_around_int8(graphs, samples, run):
    quantized = to_int8(graphs["play"], samples["play"])
    both = to_fp16(quantized)
    onnx.checker.check_model(both, full_check=True)
    assert count_products(both) == count_products(quantized)
    sources = {node.output[0]: node for node in both.graph.node}
    for node in both.graph.node:  # what is dequantized goes straight into its product: no Cast between
        if node.op_type == "Cast":
            source = sources.get(node.input[0])
            assert source is None or source.op_type != "DequantizeLinear"
    inputs = samples["play"][0]
    wanted, found = run(quantized, inputs), run(both, inputs)
    assert np.mean(wanted["tokens"] == found["tokens"]) > 0.8


def test_a_graph_without_weights_is_refused():
    value = onnx.helper.make_tensor_value_info
    graph = onnx.helper.make_graph(
        [onnx.helper.make_node("MatMul", ["x", "x"], ["entry"], name="product")],
        "weightless",
        [value("x", TensorProto.FLOAT, [4, 4])],
        [value("entry", TensorProto.FLOAT, [4, 4])],
    )
    model = onnx.helper.make_model(graph, opset_imports=[onnx.helper.make_opsetid("", 20)], ir_version=10)
    with pytest.raises(UserError, match="0 of 0 products"):
        to_int8(model, [{"x": np.ones((4, 4), np.float32)}])


@pytest.mark.parametrize("around", [to_fp16, lambda model: model], ids=["float16 around", "float32 around"])
def test_tensorrt_builds_it(around, graphs, samples, build):
    for name in ("play", "decode"):
        assert build(around(to_int8(graphs[name], samples[name]))) > 0
