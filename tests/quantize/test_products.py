"""Which products there are, layer by layer, and that their one form computes what they did."""

from __future__ import annotations

from collections import Counter

import numpy as np
import onnx
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from onnx import TensorProto, helper, numpy_helper

from pocketgenie.quantize.products import groups, layer_of, merged, products

PLAYED = ("observe", "step", "decode", "play", "logits")


@pytest.mark.parametrize("name", PLAYED)
def test_every_product_is_in_one_layer(name, graphs):
    found = groups(graphs[name])
    listed = [product for names in found.values() for product in names]
    assert Counter(listed) == Counter(node.name for node in products(graphs[name].graph))
    assert "rest" not in found and not any(layer.endswith(".rest") for layer in found)


def test_layers_are_named_alike_in_every_graph(graphs):
    layers = {name: groups(graphs[name]).keys() for name in PLAYED}
    assert layers["step"] | layers["decode"] == layers["play"]
    assert layers["logits"] == layers["step"] >= layers["observe"]
    blocks = {f"dynamics.{number}.{part}" for number in (0, 1) for part in ("spatial", "temporal", "ffn")}
    assert blocks | {"dynamics.head"} == layers["step"]
    assert {"decoder.in", "decoder.0.spatial", "decoder.1.ffn", "decoder.out"} <= layers["decode"]


@pytest.mark.parametrize(
    ("weight", "layer"),
    [
        ("step.dynamics.transformer.blocks.12.temporal.qkv.weight/slice_3", "dynamics.12.temporal"),
        ("decode.tokenizer.decoder.blocks.0.ffn.3.weight", "decoder.0.ffn"),
        ("tokenizer.encoder.blocks.0.spatial.out.weight", "encoder.0.spatial"),
        ("dynamics.code_out/permute_8", "dynamics.head"),
        ("tokenizer.patch_out.weight", "decoder.out"),
        ("lam.encoder.blocks.2.spatial.out.weight/val_9", "lam.2.spatial"),
        ("val_220", "rest"),
    ],
)
def test_a_weight_names_its_layer(weight, layer):
    assert layer_of(weight) == layer


@pytest.mark.parametrize("name", PLAYED)
def test_the_one_form_computes_the_same_with_fewer_products(name, graphs, samples, run):
    model = merged(graphs[name])
    onnx.checker.check_model(model, full_check=True)
    assert not any(node.op_type == "Gemm" for node in model.graph.node)
    assert len(products(model.graph)) < len(products(graphs[name].graph))
    assert groups(model).keys() == groups(graphs[name]).keys()
    for inputs in samples[name][:3]:
        wanted, found = run(graphs[name], inputs), run(model, inputs)
        for output, values in wanted.items():
            if values.dtype.kind == "f":
                np.testing.assert_allclose(found[output], values, atol=2e-5)


@settings(deadline=None, max_examples=25)
@given(
    widths=st.lists(st.integers(1, 9), min_size=1, max_size=4),
    rows=st.integers(1, 5),
    depth=st.integers(1, 7),
    turned=st.booleans(),
    biased=st.booleans(),
    seed=st.integers(0, 99),
)
def test_products_that_read_one_tensor_become_one(run, widths, rows, depth, turned, biased, seed):
    rng = np.random.default_rng(seed)
    constants, nodes, outputs = [], [], []
    for place, width in enumerate(widths):
        weight = f"dynamics.transformer.blocks.0.spatial.qkv.weight/{place}"
        shape = (width, depth) if turned else (depth, width)
        constants.append(numpy_helper.from_array(rng.standard_normal(shape).astype(np.float32), weight))
        inputs = ["x", weight]
        if biased:
            inputs.append(f"bias.{place}")
            bias = rng.standard_normal(width).astype(np.float32)
            constants.append(numpy_helper.from_array(bias, inputs[-1]))
        nodes.append(
            helper.make_node("Gemm", inputs, [f"y{place}"], name=f"product {place}", transB=int(turned))
        )
        outputs.append(helper.make_tensor_value_info(f"y{place}", TensorProto.FLOAT, [rows, width]))
    given_x = [helper.make_tensor_value_info("x", TensorProto.FLOAT, [rows, depth])]
    graph = helper.make_graph(nodes, "siblings", given_x, outputs, constants)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=10)
    one = merged(model)
    assert [node.op_type for node in one.graph.node].count("MatMul") == 1
    x = rng.standard_normal((rows, depth)).astype(np.float32)
    wanted, found = run(model, {"x": x}), run(one, {"x": x})
    for name, values in wanted.items():
        np.testing.assert_allclose(found[name], values, atol=1e-5)
