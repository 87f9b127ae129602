"""PyTorch's players for a GPU: run here on the CPU (all but the capture) against the plain reference."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from pocketgenie.errors import UserError
from pocketgenie.export.bundle import load_bundle
from pocketgenie.genie.config import GenieConfig, load_config
from pocketgenie.genie.graphs import GenieWorld, load_world
from pocketgenie.genie.noise import draw_noise, gumbel_table
from pocketgenie.genie.sampler import Sampler
from pocketgenie.genie.spec import TensorSpec
from pocketgenie.runtimes.reference import world_session
from pocketgenie.runtimes.session import GraphSession
from pocketgenie.runtimes.torch_backend import TorchDeviceBackend, Transfer
from pocketgenie.runtimes.torch_cuda import load_graph, open_world, probe, random_world

CPU, CARD = torch.device("cpu"), torch.device("cuda:0")
FRAMES = 14  # more than 4 x W
ROUNDING = {torch.bfloat16: 0.1, torch.float16: 0.0125}
"""Largest difference of a logit to float32's, for logits that spread by about 1."""


@pytest.fixture(scope="module")
def config(tiny_checkpoint: Path) -> GenieConfig:
    return load_world(tiny_checkpoint).genie.config


@pytest.fixture(scope="module")
def other_config(config: GenieConfig) -> GenieConfig:
    """Everything that the tiny world leaves out: tokenizer memory, VQ, the order of confidence, no biases."""
    document = config.model_dump()
    document["tokenizer"] |= {"window": 3, "quantizer": {"kind": "vq", "codes": 48, "dim": 4}}
    document["sampling"]["order"] = "confidence"
    for part in (document["tokenizer"]["decoder"], document["dynamics"]["transformer"]):
        part["relative_bias"] = False
    return GenieConfig.model_validate(document)


@pytest.fixture(params=["config", "other_config"])
def world(request: pytest.FixtureRequest) -> GenieWorld:
    return random_world(request.getfixturevalue(request.param), CPU, torch.float32)


@pytest.fixture
def picture(config: GenieConfig) -> np.ndarray:
    shape = (config.height, config.width, 3)
    return np.random.default_rng(0).integers(0, 256, shape, np.uint8)


def parts_of(session: GraphSession) -> set[torch.nn.Module]:
    assert isinstance(session.backend, TorchDeviceBackend)
    return {part for graph in session.backend.graphs.values() for part in graph.module.modules()}


def memory_of(session: GraphSession) -> torch.Tensor:
    memory = session.rings["dynamics"].memory
    assert isinstance(memory, torch.Tensor)
    return memory


