"""Real engines of a whole world, built without a GPU; and what a person hears where one cannot be built."""

from __future__ import annotations

import os
import shutil
import signal
import sys
import threading
from pathlib import Path

import onnx
import pytest
from onnx import parser

from pocketgenie.errors import UserError
from pocketgenie.export.bundle import load_bundle
from pocketgenie.export.cards import parse_cards
from pocketgenie.export.lint import lint
from pocketgenie.export.manifest import Engines, Flavor
from pocketgenie.export.tensorrt import build_engines, check_builder, engine_library

trt = pytest.importorskip("tensorrt_rtx", reason="tensorrt_rtx is not installed")

THREE = "rtx30,rtx40,rtx50"
PLAN = b"vtrt"
"""What the library's files begin with."""


def build(folder: Path, cards: str = THREE, flavor: Flavor = "rtx", *graphs: str) -> Engines:
    files = {
        path.stem: path.name for path in sorted(folder.glob("*.onnx")) if path.stem in (graphs or [path.stem])
    }
    return build_engines(folder, files, parse_cards(cards), flavor, lambda what: None)


def graph(folder: Path, text: str) -> Path:
    """One ONNX file named bad.onnx."""
    folder.mkdir(exist_ok=True)
    model = parser.parse_model(f'<ir_version: 10, opset_import: ["": 20]>\n{text}')
    (folder / "bad.onnx").write_bytes(model.SerializeToString())
    return folder


