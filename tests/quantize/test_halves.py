"""Mixed precision in the graph: what is half, what stays float, and that it still computes the same."""

from __future__ import annotations

import numpy as np
import onnx
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from onnx import TensorProto, helper, numpy_helper

from pocketgenie.errors import UserError
from pocketgenie.quantize.halves import MOVES, PRODUCTS, float_tensors, is_memory, to_fp16

GRAPHS = ("encode", "observe", "step", "decode", "play", "logits", "infer_action")
PRECISE = {"LayerNormalization", "Softmax", "Gelu", "ArgMax", "Add", "Mul", "Tanh", "Floor", "ReduceSum"}


def signature(model):
    return [
        (
            value.name,
            value.type.tensor_type.elem_type,
            [dim.dim_value for dim in value.type.tensor_type.shape.dim],
        )
        for value in (*model.graph.input, *model.graph.output)
    ]


def types(model):
    graph = onnx.shape_inference.infer_shapes(model, strict_mode=True).graph
    found = {v.name: v.type.tensor_type.elem_type for v in (*graph.input, *graph.output, *graph.value_info)}
    return found | {tensor.name: tensor.data_type for tensor in graph.initializer}


def small(nodes, inputs, outputs, constants, kind=TensorProto.FLOAT):
    """A graph of [4, 4] matrices."""

    def value(name):
        return helper.make_tensor_value_info(name, kind, [4, 4])

    graph = helper.make_graph(
        nodes,
        "small",
        [value(name) for name in inputs],
        [value(name) for name in outputs],
        [numpy_helper.from_array(array, name) for name, array in constants.items()],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=10)
    onnx.checker.check_model(model, full_check=True)
    return model


@pytest.fixture(scope="module", params=GRAPHS)
def pair(request, graphs):
    return graphs[request.param], to_fp16(graphs[request.param])


def test_only_memories_change_their_type(pair):
    before, after = (signature(model) for model in pair)
    wanted = [(name, TensorProto.FLOAT16 if is_memory(name) else kind, shape) for name, kind, shape in before]
    assert after == wanted
    onnx.checker.check_model(pair[1], full_check=True)


def test_products_are_half_and_arithmetic_is_not(pair):
    found = types(pair[1])
    kinds = [found[node.output[0]] for node in pair[1].graph.node if node.op_type in PRODUCTS]
    assert kinds.count(TensorProto.FLOAT16) >= len(kinds) - 3 and TensorProto.FLOAT16 in kinds
    for node in pair[1].graph.node:
        if node.op_type in PRECISE:
            assert found[node.output[0]] != TensorProto.FLOAT16, node.name


def test_what_decides_is_a_float32_product(graphs):
    model = to_fp16(graphs["play"])
    found = types(model)
    sources = {name: node for node in model.graph.node for name in node.output}

    def behind(name):
        """The products that a tensor is made of, without another between."""
        node = sources.get(name)
        if node is None:
            return []
        if node.op_type in PRODUCTS:
            return [node]
        return [product for one in node.input for product in behind(one)]

    choices = [node for node in model.graph.node if node.op_type == "ArgMax"]
    assert choices
    for node in choices:
        (head,) = behind(node.input[0])
        assert found[head.output[0]] == TensorProto.FLOAT


def test_the_memory_goes_to_its_products_without_a_cast(graphs):
    model = to_fp16(graphs["play"])
    carried, reached = {"memory"}, 0
    for node in model.graph.node:
        if carried.intersection(node.input):
            if node.op_type in MOVES:
                carried.update(node.output)
            else:
                assert node.op_type in PRODUCTS, node.name
                reached += 1
    assert reached == 2 * sum(node.op_type == "ReduceSum" for node in model.graph.node), "keys and values"


def test_no_cast_is_made_twice_or_undone(pair):
    casts = [node for node in pair[1].graph.node if node.op_type == "Cast"]
    edges = [(node.input[0], node.attribute[0].i) for node in casts if node.name.startswith("cast_")]
    assert len(edges) == len(set(edges))
    made = {node.output[0] for node in casts if node.name.startswith("cast_")}
    assert not made & {name for name, _ in edges}


def test_weights_take_half_the_bytes(pair):
    def weights(model):
        read = {name for node in model.graph.node if node.op_type in PRODUCTS for name in node.input}
        return sum(len(t.raw_data) for t in model.graph.initializer if t.name in read)

    assert weights(pair[1]) < 0.7 * weights(pair[0])
    assert pair[0].graph != pair[1].graph, "the graph that was given stays as it was"


def test_it_computes_the_same_within_float16(graphs, samples, run):
    half = to_fp16(graphs["logits"])
    for inputs in samples["logits"]:
        wanted, found = run(graphs["logits"], inputs)["logits"], run(half, inputs)["logits"]
        assert found.dtype == np.float32
        assert np.abs(found - wanted).max() < 4e-3 * np.abs(wanted).max()


def test_it_plays_the_same_frames(graphs, samples, run):
    half = to_fp16(graphs["play"])
    equal = []
    for inputs in samples["play"]:
        wanted, found = run(graphs["play"], inputs), run(half, inputs)
        assert found["entry"].dtype == np.float16
        equal.append(wanted["tokens"] == found["tokens"])
        if equal[-1].all():
            np.testing.assert_allclose(found["entry"], wanted["entry"], atol=0.02)
            assert np.abs(found["frame"].astype(int) - wanted["frame"]).max() <= 2
    assert np.mean(equal) > 0.98


