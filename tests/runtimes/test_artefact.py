"""L0 and the count of operations, against what torch counts and what can be counted by hand."""

import shutil
from dataclasses import replace

import numpy as np
import pytest

from pocketgenie.errors import UserError
from pocketgenie.export.bundle import load_bundle
from pocketgenie.runtimes.artefact import gflop_per_frame, inspect

onnx = pytest.importorskip("onnx")
torch = pytest.importorskip("torch")


def save(path, nodes, inputs, constants, output):
    from onnx import TensorProto, helper, numpy_helper

    values = [helper.make_tensor_value_info(name, TensorProto.FLOAT, shape) for name, shape in inputs.items()]
    as_stored = {"f": np.float32, "i": np.int64}
    weights = [
        numpy_helper.from_array(x.astype(as_stored[x.dtype.kind]), name) for name, x in constants.items()
    ]
    made = [helper.make_node(*node[:3], **node[3]) for node in nodes]
    result = [helper.make_tensor_value_info(output, TensorProto.FLOAT, None)]
    graph = helper.make_graph(made, "graph", values, result, weights)
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)]), path)
    return path


def test_products_are_counted_and_constant_ones_are_not(tmp_path):
    nodes = [
        ("MatMul", ["c", "d"], ["folded"], {}),  # constants: no work at run time
        ("MatMul", ["x", "folded"], ["y"], {}),  # [2, 3, 4] x [4, 6]
        ("Gelu", ["y"], ["z"], {}),
        ("Reshape", ["z", "shape"], ["rows"], {}),
        ("Gemm", ["rows", "e"], ["out"], {"transB": 1}),  # [6, 6] x [6, 7]
    ]
    constants = {"c": np.ones((4, 5)), "d": np.ones((5, 6)), "e": np.ones((7, 6)), "shape": np.array([6, 6])}
    path = save(tmp_path / "g.onnx", nodes, {"x": [2, 3, 4]}, constants, "out")
    assert gflop_per_frame(path) * 1e9 == 2 * (2 * 3 * 6 * 4 + 6 * 7 * 6)


def test_a_convolution_counts_its_kernel(tmp_path):
    nodes = [("Conv", ["x", "w"], ["y"], {"group": 2, "pads": [1, 1, 1, 1]})]
    path = save(tmp_path / "g.onnx", nodes, {"x": [1, 4, 5, 5]}, {"w": np.ones((6, 2, 3, 3))}, "y")
    assert gflop_per_frame(path) * 1e9 == 2 * (6 * 5 * 5) * (2 * 3 * 3)


def test_an_operator_that_hides_products_is_not_guessed(tmp_path):
    nodes = [("Einsum", ["x", "w"], ["y"], {"equation": "ij,jk->ik"})]
    with pytest.raises(UserError, match="Einsum"):
        gflop_per_frame(save(tmp_path / "g.onnx", nodes, {"x": [2, 3]}, {"w": np.ones((3, 4))}, "y"))


def test_quantized_products_count_as_much(tiny_bundle, tmp_path):
    from pocketgenie.quantize.int4 import to_int4
    from pocketgenie.quantize.int8 import to_int8_cpu
    from pocketgenie.quantize.products import merged, products

    model = merged(onnx.load(tiny_bundle / "decode.onnx"))
    names = [node.name for node in products(model.graph)]
    for place, make in enumerate((to_int8_cpu, to_int4)):
        onnx.save(make(model, names), tmp_path / f"{place}.onnx")
        assert gflop_per_frame(tmp_path / f"{place}.onnx") == gflop_per_frame(tiny_bundle / "decode.onnx")


def test_a_bundle_that_is_not_as_quantized_as_it_says_is_a_problem(tiny_bundle):
    bundle = load_bundle(tiny_bundle)
    for precision in ("int8", "int4", "mixed"):
        named = bundle.manifest.model_copy(update={"precision": precision})
        (problem,) = inspect(replace(bundle, manifest=named)).problems
        assert problem.startswith("play.onnx has 0 of ") and problem.endswith(f"not {precision}")


@pytest.mark.parametrize("graph", ["encode", "decode"])
def test_torch_counts_the_same_operations(tiny_bundle, graph):
    from torch.utils.flop_counter import FlopCounterMode

    from pocketgenie.runtimes.reference import reference_world

    bundle = load_bundle(tiny_bundle)
    definition = reference_world(bundle).graphs()[graph]
    zeros = [torch.zeros(spec.shape, dtype=getattr(torch, spec.dtype)) for spec in definition.inputs]
    with FlopCounterMode(display=False) as counter:
        definition.module(*zeros)
    assert gflop_per_frame(tiny_bundle / f"{graph}.onnx") * 1e9 == counter.get_total_flops()


def test_a_graph_that_is_not_what_the_manifest_says_is_a_problem(tiny_bundle, tmp_path):
    folder = tmp_path / "tiny"
    shutil.copytree(tiny_bundle, folder)
    bundle = load_bundle(folder)
    assert inspect(bundle).problems == ()
    shutil.copy(folder / "step.onnx", folder / "play.onnx")
    problems = inspect(bundle).problems
    assert problems and all("play.onnx" in problem for problem in problems)
    assert any("frame" in problem for problem in problems)
