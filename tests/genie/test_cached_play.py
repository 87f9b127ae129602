"""Cached play, frame by frame over a ring, equals one full banded pass over the whole history."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import Tensor

from pocketgenie.genie.config import TransformerConfig
from pocketgenie.genie.dynamics import Dynamics
from pocketgenie.genie.noise import draw_noise
from pocketgenie.genie.quantizer import build_quantizer
from pocketgenie.genie.sampler import Sampler
from pocketgenie.genie.tokenizer import Tokenizer
from pocketgenie.genie.transformer import Past, STTransformer, past_from_memory

TOLERANCE = 1e-4


class Ring:
    """The memory of play as a runtime keeps it: frame t in slot t % W. Slots nobody wrote hold rubbish."""

    def __init__(
        self, transformer: STTransformer, config: TransformerConfig, window: int, tokens: int
    ) -> None:
        entry = (config.layers, 2, tokens, config.heads, config.head_dim)
        dtype = transformer.norm.weight.dtype
        self.memory = torch.randn(window, *entry, dtype=dtype) * 5
        self.frames = 0

    def past(self) -> Past:
        slots = len(self.memory)
        ages = torch.tensor(
            [(self.frames - 1 - slot) % slots + 1 for slot in range(slots)], dtype=torch.int32
        )
        filled = torch.tensor([min(self.frames, slots)], dtype=torch.int32)
        return past_from_memory(self.memory, ages, filled)

    def push(self, entry: Tensor | None) -> None:
        assert entry is not None and entry.shape == self.memory.shape[1:]
        self.memory[self.frames % len(self.memory)] = entry
        self.frames += 1


def max_abs(a: Tensor, b: Tensor) -> float:
    assert a.shape == b.shape
    return (a - b).abs().max().item()


@pytest.mark.parametrize("relative_bias", [True, False])
@pytest.mark.parametrize(
    ("layers", "dim", "heads", "head_dim", "grid", "window"),
    [(2, 24, 2, 8, (4, 3), 3), (1, 16, 4, 4, (2, 2), 1), (3, 20, 3, 12, (3, 5), 6)],
)
def test_step_over_a_ring_equals_forward(
    layers, dim, heads, head_dim, grid, window, relative_bias, randomised
):
    config = TransformerConfig(
        layers=layers, dim=dim, heads=heads, head_dim=head_dim, ffn=40, relative_bias=relative_bias
    )
    tokens, frames = grid[0] * grid[1], 4 * window + 3
    transformer = randomised(STTransformer(config, grid, window))
    x = torch.randn(frames, tokens, dim)
    ring, played = Ring(transformer, config, window, tokens), []
    for frame in x:
        out, entry = transformer.step(frame, ring.past())
        ring.push(entry)
        played.append(out)
    assert max_abs(torch.stack(played), transformer(x[None])[0]) <= TOLERANCE


def test_the_past_matters_and_no_further_than_the_band(randomised):
    """Layers stack, so a frame is felt `layers * window` frames on and not one frame later."""
    config = TransformerConfig(layers=2, dim=16, heads=2, head_dim=8, ffn=16)
    transformer = randomised(STTransformer(config, (2, 2), 3))
    x = torch.randn(1, 12, 4, 16)
    changed = x.clone()
    changed[:, 2] = torch.randn(4, 16)
    felt = (transformer(x) - transformer(changed)).abs().amax((0, 2, 3)) > 1e-6
    assert felt.tolist() == [False] * 2 + [True] * 7 + [False] * 3


@pytest.mark.parametrize(
    "quantizer", [{"kind": "vq", "codes": 24, "dim": 3}, {"kind": "fsq", "levels": [4, 3, 3]}]
)
def test_tokenizer_with_temporal_memory(quantizer, small_config, randomised):
    window = 3
    config = small_config(tokenizer_window=window, quantizer=quantizer)
    own = config.tokenizer
    tokenizer = randomised(Tokenizer(config))
    frames = torch.randint(256, (4 * window + 2, 15, 12, 3), dtype=torch.uint8)
    encoder = Ring(tokenizer.encoder, own.encoder, window, 12)
    decoder = Ring(tokenizer.decoder, own.decoder, window, 12)
    tokens, latents, pixels, decoded = [], [], [], []
    for frame in frames:
        hidden, _ = tokenizer.encoder.step(tokenizer.embed_frames(frame), encoder.past())
        latents.append(tokenizer.latent_out(hidden))
        ids, entry = tokenizer.encode_step(frame, encoder.past())
        encoder.push(entry)
        tokens.append(ids)
        embedded = tokenizer.embed_codes(tokenizer.quantizer.codebook()[ids])
        pixels.append(tokenizer.pixels(tokenizer.decoder.step(embedded, decoder.past())[0]))
        picture, entry = tokenizer.decode_step(ids, decoder.past())
        decoder.push(entry)
        decoded.append(picture)
    full = tokenizer.latent_out(tokenizer.encoder(tokenizer.embed_frames(frames[None])))[0]
    assert max_abs(torch.stack(latents), full) <= TOLERANCE
    ids = tokenizer.encode(frames[None])
    assert torch.equal(torch.stack(tokens), ids[0])
    assert len(ids.unique()) > 3, "a tokenizer that says the same everywhere proves nothing"
    redrawn = tokenizer.pixels(tokenizer.decoder(tokenizer.embed_codes(tokenizer.quantizer.codebook()[ids])))
    assert max_abs(torch.stack(pixels), redrawn[0]) <= TOLERANCE
    assert (torch.stack(decoded).int() - tokenizer.decode(ids)[0].int()).abs().max() <= 1


def test_tokenizer_without_memory_is_per_frame(small_config, randomised):
    tokenizer = randomised(Tokenizer(small_config()))
    frames = torch.randint(256, (1, 5, 15, 12, 3), dtype=torch.uint8)
    tokens = tokenizer.encode(frames)
    for t in range(5):
        ids, entry = tokenizer.encode_step(frames[0, t], None)
        assert torch.equal(ids, tokens[0, t]) and entry is None
        picture, entry = tokenizer.decode_step(ids, None)
        assert torch.equal(picture, tokenizer.decode(tokens)[0, t]) and entry is None


@pytest.fixture
def world(small_config, randomised):
    def make(window: int = 3, dtype: torch.dtype = torch.float32, **sampling: object):
        config = small_config(window=window, sampling={"steps": 3, "temperature": 1.0} | sampling)
        features = build_quantizer(config.tokenizer.quantizer).features()
        dynamics = randomised(Dynamics(config, features)).to(dtype)
        ring = Ring(dynamics.transformer, config.dynamics.transformer, window, 12)
        return config.spec(), dynamics, ring

    return make


@pytest.mark.parametrize("window", [1, 4])
def test_teacher_forced_logits(window, world):
    """One refinement pass with half of the frame masked, float32, on a given history."""
    spec, dynamics, ring = world(window)
    frames = 4 * window + 3
    history = torch.randint(spec.codebook, (frames, spec.tokens))
    actions = torch.randint(spec.actions + 1, (frames,))
    for t in range(frames):
        masked = history[t].masked_fill(torch.rand(spec.tokens) < 0.5, spec.codebook)
        hidden, _ = dynamics.step(masked, actions[t : t + 1].int(), ring.past())
        full = dynamics(torch.cat([history[:t], masked[None]])[None], actions[None, : t + 1])[0, -1]
        assert max_abs(dynamics.head(hidden), full) <= TOLERANCE
        ring.push(dynamics.step(history[t], actions[t : t + 1].int(), ring.past())[1])


@pytest.mark.parametrize("temperature", [0.0, 1.0])
@pytest.mark.parametrize("order", ["halton", "confidence"])
def test_free_running_play_draws_the_same_tokens(order, temperature, world):
    """In float64, where no near-tie of the logits can turn on rounding."""
    window = 3
    spec, dynamics, ring = world(window, torch.float64, order=order, temperature=temperature)
    sampler = Sampler(spec)
    history = torch.zeros(0, spec.tokens, dtype=torch.int64)
    actions = torch.randint(spec.actions, (4 * window + 3,)).int()
    actions[0] = spec.no_action
    for t in range(len(actions)):
        noise = torch.from_numpy(draw_noise(spec, seed=7, frame=t))
        past, action = ring.past(), actions[t : t + 1]

        def cached(tokens: Tensor, action=action, past=past) -> Tensor:
            return dynamics.step(tokens, action, past)[0]

        def full(tokens: Tensor, t=t, history=history) -> Tensor:
            both = torch.cat([history, tokens[None]])[None]
            return dynamics.transformer(dynamics.embed(both, actions[None, : t + 1].long()))[0, -1]

        tokens = sampler(cached, dynamics.head, noise)
        again = sampler(full, dynamics.head, noise)
        assert torch.equal(tokens, again), f"frame {t}: {int((tokens != again).sum())} tokens differ"
        assert tokens.min() >= 0 and tokens.max() < spec.codebook
        ring.push(dynamics.step(tokens, action, past)[1])
        history = torch.cat([history, tokens[None]])
    assert len(np.unique(history)) > 6


def test_training_shows_what_play_shows(world):
    """`forward_training`: each masked frame sees its clean past and its masked self, as in a step of play."""
    spec, dynamics, _ = world(window=2)
    clips, frames = 2, 7
    clean = torch.randint(spec.codebook, (clips, frames, spec.tokens))
    masked = clean.masked_fill(torch.rand(clean.shape) < 0.6, spec.codebook)
    actions = torch.randint(spec.actions + 1, (clips, frames))
    trained = dynamics.forward_training(clean, masked, actions)
    for clip in range(clips):
        _, _, ring = world(window=2)
        for t in range(frames):
            action = actions[clip, t : t + 1].int()
            hidden, _ = dynamics.step(masked[clip, t], action, ring.past())
            assert max_abs(hidden, trained[clip, t]) <= TOLERANCE
            shown = torch.cat([clean[clip, :t], masked[clip, t : t + 1]])[None]
            full = dynamics.transformer(dynamics.embed(shown, actions[clip, None, : t + 1]))[0, -1]
            assert max_abs(full, trained[clip, t]) <= TOLERANCE
            ring.push(dynamics.step(clean[clip, t], action, ring.past())[1])
