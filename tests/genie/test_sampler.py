"""Refinement against a plain loop written from the papers, and the noise against its distribution."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from pocketgenie.genie.config import load_config, shipped_configs
from pocketgenie.genie.noise import (
    ROW,
    TABLE_OFFSETS,
    draw_noise,
    gumbel_table,
    halton_order,
    read_noise,
    rows_for,
    unmask_counts,
)
from pocketgenie.genie.sampler import Sampler, rank
from pocketgenie.genie.spec import MemorySpec, WorldSpec


def make_spec(**changes: object) -> WorldSpec:
    plain = {
        "name": "plain",
        "height": 12,
        "width": 16,
        "grid": (3, 4),
        "codebook": 9,
        "actions": 4,
        "steps": 4,
        "temperature": 1.0,
        "fps": 10,
        "memories": {"dynamics": MemorySpec(slots=2, entry=(1, 2, 12, 1, 4))},
    }
    return WorldSpec.model_validate(plain | changes)


@given(st.lists(st.integers(-2, 2), min_size=1, max_size=40))
def test_rank_counts_and_gives_ties_to_the_lowest_index(scores):
    order = sorted(range(len(scores)), key=lambda i: (-scores[i], i))
    assert rank(torch.tensor(scores).float())[order].tolist() == list(range(len(scores)))


@given(st.integers(1, 300).flatmap(lambda tokens: st.tuples(st.just(tokens), st.integers(1, tokens))))
def test_every_step_unmasks_something_and_the_last_all(case):
    tokens, steps = case
    counts = unmask_counts(tokens, steps)
    assert len(counts) == steps and counts[-1] == tokens
    assert all(a < b for a, b in zip([0, *counts], counts, strict=False))


def test_the_schedule_is_the_cosine():
    assert unmask_counts(64, 4) == [
        64 - math.floor(64 * math.cos(math.pi / 8 * k) + 1e-9) for k in (1, 2, 3, 4)
    ]


@given(st.integers(1, 24), st.integers(1, 24))
def test_halton_visits_every_position_once(rows, columns):
    assert sorted(halton_order(rows, columns).tolist()) == list(range(rows * columns))


def test_a_halton_prefix_is_spread_out():
    """A quarter of an 8x8 frame: 16 tokens, 4 in each quadrant, give or take one."""
    first = halton_order(8, 8)[:16]
    quadrant = (first // 8 // 4) * 2 + first % 8 // 4
    assert abs(np.bincount(quadrant, minlength=4) - 4).max() <= 1


def test_the_table_is_gumbel_and_zero_at_offset_0():
    codebook = 512
    table = gumbel_table(codebook)
    zeros = rows_for(codebook + 1)
    assert table.dtype == np.float32 and table.shape == (zeros + TABLE_OFFSETS + zeros - 1, ROW)
    assert not table[:zeros].any()
    values = table[zeros:].astype(np.float64).ravel()
    assert abs(values.mean() - np.euler_gamma) < 4 * math.sqrt(math.pi**2 / 6 / len(values))
    assert abs(values.var() - math.pi**2 / 6) < 0.1
    uniform = np.sort(np.exp(-np.exp(-values)))
    distance = np.abs(uniform - (np.arange(len(values)) + 0.5) / len(values)).max()
    assert distance * math.sqrt(len(values)) < 1.63  # Kolmogorov-Smirnov at 1 %
    assert abs(np.corrcoef(values[1:], values[:-1])[0, 1]) < 0.03


def test_drawing_over_all_offsets_follows_the_softmax():
    spec = make_spec()
    logits = torch.linspace(-1.5, 1.5, spec.codebook).expand(TABLE_OFFSETS, -1)
    offsets = torch.arange(TABLE_OFFSETS, dtype=torch.int32) + rows_for(spec.codebook + 1)
    drawn = (logits + Sampler(spec).noise(offsets, spec.codebook)).argmax(-1)
    share = torch.bincount(drawn, minlength=spec.codebook) / len(drawn)
    assert (share - logits[0].softmax(-1)).abs().max() < 0.01


@pytest.mark.parametrize("order", ["halton", "confidence"])
def test_offset_0_draws_the_likeliest_and_ties_go_to_the_lowest_id(order):
    spec = make_spec(temperature=2.0, order=order, steps=1)
    logits = torch.randint(3, (spec.tokens, spec.codebook)).float()
    silence = torch.zeros(1, spec.tokens, dtype=torch.int32)
    drawn = Sampler(spec)(lambda tokens: logits, lambda rows: rows, silence)
    assert drawn.tolist() == [row.tolist().index(row.max()) for row in logits]
    assert not Sampler(spec).noise(silence[0], spec.codebook + 1).any()


def test_the_graphs_and_the_host_read_the_same_noise():
    spec = make_spec(temperature=1.0)
    offsets = draw_noise(spec, 1, 2)[0]
    host = read_noise(gumbel_table(spec.codebook), offsets, spec.codebook)
    assert np.array_equal(Sampler(spec).noise(torch.from_numpy(offsets), spec.codebook + 1).numpy(), host)


def test_noise_is_a_pure_function_of_seed_and_frame():
    spec = make_spec()
    noise = draw_noise(spec, seed=3, frame=5)
    assert noise.dtype == np.int32 and noise.shape == (spec.steps, spec.tokens)
    assert np.array_equal(noise, draw_noise(spec, seed=3, frame=5))
    assert not np.array_equal(noise, draw_noise(spec, seed=3, frame=6))
    assert not np.array_equal(noise, draw_noise(spec, seed=4, frame=5))
    many = np.concatenate([draw_noise(spec, 0, frame).ravel() for frame in range(400)])
    many -= rows_for(spec.codebook + 1)
    assert 0 <= many.min() < many.max() < TABLE_OFFSETS
    assert not draw_noise(spec, 3, 5, temperature_zero=True).any()
    assert not draw_noise(make_spec(temperature=0), 3, 5).any()


def plain_maskgit(spec: WorldSpec, logits_of, noise: np.ndarray) -> list[int]:
    """MaskGIT as the papers tell it: one token at a time, no tensors but the logits."""
    table = gumbel_table(spec.codebook) * np.float32(spec.temperature)
    tokens = [spec.codebook] * spec.tokens
    counts, order = unmask_counts(spec.tokens, spec.steps), halton_order(*spec.grid).tolist()
    for step in range(spec.steps):
        logits = logits_of(tokens)
        masked = [s for s in range(spec.tokens) if tokens[s] == spec.codebook]
        drawn, score = {}, {}
        for s in masked:
            gumbel = table[noise[step, s] :].ravel()[: spec.codebook + 1]
            drawn[s] = int(np.argmax(logits[s] + gumbel[:-1]))
            likely = logits[s, drawn[s]] - np.log(np.exp(logits[s].astype(np.float64)).sum())
            score[s] = likely + gumbel[-1] * (1 - (step + 1) / spec.steps)
        fixed = spec.tokens - len(masked)
        ranked = sorted(masked, key=lambda s: (-score[s], s)) if spec.order == "confidence" else order[fixed:]
        for s in ranked[: counts[step] - fixed]:
            tokens[s] = drawn[s]
    return tokens


@pytest.mark.parametrize("temperature", [0.0, 0.7])
@pytest.mark.parametrize("steps", [1, 4, 12])
@pytest.mark.parametrize("order", ["halton", "confidence"])
def test_refinement_equals_a_plain_loop(order, steps, temperature):
    """The "model" sees every token: each refinement step changes what the next one draws."""
    spec = make_spec(order=order, steps=steps, temperature=temperature)
    embedding = torch.randn(spec.codebook + 1, 16)
    mixing, head = torch.randn(spec.tokens, spec.tokens, 16) / 2, torch.randn(16, spec.codebook)

    def hidden(tokens: torch.Tensor) -> torch.Tensor:
        return torch.einsum("stk,tk->sk", mixing, embedding[tokens])

    for frame in range(5):
        noise = draw_noise(spec, 11, frame)
        tokens = Sampler(spec)(hidden, lambda state: state @ head, torch.from_numpy(noise))
        plain = plain_maskgit(spec, lambda tokens: (hidden(torch.tensor(tokens)) @ head).numpy(), noise)
        assert tokens.dtype == torch.int64 and tokens.tolist() == plain


def test_the_shipped_worlds_can_be_sampled():
    for name in shipped_configs():
        spec = load_config(name).spec()
        assert unmask_counts(spec.tokens, spec.steps)[-1] == spec.tokens == len(halton_order(*spec.grid))
