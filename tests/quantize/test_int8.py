"""int8 that is really int8, in both forms: counted, smaller, near the float graph, and built by TensorRT."""

from __future__ import annotations

from collections import Counter

import numpy as np
import onnx
import pytest
from onnx import TensorProto, numpy_helper

from pocketgenie.errors import UserError
from pocketgenie.quantize.halves import deciding, float_tensors, to_fp16
from pocketgenie.quantize.int8 import to_int8_cpu, to_int8_qdq
from pocketgenie.quantize.products import merged, products
from pocketgenie.quantize.proof import count_products

FORMS = {"cpu": lambda model, names, _: to_int8_cpu(model, names), "qdq": to_int8_qdq}


def chosen(model):
    decides = deciding(model.graph, float_tensors(model))
    return [node.name for node in products(model.graph) if node.output[0] not in decides]


@pytest.fixture(scope="module", params=("logits", "play", "decode", "observe"))
def graph(request, graphs):
    return request.param, merged(graphs[request.param])


@pytest.fixture(scope="module", params=FORMS)
def made(request, graph, samples):
    name, model = graph
    return model, FORMS[request.param](model, chosen(model), samples[name])


def test_every_product_with_weights_is_quantized_but_those_that_decide(made):
    model, quantized = made
    done, weighted = count_products(quantized)
    assert count_products(model) == (0, weighted)
    assert done == len(chosen(model)) > 0
    assert weighted - done <= 3, "the head at each step, and the pixels"
    onnx.checker.check_model(quantized, full_check=True)


def test_edges_stay_as_they_are_and_the_given_graph_too(made):
    model, quantized = made
    for field in ("input", "output"):
        assert list(getattr(quantized.graph, field)) == list(getattr(model.graph, field))
    assert not any("Quantize" in node.op_type for node in model.graph.node)
    assert {entry.domain: entry.version for entry in quantized.opset_import}[""] == 20


def test_weights_are_within_half_a_step_of_what_they_were(made):
    model, quantized = made
    stored = {tensor.name: tensor for tensor in quantized.graph.initializer}
    names = set(chosen(model))
    weights = {node.input[1] for node in products(model.graph) if node.name in names}
    for tensor in (tensor for tensor in model.graph.initializer if tensor.name in weights):
        whole, scale = (
            numpy_helper.to_array(stored[f"{tensor.name}_{end}"]) for end in ("quantized", "scale")
        )
        assert whole.dtype == np.int8 and scale.shape == (tensor.dims[1],)
        apart = np.abs(whole * scale - numpy_helper.to_array(tensor))
        assert (apart <= scale / 2 * (1 + 1e-5)).all()
    zeros = [t for name, t in stored.items() if name.endswith("_zero_point")]
    assert zeros and not any(np.any(numpy_helper.to_array(t)) for t in zeros)


@pytest.mark.parametrize("form", FORMS)
def test_it_computes_nearly_the_same(form, graphs, samples, run):
    model = merged(graphs["logits"])
    quantized = FORMS[form](model, chosen(model), samples["logits"])
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
    model = merged(graphs["play"])
    quantized = to_int8_qdq(model, chosen(model), samples["play"])
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


def test_what_is_dequantized_is_read_once(graphs, samples):
    """On x86 ONNX Runtime multiplies in int8 only where an activation's pair has one reader."""
    model = merged(graphs["play"])
    quantized = to_int8_qdq(model, chosen(model), samples["play"])
    constants = {tensor.name for tensor in quantized.graph.initializer}
    readers = Counter(name for node in quantized.graph.node for name in node.input)
    for node in quantized.graph.node:
        if node.op_type == "QuantizeLinear" or (
            node.op_type == "DequantizeLinear" and node.input[0] not in constants
        ):
            assert readers[node.output[0]] == 1


@pytest.mark.parametrize("form", FORMS)
def test_a_graph_without_weights_is_refused(form):
    value = onnx.helper.make_tensor_value_info
    graph = onnx.helper.make_graph(
        [onnx.helper.make_node("MatMul", ["x", "x"], ["entry"], name="product")],
        "weightless",
        [value("x", TensorProto.FLOAT, [4, 4])],
        [value("entry", TensorProto.FLOAT, [4, 4])],
    )
    model = onnx.helper.make_model(graph, opset_imports=[onnx.helper.make_opsetid("", 20)], ir_version=10)
    with pytest.raises(UserError, match="only 0 of 0 products"):
        FORMS[form](model, [], [{"x": np.ones((4, 4), np.float32)}])


@pytest.mark.parametrize("around", [to_fp16, lambda model: model], ids=["float16 around", "float32 around"])
def test_tensorrt_builds_it(around, graphs, samples, build):
    for name in ("play", "decode"):
        model = merged(graphs[name])
        assert build(around(to_int8_qdq(model, chosen(model), samples[name]))) > 0
