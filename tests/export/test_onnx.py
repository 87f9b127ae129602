"""What the exporter writes: the contract's graphs, one copy of the weights, nothing about this machine."""

from __future__ import annotations

import re
from pathlib import Path

import onnx
import pytest
from onnxscript import rewriter

from pocketgenie.export.bundle import load_bundle
from pocketgenie.export.onnx import INLINE_BYTES, OPSET, QUADRATIC, WEIGHTS, _without_quadratic_rules
from pocketgenie.genie.contract import signatures

GRAPHS = ("encode", "observe", "step", "decode", "play", "logits", "infer_action")
RANDOM = {
    "RandomNormal",
    "RandomUniform",
    "RandomNormalLike",
    "RandomUniformLike",
    "Multinomial",
    "Bernoulli",
}
CONTROL = {"Loop", "If", "Scan"}


@pytest.fixture(scope="module", params=GRAPHS)
def graph(request: pytest.FixtureRequest, tiny_bundle: Path) -> tuple[str, onnx.ModelProto]:
    name = request.param
    return name, onnx.load(str(tiny_bundle / f"{name}.onnx"), load_external_data=False)


def test_names_types_and_static_shapes_are_the_contracts(graph, tiny_bundle):
    name, model = graph
    inputs, outputs = signatures(load_bundle(tiny_bundle).manifest.spec)[name]
    for wanted, found in ((inputs, model.graph.input), (outputs, model.graph.output)):
        assert [spec.name for spec in wanted] == [value.name for value in found]
        for spec, value in zip(wanted, found, strict=True):
            tensor = value.type.tensor_type
            assert tuple(dim.dim_value for dim in tensor.shape.dim) == spec.shape
            assert onnx.helper.tensor_dtype_to_np_dtype(tensor.elem_type).name == spec.dtype


def test_opset_and_operators(graph):
    _, model = graph
    assert [(entry.domain, entry.version) for entry in model.opset_import] == [("", OPSET)]
    kinds = {node.op_type for node in model.graph.node}
    assert not kinds & RANDOM, "noise is an input"
    assert not kinds & CONTROL, "no control flow that depends on data"
    assert not kinds & {"IsNaN", "TopK"}, "masks are finite; ties are broken by rule"
    assert not model.functions


def test_every_weight_of_a_product_is_named_after_its_parameter(graph):
    name, model = graph
    constants = {tensor.name for tensor in model.graph.initializer}
    weights = [node.input[1] for node in model.graph.node if node.op_type in ("Gemm", "MatMul")]
    named = [weight for weight in weights if weight in constants]
    assert named and all(re.search(r"(dynamics|tokenizer|lam)\.[a-z_]+", weight) for weight in named)
    if name in ("play", "step"):
        assert any(".blocks.1.temporal.qkv.weight/" in weight for weight in named)


def test_no_metadata_and_no_path_is_left(graph, tiny_bundle):
    name, model = graph
    assert not model.metadata_props and not model.graph.metadata_props and not model.doc_string
    assert not any(node.metadata_props or node.doc_string for node in model.graph.node)
    raw = (tiny_bundle / f"{name}.onnx").read_bytes()
    assert str(Path.home()).encode() not in raw
    assert b"site-packages" not in raw and b".py" not in raw


def test_large_weights_lie_in_one_shared_file_once(tiny_bundle):
    places: dict[tuple[str, str], tuple[int, ...]] = {}
    used = 0
    for name in GRAPHS:
        model = onnx.load(str(tiny_bundle / f"{name}.onnx"), load_external_data=False)
        for tensor in model.graph.initializer:
            if tensor.data_location == onnx.TensorProto.EXTERNAL:
                entry = {item.key: item.value for item in tensor.external_data}
                assert entry["location"] == WEIGHTS
                key = entry["offset"], entry["length"]
                if key not in places:
                    used += int(entry["length"])
                places[key] = tuple(tensor.dims)
            else:
                assert len(tensor.raw_data) < INLINE_BYTES
    assert used <= (tiny_bundle / WEIGHTS).stat().st_size
    play = onnx.load(str(tiny_bundle / "play.onnx"), load_external_data=False)
    step = onnx.load(str(tiny_bundle / "step.onnx"), load_external_data=False)
    shared = [
        {
            (entry["offset"], entry["length"])
            for tensor in model.graph.initializer
            if (entry := {item.key: item.value for item in tensor.external_data})
        }
        for model in (play, step)
    ]
    assert shared[1] <= shared[0], "play is step and decode: it has every weight of step, at the same place"


def test_every_matrix_product_with_weights_sees_them_as_constants(tiny_bundle):
    """A weight behind a computed transpose or split is invisible to quantizers."""
    model = onnx.load(str(tiny_bundle / "play.onnx"), load_external_data=False)
    constants = {tensor.name for tensor in model.graph.initializer}
    gemms = [node for node in model.graph.node if node.op_type == "Gemm"]
    assert gemms and all(node.input[1] in constants for node in gemms)


def test_the_rule_that_is_left_out_is_still_there_and_comes_back():
    rules = rewriter._DEFAULT_REWRITE_RULES
    with _without_quadratic_rules():
        assert {rule.name for rule in rules} - {rule.name for rule in rewriter._DEFAULT_REWRITE_RULES} == {
            QUADRATIC
        }
    assert rewriter._DEFAULT_REWRITE_RULES is rules
