"""The precisions as a whole: what is made, what is said of it, and that the bounds tell sound from faulty."""

from __future__ import annotations

import shutil
import time

import numpy as np
import onnx
import pytest
from onnx import TensorProto, numpy_helper

from pocketgenie.errors import UserError
from pocketgenie.export.bundle import load_bundle, seal
from pocketgenie.export.manifest import Draft, GraphEntry
from pocketgenie.export.onnx import WEIGHTS, WeightsFile
from pocketgenie.genie.contract import signatures
from pocketgenie.quantize.proof import count_products
from pocketgenie.quantize.recipe import KEPT, precision_pass
from pocketgenie.runtimes.check import examine_runtime
from pocketgenie.runtimes.contestants import Contestant
from pocketgenie.runtimes.parity import Exam
from pocketgenie.runtimes.worker import Worker


def test_float32_stays_as_it_is(graphs, world):
    convert, facts = precision_pass("fp32", world, None)
    assert convert("play", graphs["play"]) is graphs["play"] and facts == {}


def test_a_graph_that_only_looks_things_up_stays_as_it_is(world):
    """Token pictures: there is nothing to multiply in float16, which is no reason to refuse the world."""
    table = numpy_helper.from_array(np.zeros((4, 3), np.float32), "table")
    tokens = onnx.helper.make_tensor_value_info("tokens", TensorProto.INT32, [2])
    frame = onnx.helper.make_tensor_value_info("frame", TensorProto.FLOAT, [2, 3])
    node = onnx.helper.make_node("Gather", ["table", "tokens"], ["frame"])
    model = onnx.helper.make_model(onnx.helper.make_graph([node], "decode", [tokens], [frame], [table]))
    assert precision_pass("fp16", world, None)[0]("decode", model) is model


def test_fixed_ranges_need_clips(world):
    with pytest.raises(UserError, match="--clips"):
        precision_pass("int8", world, None, form="qdq")


@pytest.mark.parametrize(
    ("precision", "form"), [("int8", "cpu"), ("int8", "qdq"), ("int4", "cpu"), ("int4", "qdq")]
)
def test_it_says_what_it_did(precision, form, graphs, world, clips):
    convert, facts = precision_pass(precision, world, clips, form=form)
    made = {name: convert(name, graph) for name, graph in graphs.items()}
    for name, model in made.items():
        onnx.checker.check_model(model, full_check=True)
        assert (count_products(model)[0] > 0) == (name not in KEPT)
        assert {
            value.type.tensor_type.elem_type for value in model.graph.input if "memory" in value.name
        } <= {TensorProto.FLOAT}
    assert facts["quantized"] == "{} of {} products with weights of `play`".format(
        *count_products(made["play"])
    )
    assert ("rounding" in facts) == (precision == "int4")


def test_without_clips_int4_is_rounded_to_nearest(graphs, world, clips, samples, run):
    (plain, facts), (fitted, _) = (precision_pass("int4", world, given) for given in (None, clips))
    assert "rounding" not in facts and "calibration" not in facts
    frames = [run(convert("decode", graphs["decode"]), samples["decode"][0]) for convert in (plain, fitted)]
    wanted = run(graphs["decode"], samples["decode"][0])["frame"].astype(int)
    errors = [np.square(frame["frame"].astype(int) - wanted).mean() for frame in frames]
    assert errors[1] < errors[0]


def test_for_tensorrt_float16_goes_around_int8(graphs, world, clips):
    convert, facts = precision_pass("int8", world, clips, target="tensorrt")
    model = convert("play", graphs["play"])
    assert count_products(model)[0] > 0 and "float16" in facts["products"]
    (memory,) = (value for value in model.graph.input if value.name == "memory")
    assert memory.type.tensor_type.elem_type == TensorProto.FLOAT16


def test_tensorrt_builds_int4(graphs, world, clips, build):
    convert, _ = precision_pass("int4", world, clips, target="tensorrt")
    assert build(convert("play", graphs["play"])) > 0


def half_bundle(source, folder, world, share):
    """The bundle at float16, with noise of that share on every large weight."""
    shutil.copytree(source, folder)
    manifest = load_bundle(source).manifest
    memories = {
        name: memory.model_copy(update={"dtype": "float16"})
        for name, memory in manifest.spec.memories.items()
    }
    spec = manifest.spec.model_copy(update={"memories": memories})
    convert, facts = precision_pass("fp16", world, None)
    graphs, rng = {}, np.random.default_rng(0)
    with WeightsFile(folder / WEIGHTS) as weights:
        for name, entry in manifest.graphs.items():
            model = convert(name, onnx.load(source / entry.file))
            for tensor in model.graph.initializer:
                values = numpy_helper.to_array(tensor)
                if values.dtype.kind == "f" and values.size > 100:
                    noisy = values * (1 + share * rng.standard_normal(values.shape))
                    tensor.CopyFrom(numpy_helper.from_array(noisy.astype(values.dtype), tensor.name))
            weights.take(model)
            (folder / entry.file).write_bytes(model.SerializeToString())
            inputs, outputs = signatures(spec)[name]
            graphs[name] = GraphEntry(file=entry.file, data=entry.data, inputs=inputs, outputs=outputs)
    draft = {name: getattr(manifest, name) for name in Draft.model_fields}
    seal(folder, Draft(**{**draft, "spec": spec, "graphs": graphs, "precision": "fp16", "recipe": facts}))
    return folder


def test_the_bounds_of_float16_tell_sound_from_faulty(tiny_bundle, world, clips, tmp_path):
    bundles = {share: half_bundle(tiny_bundle, tmp_path / str(share), world, share) for share in (0, 0.05)}
    rows = {}
    with Worker("reference", Contestant, tiny_bundle, "reference", clips[0, 0], time.time()) as reference:
        exam = Exam(reference, world.spec, clips, frames=12, rollouts=2, seed=0)
        for share, folder in bundles.items():
            with Worker("ort-cpu", Contestant, folder, "ort-cpu", clips[0, 0], time.time()) as worker:
                rows[share] = examine_runtime(worker, "fp16", exam, print)
    assert (rows[0].status, rows[0].reasons) == ("passed", ())
    one_pass = rows[0].parity.pass_
    assert one_pass is not None and one_pass.max_abs > 1e-3, "that would be float32"
    for rung in ("L1 pass", "L2 frame", "L3 rollout"):
        assert any(reason.startswith(rung) for reason in rows[0.05].reasons), rung
