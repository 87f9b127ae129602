"""1xGPT all the way: imported, exported, played by ONNX Runtime as by the reference, built for TensorRT."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import save_file

from pocketgenie.cli_import import import_checkpoint
from pocketgenie.export.bundle import load_bundle
from pocketgenie.export.world import ExportOptions, export_checkpoint
from pocketgenie.genie.noise import draw_noise
from pocketgenie.importers.onexgpt_model import Architecture, Dynamics
from pocketgenie.importers.recognise import recognise
from pocketgenie.runtimes.pictures import load_picture
from pocketgenie.runtimes.table import load_session

pytestmark = [pytest.mark.slow, pytest.mark.timeout(900)]  # one exports, one builds six engines
SIZES = {
    "num_layers": 2,
    "num_heads": 2,
    "d_model": 16,
    "T": 5,
    "S": 9,
    "image_vocab_size": 4096,
    "num_factored_vocabs": 2,
    "use_mup": True,
}


@pytest.fixture(scope="module")
def bundle(tmp_path_factory) -> Path:
    """A small model with muP and q/k norm, values drawn, and its token ids as clips."""
    place = tmp_path_factory.mktemp("onexgpt")
    torch.manual_seed(0)
    model = Dynamics(Architecture.model_validate(SIZES))
    for weight in model.parameters():
        torch.nn.init.normal_(weight, std=0.4)
    model.out_x_proj.weight.data *= 3e-4  # logits of a few units: values are really drawn
    (place / "run").mkdir()
    save_file(model.state_dict(), place / "run" / "model.safetensors")
    (place / "run" / "config.json").write_text(json.dumps(SIZES))
    np.savez(place / "tokens.npz", tokens=np.random.default_rng(0).integers(0, 4096, (3, 6, 9)))
    name = recognise(place / "run")
    assert name == "onexgpt"
    flags = {"temperature": "1"}
    import_checkpoint(place / "run", place / "world", name, flags, place / "tokens.npz", lambda what: None)
    export_checkpoint(place / "world", place / "bundle", ExportOptions(precision="fp32"), lambda what: None)
    return place / "bundle"


def test_the_runtime_plays_as_the_reference_over_several_windows(bundle, tmp_path):
    sessions = [load_session(bundle, name) for name in ("reference", "ort-cpu")]
    spec = sessions[0].spec
    np.save(tmp_path / "start.npy", np.arange(9, dtype=np.uint32)[None] * 400)
    start = load_picture(tmp_path / "start.npy", spec).frame
    tokens = [session.encode(start) for session in sessions]
    assert tokens[0].tolist() == tokens[1].tolist() == [number * 400 for number in range(9)]
    for session in sessions:
        session.observe(tokens[0], spec.no_action)
    masked = np.full(9, spec.codebook, np.int32)
    for number in range(3 * spec.memories["dynamics"].slots):
        ours, theirs = (session.logits(masked, 0) for session in sessions)
        assert ours.shape == (9, 128) and np.abs(ours - theirs).max() < 1e-4
        drawn = [session.play(0, draw_noise(spec, 0, number)) for session in sessions]
        assert np.array_equal(drawn[0][0], drawn[1][0]) and np.array_equal(drawn[0][1], drawn[1][1])


def test_every_graph_becomes_an_engine(bundle, tmp_path):
    pytest.importorskip("tensorrt_rtx", reason="tensorrt_rtx is not installed")
    from pocketgenie.export.cards import parse_cards
    from pocketgenie.export.tensorrt import build_engines

    graphs = load_bundle(bundle).manifest.graphs
    for path in (*bundle.glob("*.onnx"), bundle / "weights.bin"):
        shutil.copyfile(path, tmp_path / path.name)
    files = {name: entry.file for name, entry in graphs.items()}
    built = build_engines(tmp_path, files, parse_cards("rtx40"), "rtx", lambda what: None)
    assert built.graphs.keys() == {"encode", "observe", "step", "decode", "play", "logits"}