@pytest.fixture(scope="module")
def graphs(tiny_bundle: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The tiny world's ONNX files, where engines can be written."""
    folder = tmp_path_factory.mktemp("engines")
    for path in (*tiny_bundle.glob("*.onnx"), tiny_bundle / "weights.bin"):
        shutil.copyfile(path, folder / path.name)
    return folder


def test_an_engine_of_every_graph_for_three_generations(graphs, tiny_bundle, capfd):
    names = load_bundle(tiny_bundle).manifest.graphs
    said: list[str] = []
    files = {name: entry.file for name, entry in names.items()}
    built = build_engines(graphs, files, parse_cards(THREE), "rtx", said.append)
    assert built.graphs.keys() == names.keys() and len(names) == 7
    assert built.cards == ("rtx30", "rtx40", "rtx50") and built.capabilities == ("8.6", "8.9", "12.0")
    assert built.flavor == "rtx" and built.library == f"tensorrt-rtx {trt.__version__}"
    for name, engine in built.graphs.items():
        assert engine.file == f"{name}.engine" and engine.build_seconds > 0
        assert (graphs / engine.file).read_bytes()[:4] == PLAN
    assert said == [f"building the engine {name}" for name in names]
    assert capfd.readouterr() == ("", "")


def test_an_engine_is_what_the_library_itself_builds_without_tf32(graphs):
    """Also that a build can be repeated to the byte."""
    build(graphs, "rtx40", "rtx", "encode")
    plans = {}
    for tf32 in (True, False):
        silence = trt.Logger(trt.Logger.INTERNAL_ERROR)
        builder = trt.Builder(silence)
        network = builder.create_network(1 << int(trt.NetworkDefinitionCreationFlag.STRONGLY_TYPED))
        reader = trt.OnnxParser(network, silence)
        assert reader.parse_from_file(str(graphs / "encode.onnx"))
        config = builder.create_builder_config()
        config.num_compute_capabilities = 1
        config.set_compute_capability(trt.ComputeCapability.SM89, 0)
        if not tf32:
            config.clear_flag(trt.BuilderFlag.TF32)
        plans[tf32] = bytes(builder.build_serialized_network(network, config))
    assert plans[True] != plans[False]
    assert (graphs / "encode.engine").read_bytes() == plans[False]


def test_three_cards_share_the_weights(graphs):
    sizes = []
    for cards in ("rtx50", THREE):
        build(graphs, cards, "rtx", "decode")
        sizes.append((graphs / "decode.engine").stat().st_size)
    weights = sum(
        int(next(item.value for item in tensor.external_data if item.key == "length"))
        for tensor in onnx.load(graphs / "decode.onnx", load_external_data=False).graph.initializer
        if tensor.external_data
    )
    assert abs(sizes[1] - sizes[0]) < weights / 10


def test_a_portable_engine_names_no_capability(graphs):
    built = build(graphs, "portable", "rtx", "encode")
    assert built.cards == ("portable",) and built.capabilities == ()
    assert (graphs / "encode.engine").read_bytes()[:4] == PLAN


VARIANTS = {
    "three steps by confidence, a memory in the tokenizer, its codes learned": {
        "sampling": {"steps": 3, "temperature": 1.0, "order": "confidence"},
        "tokenizer": {"window": 2, "quantizer": {"kind": "vq", "codes": 24, "dim": 4}},
    },
    "one step, padded pixels, a longer clip for the action": {
        "sampling": {"steps": 1, "temperature": 0.0},
        "height": 15,
        "width": 13,
        "lam": {"frames": 3},
    },
}


@pytest.mark.slow
@pytest.mark.parametrize("changes", VARIANTS.values(), ids=VARIANTS.keys())
def test_every_kind_of_world_builds(changes, tiny_checkpoint, tmp_path):
    from pocketgenie.export.onnx import export_graphs
    from pocketgenie.genie.checkpoint import Genie, read_config
    from pocketgenie.genie.config import GenieConfig
    from pocketgenie.genie.graphs import GenieWorld

    document = read_config(tiny_checkpoint).model_dump()
    for section, change in changes.items():
        document[section] = document[section] | change if isinstance(change, dict) else change
    world = GenieWorld(Genie(GenieConfig.model_validate(document)).eval().requires_grad_(False))
    files = export_graphs(world.graphs(), tmp_path, lambda name: None)
    built = build_engines(tmp_path, files, parse_cards(THREE), "rtx", lambda what: None)
    assert built.graphs.keys() == files.keys()


def test_the_exporter_breaks_no_rule(tiny_bundle):
    for path in tiny_bundle.glob("*.onnx"):
        assert lint(onnx.load(path, load_external_data=False), ("8.6", "8.9", "12.0")) == []


def test_turing_has_engines_too(graphs):
    """Their float32 products are rewritten (tests/export/test_turing.py)."""
    before = sorted(path.name for path in graphs.iterdir())
    built = build(graphs, "rtx20", "rtx", "encode", "decode", "logits", "infer_action")
    assert built.capabilities == ("7.5",) and len(built.graphs) == 4
    assert {path.name for path in graphs.iterdir()} - set(before) <= {
        f"{name}.engine" for name in built.graphs
    }


def test_a_graph_that_breaks_a_rule_is_named_before_any_build(tmp_path):
    folder = graph(tmp_path, "g (float[2,2] x) => (float y) { [twist] y = Det(x) }")
    with pytest.raises(UserError) as raised:
        build(folder)
    assert str(raised.value).startswith("the graph bad cannot become an engine: Det node 'twist': ")
    assert "more in this graph" not in str(raised.value)
    assert not list(folder.glob("*.engine"))


@pytest.mark.parametrize(
    ("text", "said"),
    [
        (
            "g (float[4] x, int64[3,1] i, float[3] u) => (float[4] y)"
            '{ [sum] y = ScatterND<reduction="add">(x, i, u) }',
            "ScatterND node 'sum': ",
        ),
        ("g (float[4] x, int16[4] unused) => (float[4] y) { y = Relu(x) }", "TensorRT cannot build bad: "),
        (
            "g (float[4] x) => (float[4] y) { t = Cast<to=17>(x) y = Cast<to=1>(t) }",
            "Tensor t has datatype FP8",
        ),
        ("g (float[n] x) => (float[n] y) { y = Relu(x) }", "no optimization profile"),
    ],
    ids=["by the parser", "with words on stderr", "by the builder", "shapes that are not static"],
)
def test_what_the_library_refuses_itself_is_one_line(text, said, tmp_path, capfd):
    with pytest.raises(UserError) as raised:
        build(graph(tmp_path, text), "rtx40")
    line = str(raised.value)
    assert said in line and line.startswith("TensorRT cannot build bad: ") and "\n" not in line
    assert "/_src/" not in line and "Error Code" not in line
    assert capfd.readouterr() == ("", ""), "the library's own words stay off the screen"
    assert not list(tmp_path.glob("*.engine"))


def test_ctrl_c_stops_a_build(graphs):
    target = graphs / "play.engine"
    target.unlink(missing_ok=True)
    with pytest.raises(KeyboardInterrupt):
        build_engines(graphs, {"play": "play.onnx"}, parse_cards(THREE), "rtx", interrupt_soon)
    assert not target.exists()


def interrupt_soon(what: str) -> None:
    threading.Timer(0.1, os.kill, (os.getpid(), signal.SIGINT)).start()


@pytest.mark.parametrize(
    ("flavor", "module", "mend"),
    [
        ("rtx", "tensorrt_rtx", "pip install 'pocketgenie[tensorrt]'"),
        ("standard", "tensorrt", "pip install tensorrt cuda-bindings"),
    ],
)
def test_a_missing_library_is_one_line_with_the_command(flavor, module, mend, monkeypatch):
    monkeypatch.setitem(sys.modules, module, None)
    with pytest.raises(UserError) as raised:
        engine_library(flavor)
    assert str(raised.value) == f"{module} is not installed; {mend}"


def without_a_gpu() -> None:
    try:
        check_builder(parse_cards("this"), "rtx")
    except UserError:
        return
    pytest.skip("there is an NVIDIA GPU here")


@pytest.mark.parametrize(
    ("cards", "flavor", "said"), [("this", "rtx", "--cards this"), (THREE, "standard", "--flavor standard")]
)
def test_what_needs_a_gpu_says_so(cards, flavor, said):
    without_a_gpu()
    with pytest.raises(UserError) as raised:
        check_builder(parse_cards(cards), flavor)
    assert said in str(raised.value) and "no NVIDIA driver or GPU" in str(raised.value)
    assert "\n" not in str(raised.value) and "--cards rtx40" in str(raised.value)
