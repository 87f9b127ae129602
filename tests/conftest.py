"""Every test starts from the same seeds. The markers are declared in pyproject.toml."""

from __future__ import annotations

import random
import shutil
import sys
from pathlib import Path

import numpy as np
import pytest


@pytest.fixture(autouse=True)
def seeded() -> None:
    """Seed python, numpy and, where a test has imported it, torch."""
    random.seed(0)
    np.random.seed(0)
    if "torch" in sys.modules:
        sys.modules["torch"].manual_seed(0)


def pytest_runtest_setup(item: pytest.Item) -> None:
    """Skip what is marked `gpu` where there is no CUDA device."""
    if item.get_closest_marker("gpu"):
        import torch

        if not torch.cuda.is_available():
            pytest.skip("no CUDA device")


def tiny_config(**sampling: object) -> object:
    """A whole world of some 50k parameters: 16x16 pixels, 16 tokens, 5 actions, window 3."""
    from pocketgenie.genie.config import GenieConfig

    block = {"layers": 2, "dim": 24, "heads": 2, "head_dim": 8, "ffn": 32, "relative_bias": True}
    return GenieConfig.model_validate(
        {
            "name": "tiny",
            "height": 16,
            "width": 16,
            "fps": 10,
            "tokenizer": {
                "patch": 4,
                "window": 0,
                "encoder": block,
                "decoder": block,
                "quantizer": {"kind": "fsq", "levels": [4, 4, 4]},
            },
            "lam": {
                "patch": 4,
                "frames": 2,
                "encoder": block,
                "decoder": block,
                "quantizer": {"kind": "vq", "codes": 5, "dim": 4},
            },
            "dynamics": {"window": 3, "transformer": block},
            "sampling": {"steps": 2, "order": "halton", "temperature": 1.0} | sampling,
        }
    )


def save_tiny_checkpoint(folder: Path, **sampling: object) -> Path:
    """A tiny world with large random weights (so that its logits differ), held-out clips included."""
    import torch

    from pocketgenie.genie.checkpoint import Genie, save_config, save_part
    from pocketgenie.genie.config import GenieConfig

    torch.manual_seed(1)
    config = tiny_config(**sampling)
    assert isinstance(config, GenieConfig)
    genie = Genie(config)
    for weight in genie.parameters():
        if weight.ndim > 1:
            torch.nn.init.normal_(weight, std=0.3)
    save_config(folder, config)
    for name in ("tokenizer", "lam", "dynamics"):
        save_part(folder, name, genie.part(name))
    rng = np.random.default_rng(0)
    walk = np.cumsum(rng.integers(-12, 13, (6, 10, 16, 16, 3)), 1) + 128
    np.savez(folder / "clips.npz", frames=walk.clip(0, 255).astype(np.uint8))
    return folder


@pytest.fixture(scope="session")
def tiny_checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A checkpoint folder; tests that change it copy it first."""
    return save_tiny_checkpoint(tmp_path_factory.mktemp("checkpoint") / "tiny")


@pytest.fixture(scope="session")
def tiny_bundle(tiny_checkpoint: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The same world as an ONNX bundle; tests that change it copy it first."""
    from pocketgenie.export.world import ExportOptions, export_checkpoint

    folder = tmp_path_factory.mktemp("bundle") / "tiny"
    export_checkpoint(tiny_checkpoint, folder, ExportOptions(), lambda what: None)
    return folder


@pytest.fixture(scope="session")
def web_bundle(tiny_checkpoint: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The same world as a site, float32; tests that change it copy it first."""
    from pocketgenie.errors import UserError
    from pocketgenie.export.ortweb import fetch_package
    from pocketgenie.export.world import ExportOptions, export_checkpoint

    try:
        fetch_package()
    except UserError as error:
        pytest.skip(str(error))
    folder = tmp_path_factory.mktemp("bundle") / "tiny-web"
    export_checkpoint(tiny_checkpoint, folder, ExportOptions(target="web"), lambda what: None)
    return folder


@pytest.fixture(scope="session")
def taught_checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tiny world whose lineage names a teacher beside it, which has other weights."""
    from pocketgenie.genie.checkpoint import Lineage, checkpoint_hash, load_genie, save_config, save_part

    place = tmp_path_factory.mktemp("taught")
    teacher = save_tiny_checkpoint(place / "teacher", steps=4)
    student = save_tiny_checkpoint(place / "student")
    genie = load_genie(student)
    for weight in genie.dynamics.parameters():
        weight.mul_(0.9)
    save_part(student, "dynamics", genie.dynamics)
    lineage = Lineage(teacher="../teacher", teacher_hash=checkpoint_hash(teacher))
    save_config(student, genie.config, lineage)
    return student


@pytest.fixture(scope="session")
def taught_bundle(taught_checkpoint: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The taught world as an ONNX bundle, its teacher inside; tests that change it copy it first."""
    from pocketgenie.export.world import ExportOptions, export_checkpoint

    folder = tmp_path_factory.mktemp("bundle") / "taught"
    export_checkpoint(taught_checkpoint, folder, ExportOptions(), lambda what: None)
    return folder


@pytest.fixture(scope="session")
def faulty_bundle(tiny_bundle: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The tiny bundle with noise on every weight of its graphs, sealed anew: sound files, another world."""
    import onnx

    from pocketgenie.export.bundle import load_bundle, seal
    from pocketgenie.export.manifest import Draft

    folder = tmp_path_factory.mktemp("faulty") / "tiny"
    shutil.copytree(tiny_bundle, folder)
    manifest = load_bundle(folder).manifest
    weights, rng = bytearray((folder / "weights.bin").read_bytes()), np.random.default_rng(0)
    places = set()
    for entry in manifest.graphs.values():
        for tensor in onnx.load(folder / entry.file, load_external_data=False).graph.initializer:
            where = {item.key: item.value for item in tensor.external_data}
            if where and tensor.data_type == onnx.TensorProto.FLOAT:
                places.add((int(where["offset"]), int(where["length"])))
    for offset, length in sorted(places):
        values = np.frombuffer(weights, np.float32, length // 4, offset)
        values *= 1 + 0.05 * rng.standard_normal(len(values), np.float32)
    (folder / "weights.bin").write_bytes(weights)
    seal(folder, Draft(**{name: getattr(manifest, name) for name in Draft.model_fields}))
    return folder
