"""Playing from one block of inputs to one block of outputs, bound by address: the same world as `ort-cpu`."""

from __future__ import annotations

import ctypes
from functools import partial
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from pocketgenie.errors import UserError
from pocketgenie.export.bundle import Bundle, load_bundle
from pocketgenie.genie.checkpoint import Genie, save_config, save_part
from pocketgenie.genie.config import GenieConfig
from pocketgenie.genie.noise import draw_noise
from pocketgenie.genie.spec import MemorySpec, TensorSpec
from pocketgenie.runtimes.device import HostDevice
from pocketgenie.runtimes.device_backend import (
    ALIGNMENT,
    DeviceBackend,
    DeviceMemory,
    Entry,
    Tensor,
    check_tensors,
    nbytes,
    pack,
)
from pocketgenie.runtimes.ort_cuda import CPU, on_device, open_engine
from pocketgenie.runtimes.session import GraphSession
from pocketgenie.runtimes.table import load_session

FRAMES = 40  # more than 13 x W


@pytest.fixture(scope="module")
def windowed_bundle(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A world whose tokenizer looks back as well: three rings, of different widths."""
    from pocketgenie.export.world import ExportOptions, export_checkpoint

    folder = tmp_path_factory.mktemp("windowed")
    block = {"layers": 1, "dim": 16, "heads": 2, "head_dim": 8, "ffn": 16, "relative_bias": True}
    both = {"encoder": block, "decoder": block}
    config = GenieConfig.model_validate(
        {
            "name": "windowed",
            "height": 12,
            "width": 8,
            "fps": 10,
            "tokenizer": {"patch": 4, "window": 2, "quantizer": {"kind": "fsq", "levels": [4, 3, 3]}} | both,
            "lam": {"patch": 4, "frames": 2, "quantizer": {"kind": "vq", "codes": 5, "dim": 3}} | both,
            "dynamics": {"window": 3, "transformer": block},
            "sampling": {"steps": 2, "order": "halton", "temperature": 1.0},
        }
    )
    torch.manual_seed(2)
    genie = Genie(config)
    for weight in genie.parameters():
        if weight.ndim > 1:
            torch.nn.init.normal_(weight, std=0.3)
    save_config(folder / "checkpoint", config)
    for name in ("tokenizer", "lam", "dynamics"):
        save_part(folder / "checkpoint", name, genie.part(name))
    options = ExportOptions(reference=False)
    export_checkpoint(folder / "checkpoint", folder / "bundle", options, lambda what: None)
    return folder / "bundle"


def start_frames(session: GraphSession) -> np.ndarray:
    shape = (session.spec.action_frames, *session.spec.frame_shape)
    return np.random.default_rng(3).integers(0, 256, shape).astype(np.uint8)


def assert_same_world(one: GraphSession, other: GraphSession, frames: int) -> None:
    """Every method of both sessions gives the same, over several windows and after a reset."""
    pictures = start_frames(one)
    for _ in range(2):
        one.reset()
        other.reset()
        for session in (one, other):
            for number, picture in enumerate(pictures):
                session.observe(session.encode(picture), number if number else session.spec.no_action)
        for frame in range(frames):
            noise, action = draw_noise(one.spec, 5, frame), frame % one.spec.actions
            masked = np.full(one.spec.tokens, one.spec.codebook)
            assert np.array_equal(one.logits(masked, action), other.logits(masked, action)), f"frame {frame}"
            (tokens, picture), (others, drawn) = (s.play(action, noise) for s in (one, other))
            assert np.array_equal(tokens, others) and np.array_equal(picture, drawn), f"frame {frame}"
            assert np.array_equal(one.decode(tokens), other.decode(tokens)), f"frame {frame}"
    (named, distances), (same, measured) = (s.infer_action(pictures) for s in (one, other))
    assert named == same and np.array_equal(distances, measured)


def test_it_plays_the_world_of_ort_cpu(tiny_bundle):
    device = on_device(load_bundle(tiny_bundle), HostDevice(), CPU)
    cpu = load_session(tiny_bundle, "ort-cpu")
    assert isinstance(cpu, GraphSession)
    assert_same_world(device, cpu, FRAMES)
    device.close()


def test_three_rings_of_their_own_width_play_the_same(windowed_bundle):
    device = on_device(load_bundle(windowed_bundle), HostDevice(), CPU)
    cpu = load_session(windowed_bundle, "ort-cpu")
    assert isinstance(cpu, GraphSession) and len(device.rings) == 3
    assert_same_world(device, cpu, FRAMES)
    device.close()


def test_a_ring_keeps_what_was_written_into_each_slot():
    device, spec = HostDevice(), MemorySpec(slots=3, entry=(2, 5))
    memory = DeviceMemory(device, spec)
    held = np.ctypeslib.as_array((ctypes.c_float * 30).from_address(memory.address))
    assert memory.address % ALIGNMENT == 0 and not held.any()
    for slot in (2, 0, 1, 2):
        entry = np.random.default_rng(slot).random(10, np.float32)
        memory[slot] = Entry(entry.ctypes.data, entry.nbytes)
        assert np.array_equal(held.reshape(3, 10)[slot], entry)
    with pytest.raises(AssertionError):
        memory[3] = Entry(0, 40)


@given(st.dictionaries(st.text(min_size=1), st.integers(0, 5000), max_size=12))
def test_packed_tensors_are_aligned_and_never_overlap(sizes):
    offsets, total = pack(sizes)
    assert offsets.keys() == sizes.keys()
    end = 0
    for name, offset in sorted(offsets.items(), key=lambda item: (item[1], sizes[item[0]])):
        assert offset % ALIGNMENT == 0 and offset >= end
        end = offset + sizes[name]
    assert end <= total < end + ALIGNMENT


@given(st.sampled_from(["uint8", "int32", "float16", "float32"]), st.lists(st.integers(1, 5), max_size=3))
def test_a_tensor_takes_as_many_bytes_as_numpy_says(dtype, shape):
    spec = TensorSpec(name="x", dtype=dtype, shape=tuple(shape), meaning="")
    assert nbytes(spec) == np.zeros(shape, dtype).nbytes


def test_an_engine_that_does_not_fit_the_manifest_is_refused():
    memory = TensorSpec(name="memory", dtype="float16", shape=(3, 2), meaning="")
    tokens = TensorSpec(name="tokens", dtype="int32", shape=(4,), meaning="")
    found = Tensor("memory", "float16", (3, 2), True), Tensor("tokens", "int32", (4,), False)
    check_tensors("play", (memory,), (tokens,), found)
    check_tensors("play", (memory,), (tokens,), found[1:])  # an unused input is dropped by some libraries
    for wrong in (Tensor("tokens", "int32", (5,), False), Tensor("tokens", "int64", (4,), False)):
        with pytest.raises(UserError, match=r"`play` does not fit this bundle: output tokens int.*export"):
            check_tensors("play", (memory,), (tokens,), (found[0], wrong))
    with pytest.raises(UserError, match=r"output tokens int32 \[4\] is in the manifest but not in its file"):
        check_tensors("play", (memory,), (tokens,), found[:1])
    with pytest.raises(UserError, match="input more float32"):
        check_tensors("play", (memory,), (tokens,), (*found, Tensor("more", "float32", (1,), True)))


def test_a_graph_that_the_bundle_lacks_is_named(tiny_bundle):
    bundle = load_bundle(tiny_bundle)
    few = {name: graph for name, graph in bundle.manifest.graphs.items() if name != "logits"}
    lacking = Bundle(folder=bundle.folder, manifest=bundle.manifest.model_copy(update={"graphs": few}))
    session = on_device(lacking, HostDevice(), CPU)
    with pytest.raises(UserError, match="no graph `logits`"):
        session.logits(np.zeros(session.spec.tokens, np.int32), 0)


def test_it_says_when_a_graph_has_run_for_the_first_time(tiny_bundle):
    bundle, device, told = load_bundle(tiny_bundle), HostDevice(), []
    backend = DeviceBackend(
        bundle, device, partial(open_engine, bundle, device, CPU), lambda: told.append(set(backend.ran))
    )
    backend.open("play")  # which is not to run it
    session = GraphSession(bundle.manifest.spec, backend)
    for number in range(3):
        session.play(0, draw_noise(session.spec, 0, number))
    session.decode(np.zeros(session.spec.tokens, np.int32))
    assert told == [{"play"}, {"play", "decode"}]


def test_a_wrong_type_or_shape_of_an_input_never_reaches_the_device(tiny_bundle):
    session = on_device(load_bundle(tiny_bundle), HostDevice(), CPU)
    with pytest.raises(AssertionError, match="noise"):
        session.play(0, np.zeros(1, np.int32))
    with pytest.raises(TypeError):
        session.play(0, np.zeros((session.spec.steps, session.spec.tokens), np.int64))
