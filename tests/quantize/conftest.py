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


@pytest.fixture(scope="session")
def tinyworlds(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A checkpoint folder of TinyWorlds: random weights, 4 steps, clips."""
    import torch

    from pocketgenie.genie.checkpoint import SCHEMA, WorldHeader, save_header, save_part
    from pocketgenie.importers.tinyworlds import PARTS
    from pocketgenie.importers.tinyworlds_config import TinyWorldsConfig
    from pocketgenie.importers.tinyworlds_model import TinyWorlds

    folder = tmp_path_factory.mktemp("worlds") / "tinyworlds"
    torch.manual_seed(0)
    sizes = {"frame_size": 16, "patch_size": 4, "embed_dim": 12, "num_heads": 2, "hidden_dim": 24}
    sizes |= {"num_blocks": 2}
    config = TinyWorldsConfig.model_validate(
        {
            "name": "small",
            "tokenizer": sizes | {"latent_dim": 3, "num_bins": 4},
            "lam": sizes | {"n_actions": 4},
            "dynamics": sizes,
            **{"context": 3, "steps": 4, "temperature": 0.1, "fps": 10},
        }
    )
    model = TinyWorlds(config)
    for weight in model.parameters():
        torch.nn.init.normal_(weight, std=0.4)
    document = config.model_dump(mode="json")
    save_header(folder, WorldHeader(schema_version=SCHEMA, kind="tinyworlds", config=document))
    for part in PARTS:
        save_part(folder, part, model.get_submodule(part))
    walk = np.cumsum(np.random.default_rng(0).integers(-12, 13, (6, 10, 16, 16, 3)), 1) + 128
    np.savez(folder / "clips.npz", frames=walk.clip(0, 255).astype(np.uint8))
    return folder


@pytest.fixture(scope="session")
def onexgpt(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A checkpoint folder of 1xGPT: random weights, tokens of two digits, 3 steps, token ids for clips."""
    import torch

    from pocketgenie.genie.checkpoint import SCHEMA, WorldHeader, save_header, save_part
    from pocketgenie.importers.onexgpt_model import Dynamics
    from pocketgenie.importers.onexgpt_world import Config

    folder = tmp_path_factory.mktemp("worlds") / "onexgpt"
    torch.manual_seed(0)
    sizes = {"num_layers": 2, "num_heads": 2, "d_model": 16, "T": 5, "S": 9, "image_vocab_size": 64}
    sizes |= {"num_factored_vocabs": 2}
    config = Config.model_validate({"name": "small", "steps": 3, "architecture": sizes})
    model = Dynamics(config.architecture)
    for weight in model.parameters():
        torch.nn.init.normal_(weight, std=0.2)
    with torch.no_grad():  # logits of a few units
        model.out_x_proj.weight *= 2 / model.head(model(torch.randint(65, (8, 5, 9)))).std()
    document = config.model_dump(mode="json")
    save_header(folder, WorldHeader(schema_version=SCHEMA, kind="onexgpt", config=document))
    save_part(folder, "dynamics", model)
    np.save(folder / "clips.npy", np.random.default_rng(0).integers(0, 64, (12, 7, 9)))
    return folder