def test_a_weight_that_is_also_added_keeps_a_float_copy():
    weight = np.eye(4, dtype=np.float32)
    nodes = [
        helper.make_node("MatMul", ["x", "w"], ["y"]),
        helper.make_node("Add", ["y", "w"], ["z"]),
        helper.make_node("MatMul", ["z", "w"], ["entry"]),
    ]
    model = to_fp16(small(nodes, ["x"], ["entry"], {"w": weight}))
    onnx.checker.check_model(model, full_check=True)
    assert sorted((t.name, t.data_type) for t in model.graph.initializer) == [
        ("w", TensorProto.FLOAT),
        ("w.half", TensorProto.FLOAT16),
    ]


def test_a_large_table_is_looked_up_in_half_and_the_noise_in_float():
    table = np.zeros((1 << 14, 4), np.float32)
    rows = np.arange(4)
    nodes = [
        helper.make_node("Gather", ["words", "rows"], ["embedded"]),
        helper.make_node("Relu", ["embedded"], ["used"]),
        helper.make_node("MatMul", ["used", "w"], ["hidden"]),
        helper.make_node("Tanh", ["hidden"], ["squashed"]),
        helper.make_node("MatMul", ["squashed", "w"], ["scores"]),
        helper.make_node("Gather", ["luck", "rows"], ["noise"]),
        helper.make_node("Add", ["scores", "noise"], ["noisy"]),
    ]
    constants = {"words": table, "luck": table, "rows": rows, "w": np.eye(4, dtype=np.float32)}
    model = to_fp16(small(nodes, [], ["noisy"], constants))
    kinds = {tensor.name: tensor.data_type for tensor in model.graph.initializer}
    assert kinds["words.half"] == TensorProto.FLOAT16 and kinds["luck"] == TensorProto.FLOAT
    assert "words" not in kinds


def test_nothing_to_convert_is_refused(graphs):
    graph = small([helper.make_node("Relu", ["x"], ["y"])], ["x"], ["y"], {})
    with pytest.raises(UserError, match="no float32 product"):
        to_fp16(graph)
    with pytest.raises(UserError, match="no float32 product"):
        to_fp16(small([helper.make_node("MatMul", ["x", "x"], ["y"])], ["x"], ["y"], {}, TensorProto.FLOAT16))


def test_a_weight_beyond_float16_is_refused():
    weight = np.full((4, 4), 1e5, np.float32)
    nodes = [helper.make_node("MatMul", ["x", "huge"], ["entry"])]
    with pytest.raises(UserError, match=r"huge.*fp32"):
        to_fp16(small(nodes, ["x"], ["entry"], {"huge": weight}))


@st.composite
def programs(draw):
    """Nodes over [4, 4] matrices: each takes earlier results, moves, adds or multiplies them."""
    names, nodes = ["memory", "x", "w"], []
    for number in range(draw(st.integers(1, 8))):
        one, other = (draw(st.sampled_from(names)) for _ in range(2))
        out = f"t{number}"
        kind = draw(st.sampled_from(["MatMul", "Add", "Transpose", "Softmax", "Identity", "Concat", "Gemm"]))
        if kind == "Concat":
            nodes.append(helper.make_node("Concat", [one, other], [f"{out}_long"], axis=0))
            nodes.append(helper.make_node("Slice", [f"{out}_long", "two", "six"], [out]))
        else:
            inputs = [one, other] if kind in ("MatMul", "Add", "Gemm") else [one]
            nodes.append(helper.make_node(kind, inputs, [out]))
        names.append(out)
    made = names[3:]
    nodes.append(helper.make_node("MatMul", [draw(st.sampled_from(names)), "w"], ["product"]))
    nodes.append(helper.make_node("Softmax", ["product"], ["calm"]))
    nodes.append(helper.make_node("MatMul", ["calm", "w"], ["entry"]))
    outputs = ["entry", *draw(st.lists(st.sampled_from(made), unique=True, max_size=2))]
    return nodes, outputs


@settings(max_examples=60, deadline=None, derandomize=True)
@given(programs())
def test_any_graph_keeps_its_edges_and_its_results(run, program):
    nodes, outputs = program
    rng = np.random.default_rng(0)
    constants = {
        "w": (rng.standard_normal((4, 4)) / 4).astype(np.float32),
        "two": np.array([2]),
        "six": np.array([6]),
    }
    model = small(nodes, ["memory", "x"], outputs, constants)
    half = to_fp16(model)
    onnx.checker.check_model(half, full_check=True)
    assert signature(half) == [
        (name, TensorProto.FLOAT16 if is_memory(name) else kind, shape)
        for name, kind, shape in signature(model)
    ]
    inputs = {name: (rng.standard_normal((4, 4)) / 4).astype(np.float32) for name in ("memory", "x")}
    wanted, found = run(model, inputs), run(half, inputs)
    for name in outputs:
        scale = max(1.0, float(np.abs(wanted[name]).max()))
        assert np.abs(found[name] - wanted[name]).max() < 2e-2 * scale


def test_float_tensors_are_seen_through_the_whole_graph(graphs):
    found = float_tensors(graphs["play"])
    assert {"memory", "entry"} <= found and not {"tokens", "frame", "noise", "ages"} & found


@pytest.mark.parametrize("name", ["play", "logits", "encode"])
def test_tensorrt_builds_it(name, graphs, build):
    assert build(to_fp16(graphs[name])) > 0
