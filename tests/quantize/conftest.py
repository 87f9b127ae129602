"""The tiny world's float32 graphs, and what they meet in play."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import onnxruntime as ort
import pytest

GRAPHS = ("encode", "observe", "step", "decode", "play", "logits", "infer_action")


@pytest.fixture(scope="session")
def graphs(tiny_bundle: Path) -> dict[str, onnx.ModelProto]:
    """Weights inside, as the exporter hands them to a precision pass."""
    return {name: onnx.load(tiny_bundle / f"{name}.onnx") for name in GRAPHS}


@pytest.fixture(scope="session")
def world(tiny_checkpoint: Path):
    from pocketgenie.genie.graphs import load_world

    return load_world(tiny_checkpoint)


@pytest.fixture(scope="session")
def clips(tiny_checkpoint: Path) -> np.ndarray:
    with np.load(tiny_checkpoint / "clips.npz") as file:
        return file["frames"]


@pytest.fixture(scope="session")
def samples(world, clips):
    from pocketgenie.quantize.calibration import record

    return record(world, clips, rollouts=4, frames=9, seed=0)


@pytest.fixture(scope="session")
def run():
    """A graph on ONNX Runtime, inputs by name (float32 memories are rounded as the graph wants them)."""

    def run_graph(model: onnx.ModelProto, inputs: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
        options = ort.SessionOptions()
        options.intra_op_num_threads, options.log_severity_level = 1, 3
        session = ort.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])
        halves = {value.name for value in session.get_inputs() if value.type == "tensor(float16)"}
        given = {
            name: array.astype(np.float16) if name in halves else array for name, array in inputs.items()
        }
        names = [value.name for value in session.get_outputs()]
        return dict(zip(names, session.run(names, given), strict=True))

    return run_graph


@pytest.fixture(scope="session")
def build():
    """Bytes of an engine that TensorRT for RTX builds of a graph for three generations of cards."""
    sdk = pytest.importorskip("tensorrt_rtx", reason="tensorrt_rtx is not installed")

    def build_engine(model: onnx.ModelProto) -> int:
        builder = sdk.Builder(sdk.Logger(sdk.Logger.ERROR))
        network = builder.create_network(0)
        parser = sdk.OnnxParser(network, sdk.Logger(sdk.Logger.ERROR))
        parsed = parser.parse(model.SerializeToString())
        assert parsed, [parser.get_error(i).desc() for i in range(parser.num_errors)]
        config = builder.create_builder_config()
        cards = sdk.ComputeCapability.SM86, sdk.ComputeCapability.SM89, sdk.ComputeCapability.SM120
        config.num_compute_capabilities = len(cards)
        for place, card in enumerate(cards):
            config.set_compute_capability(card, place)
        plan = builder.build_serialized_network(network, config)
        assert plan is not None
        return int(plan.nbytes)

    return build_engine
