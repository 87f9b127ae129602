"""Codes and vectors name each other."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from pocketgenie.genie.quantizer import FSQ, VQ


@given(st.lists(st.integers(2, 6), min_size=1, max_size=4).map(tuple))
def test_fsq_ids_and_codebook_round_trip(levels):
    fsq = FSQ(levels)
    codes = fsq.codebook()
    everything = torch.arange(len(codes))
    assert torch.equal(fsq.ids(torch.atanh(codes)), everything)
    assert len(codes.unique(dim=0)) == len(codes) == torch.tensor(levels).prod()
    assert codes.min() == -1 and codes.max() == 1
    quantized, ids, loss = fsq(torch.atanh(codes.clamp(-0.999, 0.999)))
    assert torch.equal(ids, everything) and loss == 0
    assert torch.allclose(quantized, codes, atol=1e-6)


@given(st.lists(st.integers(2, 6), min_size=1, max_size=3).map(tuple))
def test_fsq_features_are_one_hot_levels(levels):
    features = FSQ(levels).features()
    assert features.shape == (len(FSQ(levels).codebook()), sum(levels))
    assert (features.sum(-1) == len(levels)).all() and len(features.unique(dim=0)) == len(features)


@pytest.mark.parametrize("quantizer", [FSQ((4, 3, 5)), VQ(30, 3)], ids=["fsq", "vq"])
def test_ids_are_the_nearest_codes(quantizer):
    z = torch.randn(50, 7, 3)
    assert torch.equal(quantizer.ids(z), quantizer.distances(z).argmin(-1))
    nearest = (quantizer.bound(z).unsqueeze(-2) - quantizer.codebook()).square().sum(-1)
    assert torch.allclose(quantizer.distances(z), nearest, atol=1e-4)


@pytest.mark.parametrize("quantizer", [FSQ((4, 3, 5)), VQ(30, 3)], ids=["fsq", "vq"])
def test_quantized_values_are_codes_and_gradients_pass_through(quantizer):
    z = torch.randn(6, 3, requires_grad=True)
    quantized, ids, _ = quantizer.eval()(z)
    assert torch.allclose(quantized, quantizer.codebook()[ids], atol=1e-6)
    quantized.sum().backward()
    assert z.grad is not None and (z.grad > 0).all()


def test_vq_ids_and_codebook_round_trip_and_ties_go_to_the_lowest_id():
    vq = VQ(20, 4)
    assert torch.equal(vq.ids(vq.codebook()), torch.arange(20))
    with torch.no_grad():
        vq.vectors[7] = vq.vectors[3]
    assert vq.ids(vq.codebook())[7] == 3


@pytest.mark.parametrize("precision", [torch.float32, torch.bfloat16])
def test_dead_codes_come_back_from_the_batch(precision):
    """Under mixed precision too, where latents are bfloat16 and the codebook float32."""
    vq = VQ(16, 2).train()
    with torch.no_grad():
        vq.vectors[8:] += 100
    z = torch.randn(64, 2)
    for _ in range(500):
        with torch.autocast("cpu", torch.bfloat16, enabled=precision is torch.bfloat16):
            _, ids, loss = vq(z.to(precision))
    assert vq.vectors.abs().max() < 10 and loss.isfinite()
    assert len(ids.unique()) > 8
