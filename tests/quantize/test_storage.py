"""Constants in fewer bytes: tables within half a step, the rest exactly as it was."""

from __future__ import annotations

import numpy as np
import onnx
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from onnx import TensorProto, helper, numpy_helper

from pocketgenie.quantize import storage
from pocketgenie.quantize.storage import exact_in_float16, narrow_tables


def look_up(table, operator="Gather", chosen_from=False):
    """A graph that looks rows of a table up, and perhaps chooses from them."""
    rows, width = table.shape
    made, end = ("found", "choice") if chosen_from else ("entry", "entry")
    nodes = [helper.make_node(operator, ["table", "index"], [made], name="look up")]
    if chosen_from:
        nodes.append(helper.make_node("ArgMax", ["found"], ["choice"], axis=-1, keepdims=1))
    index = [6] if operator == "Gather" else [6, 1]
    kind = TensorProto.INT64 if chosen_from else TensorProto.FLOAT
    graph = helper.make_graph(
        nodes,
        "table",
        [helper.make_tensor_value_info("index", TensorProto.INT64, index)],
        [helper.make_tensor_value_info(end, kind, [6, 1 if chosen_from else width])],
        [numpy_helper.from_array(table, "table")],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=10)
    onnx.checker.check_model(model, full_check=True)
    return model, np.random.default_rng(0).integers(rows, size=index)


@settings(deadline=None, max_examples=20)
@given(
    seed=st.integers(0, 99),
    spread=st.floats(1e-6, 1e6),
    operator=st.sampled_from(["Gather", "GatherND"]),
)
def test_rows_are_within_half_a_step(run, seed, spread, operator):
    rng = np.random.default_rng(seed)
    table = (rng.standard_normal((300, 256)) * spread * rng.random((300, 1))).astype(np.float32)
    table[7] = 0
    model, index = look_up(table, operator)
    narrow = narrow_tables(model)
    assert narrow.ByteSize() < 0.3 * model.ByteSize()
    wanted, found = run(model, {"index": index})["entry"], run(narrow, {"index": index})["entry"]
    step = np.abs(wanted).max(-1, keepdims=True) / 127
    assert (np.abs(found - wanted) <= step / 2 * (1 + 1e-4)).all()


def test_what_a_choice_is_made_from_is_float16(run):
    table = np.random.default_rng(0).gumbel(size=(300, 256)).astype(np.float32)
    model, index = look_up(table, chosen_from=True)
    narrow = narrow_tables(model)
    (constant,) = narrow.graph.initializer
    assert constant.data_type == TensorProto.FLOAT16
    wanted, found = run(model, {"index": index})["choice"], run(narrow, {"index": index})["choice"]
    assert np.array_equal(wanted, found)


@pytest.mark.parametrize("change", [narrow_tables, exact_in_float16])
def test_small_tables_and_the_given_graph_stay(change):
    table = np.random.default_rng(0).standard_normal((5, 7)).astype(np.float32)
    model, _ = look_up(table)
    before = model.SerializeToString()
    assert change(model).SerializeToString() == before == model.SerializeToString()


def test_only_what_float16_holds_exactly_is_stored_so(run):
    rng = np.random.default_rng(0)
    halves = rng.standard_normal((300, 256)).astype(np.float16).astype(np.float32)
    for table, exact in ((halves, True), (halves + np.float32(1e-7), False), (halves * 1e6, False)):
        model, index = look_up(table)
        made = exact_in_float16(model)
        onnx.checker.check_model(made, full_check=True)
        assert (made.graph.initializer[0].data_type == TensorProto.FLOAT16) == exact
        wanted, found = run(model, {"index": index})["entry"], run(made, {"index": index})["entry"]
        assert np.array_equal(wanted, found)


def test_every_graph_of_a_world_computes_nearly_the_same(graphs, samples, run, monkeypatch):
    monkeypatch.setattr(storage, "LARGE_TABLE", 512)  # the tiny world's tables are small
    for name in ("logits", "observe"):
        made = narrow_tables(graphs[name])
        assert any(tensor.data_type == TensorProto.INT8 for tensor in made.graph.initializer)
        onnx.checker.check_model(made, full_check=True)
        inputs = samples[name][0]
        for output, values in run(graphs[name], inputs).items():
            assert np.std(run(made, inputs)[output] - values) < 0.02 * np.std(values)
