"""What is counted of a frame, against what torch counts when it plays one."""

import numpy as np
import pytest
import torch
from torch.utils.flop_counter import FlopCounterMode

from pocketgenie.genie.checkpoint import Genie
from pocketgenie.genie.graphs import GenieWorld
from pocketgenie.genie.noise import draw_noise
from pocketgenie.runtimes.reference import world_session
from pocketgenie.runtimes.sweep_plan import WORLDS, configuration
from pocketgenie.runtimes.sweep_results import Limits, Rate, Speed
from pocketgenie.runtimes.sweep_torch import PaperWay
from pocketgenie.runtimes.sweep_work import bound, count, count_full_window, parameters


def world_of(name, steps):
    config = configuration(name, quick=True)
    config = config.model_copy(update={"sampling": config.sampling.model_copy(update={"steps": steps})})
    return config, GenieWorld(Genie(config).eval().requires_grad_(False))


def beforehand(config, passes):
    """Tables of embeddings and output weights, which the modules work out anew in every pass (GFLOP)."""
    quantizer = config.tokenizer.quantizer
    width = sum(quantizer.levels) if quantizer.kind == "fsq" else quantizer.dim
    return 2e-9 * quantizer.size * width * config.dynamics.transformer.dim * passes


@pytest.mark.parametrize("steps", [1, 4])
@pytest.mark.parametrize("name", WORLDS)
def test_the_operations_of_a_cached_frame_are_those_that_torch_counts(name, steps):
    config, world = world_of(name, steps)
    session = world_session(world)
    with FlopCounterMode(display=False) as counter:
        session.play(0, draw_noise(world.spec, 0, 0))
    work = count(config, "float32")
    seen = 1e-9 * counter.get_total_flops() - beforehand(config, work.passes + steps)
    assert work.linear_gflop + work.attention_gflop == pytest.approx(seen, rel=1e-6)


@pytest.mark.parametrize("name", WORLDS)
def test_the_operations_of_the_papers_way_are_those_that_torch_counts(name):
    config, world = world_of(name, 2)
    player = PaperWay(world, torch.device("cpu"))
    with FlopCounterMode(display=False) as counter:
        player.frame(0, 1)
    work = count_full_window(config, "float32")
    seen = 1e-9 * counter.get_total_flops() - beforehand(config, 2 * 2)
    assert work.linear_gflop + work.attention_gflop == pytest.approx(seen, rel=1e-6)


@pytest.mark.parametrize("name", WORLDS)
def test_the_bytes_are_those_of_the_weights_and_the_memories(name):
    config, world = world_of(name, 3)
    stacks = world.genie.dynamics.transformer.blocks, world.genie.tokenizer.decoder.blocks
    dynamics, decoder = (
        sum(part.weight.numel() for part in blocks.modules() if isinstance(part, torch.nn.Linear))
        for blocks in stacks
    )
    assert parameters(config) == dynamics + decoder
    work = count(config, "bfloat16")
    edges = world.genie.tokenizer.latent_in.weight.numel() + world.genie.tokenizer.patch_out.weight.numel()
    heads = 3 * world.genie.dynamics.code_out.numel()
    assert work.weights_gb == pytest.approx(2e-9 * (4 * dynamics + heads + decoder + edges))
    rings = {key: np.asarray(ring.memory).nbytes / 2 for key, ring in world_session(world).rings.items()}
    assert work.memory_gb == pytest.approx(1e-9 * (4 * rings["dynamics"] + rings.get("decoder", 0)))


def test_the_large_world_is_of_the_papers_size():
    assert parameters(configuration("paper_10b", quick=False)) == pytest.approx(10.2e9, rel=0.05)


def test_the_tighter_limit_binds():
    work = count(configuration("paper_10b", quick=False), "bfloat16")
    speed = Speed(fps=2.0, rounds=(2.0,), p50_ms=500.0, p95_ms=500.0, frames=1)

    def limits(tflops, gigabytes):
        return Limits(
            matrix={"bfloat16": Rate(best=tflops, unit="TFLOP/s", by_case={})},
            bandwidth=Rate(best=gigabytes, unit="GB/s", by_case={}),
        )

    slow_products = bound(work, "bfloat16", limits(100.0, 1e6), speed)
    assert slow_products and slow_products.binds == "operations"
    needed = (work.linear_gflop + work.attention_gflop) / 100
    assert slow_products.share == pytest.approx(needed * 2 / 1000)
    slow_memory = bound(work, "bfloat16", limits(1e6, 100.0), speed)
    assert slow_memory and slow_memory.binds == "bandwidth"
    assert slow_memory.bandwidth_ms == pytest.approx(10 * (work.weights_gb + work.memory_gb))
    assert bound(work, "bfloat16", Limits(), speed) is None
    assert bound(work, "float8", limits(100.0, 1.0), speed) is None, "float8 was not measured"
