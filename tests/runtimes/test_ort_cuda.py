"""The runtime `ort-cuda` as far as it goes without a card; test_device_backend.py holds that it plays."""

from __future__ import annotations

import subprocess
import sys
from collections import Counter

import numpy as np
import onnx
import onnxruntime as ort
import pytest

from pocketgenie.errors import UserError
from pocketgenie.export.bundle import load_bundle
from pocketgenie.genie.noise import draw_noise
from pocketgenie.runtimes import ort_cuda
from pocketgenie.runtimes.device import HostDevice
from pocketgenie.runtimes.ort_cpu import IDENTITY
from pocketgenie.runtimes.ort_cuda import CPU, CUDA, HEAVY, OrtEngine
from pocketgenie.runtimes.table import load_session

without_provider = pytest.mark.skipif(
    CUDA in ort.get_available_providers(), reason="onnxruntime-gpu is installed"
)


@without_provider
def test_an_onnxruntime_without_cuda_is_one_line_with_the_command(tiny_bundle):
    line = r"^onnxruntime here has no CUDA provider; pip uninstall onnxruntime; pip install 'onnxruntime-gpu"
    with pytest.raises(UserError, match=line):
        load_session(tiny_bundle, "ort-cuda")
    with pytest.raises(UserError, match=line):
        ort_cuda.probe()


@without_provider
def test_a_provider_that_is_not_there_never_becomes_the_cpu_in_silence(tiny_bundle):
    """Past the first check, as on a machine whose provider fails to load: nothing is printed either."""
    code = """
import sys
from pathlib import Path
from pocketgenie.errors import UserError
from pocketgenie.runtimes.device import HostDevice
from pocketgenie.runtimes.ort_cpu import IDENTITY
from pocketgenie.runtimes.ort_cuda import CUDA, OrtEngine
try:
    OrtEngine(IDENTITY, HostDevice(), CUDA)
except UserError as error:
    sys.exit(0 if str(error).startswith("onnxruntime cannot use its CUDA provider") else str(error))
sys.exit("it played")
"""
    ran = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert ran.returncode == 0 and not ran.stdout and not ran.stderr, ran.stdout + ran.stderr


def test_an_engine_is_bound_by_address():
    engine = OrtEngine(IDENTITY, HostDevice(), CPU)
    assert [(tensor.name, tensor.dtype, tensor.shape) for tensor in engine.tensors] == [
        ("x", "float32", (1,)),
        ("y", "float32", (1,)),
    ]
    given, taken = np.array([3], np.float32), np.zeros(1, np.float32)
    engine.bind("x", given.ctypes.data)
    engine.bind("y", taken.ctypes.data)
    for value in (3, 4):
        given[0] = value
        engine.enqueue()
        assert taken[0] == value


def test_what_is_left_to_the_cpu_is_counted(tiny_bundle):
    """All of it here, so the count is that of the file, fused operators included."""
    bundle = load_bundle(tiny_bundle)
    path = bundle.path(bundle.manifest.graphs["play"].file)
    left = OrtEngine(path, HostDevice(), CPU).heavy_on(CPU)
    nodes = onnx.load(path, load_external_data=False).graph.node
    held = Counter(node.op_type for node in nodes if node.op_type.startswith(HEAVY))
    assert sum(left.values()) == sum(held.values()) > 20
    assert OrtEngine(path, HostDevice(), CPU).heavy_on(CUDA) == {}


@pytest.mark.gpu
def test_on_a_card_it_plays_what_the_reference_plays(tiny_bundle):
    if CUDA not in ort.get_available_providers():
        pytest.skip("onnxruntime-gpu is not installed")
    reference, session = (load_session(tiny_bundle, name) for name in ("reference", "ort-cuda"))
    frame = np.load(tiny_bundle / "clips.npz")["frames"][0, 0]
    for one in (reference, session):
        one.reset()
        one.observe(one.encode(frame), one.spec.no_action)
    for number in range(20):
        noise, action = draw_noise(session.spec, 5, number), number % session.spec.actions
        (tokens, picture), (own, drawn) = (one.play(action, noise) for one in (reference, session))
        assert np.array_equal(tokens, own), f"frame {number}"
        assert np.abs(picture.astype(int) - drawn).max() <= 1
    session.close()
