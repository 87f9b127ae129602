"""Float8 products against float32's, on the CPU, which has the same arithmetic as the cards."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import nn

from pocketgenie.errors import UserError
from pocketgenie.genie.config import GenieConfig
from pocketgenie.genie.graphs import load_world
from pocketgenie.runtimes.fp8 import Float8Linear, check_card, to_float8, use_float8
from pocketgenie.runtimes.torch_backend import TorchDeviceBackend
from pocketgenie.runtimes.torch_cuda import open_world, random_world

CPU = torch.device("cpu")


def relative_error(a: torch.Tensor, b: torch.Tensor) -> float:
    return float((a.float() - b.float()).norm() / b.float().norm())


def test_every_row_is_scaled_to_its_own_size():
    rows = torch.randn(6, 32) * torch.tensor([[1e-6], [1e-3], [1.0], [1e3], [1e5], [0.0]])
    quantized, scale = to_float8(rows)
    assert quantized.dtype == torch.float8_e4m3fn and scale.dtype == torch.float32
    assert torch.equal(quantized[:5].float().abs().amax(-1), torch.full((5,), 448.0))
    again = quantized.float() * scale
    assert not again[5].any()
    for row, back in zip(rows[:5], again[:5], strict=True):
        assert relative_error(back, row) < 0.04  # three bits of mantissa


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16])
def test_a_float8_layer_is_near_the_plain_one(dtype):
    plain = nn.Linear(256, 96, bias=False).requires_grad_(False)
    plain.weight.data *= torch.logspace(-2, 2, 96)[:, None]  # outputs of very different sizes
    x = torch.randn(3, 5, 256) * torch.logspace(-2, 1, 5)[:, None]
    wanted = plain(x)
    given = Float8Linear(plain.to(dtype))(x.to(dtype))
    assert given.dtype == dtype and given.shape == wanted.shape
    for token in range(5):
        assert relative_error(given[:, token], wanted[:, token]) < 0.05
    for output in range(0, 96, 16):
        assert relative_error(given[..., output], wanted[..., output]) < 0.1


def test_layers_are_replaced_and_others_left():
    module = nn.Sequential(
        nn.Linear(32, 16, bias=False), nn.Sequential(nn.Linear(16, 48, bias=False)), nn.Linear(48, 3)
    )
    assert use_float8(module) == 2
    assert isinstance(module[0], Float8Linear) and isinstance(module[2], nn.Linear)
    assert module[0].weight.element_size() == 1


def test_odd_sizes_are_refused():
    with pytest.raises(UserError, match="multiples of 16, not 24 x 48; play it at float16"):
        use_float8(nn.Sequential(nn.Linear(24, 48, bias=False)))


def test_a_world_with_float8_products_says_nearly_the_same(tiny_checkpoint):
    document = load_world(tiny_checkpoint).genie.config.model_dump()
    document["dynamics"]["transformer"] |= {"dim": 64, "head_dim": 16, "ffn": 128}
    world = random_world(GenieConfig.model_validate(document), CPU, torch.bfloat16)
    check_card(CPU)
    plain, float8 = (
        open_world(world, "cuda-graph", device=CPU, dtype=torch.bfloat16, compiled="no", float8=float8)
        for float8 in (False, True)
    )
    assert isinstance(float8.backend, TorchDeviceBackend)
    parts = {part for graph in float8.backend.graphs.values() for part in graph.module.modules()}
    kinds = [type(part) for part in parts]
    assert kinds.count(Float8Linear) == 2 * 6, "two layers of six, the same for all graphs"
    history = np.random.default_rng(0).integers(0, world.spec.codebook, (6, world.spec.tokens))
    masked = np.full(world.spec.tokens, world.spec.codebook)
    logits = []
    for session in (plain, float8):
        for tokens in history:
            session.observe(tokens, 1)
        logits.append(session.logits(masked, 2))
    assert 0.98 < np.corrcoef(logits[0].ravel(), logits[1].ravel())[0, 1] < 0.99999
    assert np.abs(logits[0] - logits[1]).max() < logits[0].std()