def played(session: GraphSession, picture: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Tokens [T, S], frames [T, H, W, 3] and logits of the masked frame [T, S, V] of free play."""
    session.reset()
    session.observe(session.encode(picture), session.spec.no_action)
    masked = np.full(session.spec.tokens, session.spec.codebook)
    tokens, frames, logits = [], [], []
    for frame in range(FRAMES):
        action = frame % session.spec.actions
        logits.append(session.logits(masked, action))
        drawn, shown = session.play(action, draw_noise(session.spec, 5, frame))
        tokens.append(drawn)
        frames.append(shown)
    return np.stack(tokens), np.stack(frames), np.stack(logits)


def told(session: GraphSession, tokens_TS: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Logits [T, S, V] and frames [T, H, W, 3] along a given history."""
    session.reset()
    masked = np.full(session.spec.tokens, session.spec.codebook)
    logits, frames = [], []
    for number, tokens in enumerate(tokens_TS):
        frames.append(session.decode(tokens))
        session.observe(tokens, number % session.spec.actions)
        logits.append(session.logits(masked, 0))
    return np.stack(logits), np.stack(frames)


@pytest.mark.parametrize("runtime", ["cuda-eager", "cuda-graph"])
def test_it_plays_what_the_reference_plays(runtime, world, picture):
    tokens, frames, logits = played(world_session(world), picture)
    session = open_world(world, runtime, device=CPU, compiled="no")
    own_tokens, own_frames, own_logits = played(session, picture)
    assert np.array_equal(tokens, own_tokens)
    assert np.abs(frames.astype(int) - own_frames).max() <= 1
    assert np.abs(logits - own_logits).max() < 1e-4
    clip = np.stack([picture] * world.spec.action_frames)
    named, distances = world_session(world).infer_action(clip)
    own_named, own_distances = session.infer_action(clip)
    assert named == own_named and np.allclose(distances, own_distances, atol=1e-4)
    assert len(np.unique(tokens)) > 10 and logits.std() > 0.5, "a world that says little proves little"
    session.close()


@pytest.mark.parametrize("dtype", ROUNDING)
@pytest.mark.parametrize("runtime", ["cuda-eager", "cuda-graph"])
def test_at_half_the_width_it_differs_by_rounding(runtime, dtype, world, picture):
    history = played(world_session(world), picture)[0]
    logits, frames = told(world_session(world), history)
    session = open_world(world, runtime, device=CPU, dtype=dtype, compiled="no")
    own_logits, own_frames = told(session, history)
    assert memory_of(session).dtype == dtype
    difference = np.abs(logits - own_logits)
    assert 0 < difference.max() < ROUNDING[dtype] * logits.std(), difference.max()
    error = (frames.astype(float) - own_frames) / 255
    assert -10 * np.log10(np.square(error).mean()) > 40, "dB"
    drawn = played(session, picture)[0]
    assert drawn.min() >= 0 and drawn.max() < world.spec.codebook


def test_the_noise_is_float32_at_every_dtype(config):
    world = random_world(config, CPU, torch.bfloat16)
    session = open_world(world, "cuda-graph", device=CPU, dtype=torch.float16, compiled="no")
    (table,) = [part.table for part in parts_of(session) if isinstance(part, Sampler)]
    assert np.array_equal(table, gumbel_table(config.tokenizer.quantizer.size))


def test_whoever_plays_a_world_leaves_it_as_it_was(world):
    """The graph player has modules of its own, but no weights of its own."""
    tokens = torch.randint(world.spec.codebook, (4, world.spec.tokens))
    before = world.full_logits(tokens, torch.arange(4))
    session = open_world(world, "cuda-graph", device=CPU, compiled="no")
    assert torch.equal(before, world.full_logits(tokens, torch.arange(4)))
    own = {tensor.data_ptr() for tensor in world.genie.parameters()}
    played_with = {tensor.data_ptr() for part in parts_of(session) for tensor in part.parameters()}
    assert played_with < own


def test_a_transfer_brings_every_array_to_its_place():
    given: dict[str, np.ndarray] = {
        "a": np.arange(3, dtype=np.int32),
        "b": np.ones((2, 5), np.uint8),
        "c": np.array([2.5], np.float32),
    }
    specs = [
        TensorSpec.model_validate({"name": n, "dtype": a.dtype.name, "shape": a.shape, "meaning": ""})
        for n, a in given.items()
    ]
    transfer = Transfer(tuple(specs), CPU)
    transfer.send(given)
    for name, array in given.items():
        assert np.array_equal(transfer.device[name], array)
        assert transfer.device[name].data_ptr() % 16 == 0


@pytest.mark.slow
@pytest.mark.parametrize("compiled", ["layers", "whole"])
def test_compiled_it_plays_what_the_reference_plays(compiled, config, picture):
    torch._dynamo.reset()
    torch._dynamo.utils.counters.clear()
    for seed in (0, 1):  # the second world takes the programs of the first
        world = random_world(config, CPU, torch.float32, seed)
        session = open_world(world, "cuda-graph", device=CPU, compiled=compiled)
        assert np.array_equal(played(world_session(world), picture)[0], played(session, picture)[0])
        # A layer of the dynamics and one of the tokenizer; or the graphs `play` and `logits`.
        assert torch._dynamo.utils.counters["stats"]["unique_graphs"] == 2
    torch._dynamo.reset()


@pytest.mark.slow
def test_compiled_without_ado_it_plays_what_the_reference_plays(config, picture):
    world = random_world(config, CPU, torch.float32)
    session = open_world(world, "cuda-compiled", device=CPU)
    assert np.array_equal(played(world_session(world), picture)[0], played(session, picture)[0])
    torch._dynamo.reset()


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_a_random_world_says_different_things(dtype, world, picture):
    made = random_world(world.genie.config, CPU, dtype, seed=3)
    assert {weight.dtype for weight in made.genie.dynamics.parameters()} == {dtype}
    assert torch.get_default_dtype() == torch.float32
    session = open_world(made, "cuda-eager", device=CPU, dtype=dtype)
    tokens, frames, logits = played(session, picture)
    assert 0.3 < logits.std() < 5 and len(np.unique(tokens)) > 10
    assert len({frame.tobytes() for frame in frames}) > FRAMES // 2
    again = random_world(world.genie.config, CPU, dtype, seed=3)
    assert all(
        torch.equal(a, b) for a, b in zip(made.genie.parameters(), again.genie.parameters(), strict=True)
    )


def test_the_largest_world_has_the_papers_size():
    world = random_world(load_config("paper_10b"), "meta", torch.bfloat16)
    sizes = {
        part: sum(p.numel() for p in world.genie.part(part).parameters())
        for part in ("dynamics", "tokenizer")
    }
    assert 10.0e9 < sizes["dynamics"] < 10.2e9  # 10.1B (arXiv 2402.15391, table 11)
    assert 190e6 < sizes["tokenizer"] < 210e6
    assert sum(p.numel() * p.itemsize for p in world.genie.parameters()) < 24e9
    assert world.genie.dynamics.position.is_meta


@pytest.mark.skipif(torch.version.cuda is not None, reason="needs a CPU build of torch")
def test_a_build_without_cuda_says_what_mends_it(tiny_bundle):
    for attempt in (probe, lambda: load_graph(load_bundle(tiny_bundle))):
        with pytest.raises(UserError, match=r"without CUDA; .*pip install --force-reinstall torch"):
            attempt()


@pytest.mark.gpu
@pytest.mark.parametrize("runtime", ["cuda-eager", "cuda-compiled", "cuda-graph"])
def test_a_card_plays_what_the_reference_plays(runtime, world, picture):
    reference = played(world_session(random_world(world.genie.config, CPU, torch.float32)), picture)
    session = open_world(world, runtime, device=CARD)
    assert memory_of(session).device == CARD
    tokens, _, logits = played(session, picture)
    assert np.abs(reference[2] - logits)[0].max() < 1e-3
    assert (reference[0] == tokens)[:3].all(), "near-ties may part them later"
    assert np.array_equal(played(session, picture)[0], tokens), "a reset session plays the same again"
    session.close()


@pytest.mark.gpu
@pytest.mark.parametrize(
    ("dtype", "compiled"),
    [
        (torch.float32, "no"),
        (torch.float32, "layers"),
        (torch.float16, "whole"),
        (torch.bfloat16, "no"),
        (torch.bfloat16, "layers"),
    ],
)
def test_a_captured_frame_is_what_eager_draws(dtype, compiled, config, picture):
    world = random_world(config, CARD, dtype)
    eager = open_world(world, "cuda-eager", device=CARD, dtype=dtype)
    history = played(eager, picture)[0]
    graph = open_world(world, "cuda-graph", device=CARD, dtype=dtype, compiled=compiled)
    logits, _ = told(eager, history)
    own_logits, _ = told(graph, history)
    bound = ROUNDING.get(dtype, 1e-3)
    assert np.abs(logits - own_logits).max() < bound * logits.std()
    if dtype == torch.float32:
        assert (played(graph, picture)[0] == history).mean() > 0.9, "near-ties may part them"


@pytest.mark.gpu
def test_float8_on_a_card(config, picture):
    if torch.cuda.get_device_capability() < (8, 9):
        pytest.skip("this card has no float8 products")
    document = config.model_dump()
    document["dynamics"]["transformer"] |= {"dim": 64, "head_dim": 32}
    config = GenieConfig.model_validate(document)
    world = random_world(config, CARD, torch.bfloat16)
    history = played(open_world(world, "cuda-eager", dtype=torch.bfloat16), picture)[0]
    logits, _ = told(open_world(world, "cuda-eager", dtype=torch.bfloat16), history)
    for compiled in ("no", "layers"):
        session = open_world(world, "cuda-graph", dtype=torch.bfloat16, compiled=compiled, float8=True)
        own_logits, _ = told(session, history)
        assert np.corrcoef(logits.ravel(), own_logits.ravel())[0, 1] > 0.98
