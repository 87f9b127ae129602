"""What a frame must do at least: operations and bytes counted from a world's sizes, and the time they need.

Counted: matrix products with weights, products of attention, weights and memories read once for each pass.
Not counted: activations (they mostly stay in the caches), norms and other work per element, and what a player
can compute beforehand (the tables of embeddings and output weights). So the bound is one from below.
"""

from __future__ import annotations

from pocketgenie.genie.config import GenieConfig, TransformerConfig
from pocketgenie.runtimes.sweep_results import Bound, Limits, Speed, Work

WEIGHT_BYTES = {"float32": 4, "bfloat16": 2, "float16": 2, "float8": 1}
ENTRY_BYTES = {"float32": 4, "bfloat16": 2, "float16": 2, "float8": 2}
"""Of keys and values; float8 is for weights and products with them."""


def count(config: GenieConfig, dtype: str) -> Work:
    """A cached frame: N passes and one more over one frame, then the decoder."""
    spec = config.spec()
    S, N, V = spec.tokens, spec.steps, spec.codebook
    dynamics, decoder = config.dynamics.transformer, config.tokenizer.decoder
    passes, past, decoder_past = N + 1, config.dynamics.window, config.tokenizer.window
    rows = S if spec.order == "halton" else N * S  # Halton: only a step's own tokens need logits
    edges = config.tokenizer.quantizer.latent_dim + 3 * config.tokenizer.patch**2
    weights = (
        passes * _weights(dynamics, past)
        + N * V * dynamics.dim
        + _weights(decoder, decoder_past)
        + edges * decoder.dim
    )
    linear = (
        passes * 2 * S * _weights(dynamics, past)
        + 2 * rows * V * dynamics.dim
        + 2 * S * (_weights(decoder, decoder_past) + edges * decoder.dim)
    )
    attention = passes * _attention(dynamics, S, S, past) + _attention(decoder, S, S, decoder_past)
    entries = passes * past * _entry(dynamics, S) + decoder_past * _entry(decoder, S)
    return Work(
        passes=passes,
        linear_gflop=1e-9 * linear,
        attention_gflop=1e-9 * attention,
        weights_gb=1e-9 * weights * WEIGHT_BYTES[dtype],
        memory_gb=1e-9 * entries * ENTRY_BYTES[dtype],
    )


def count_full_window(config: GenieConfig, dtype: str) -> Work:
    """The paper's way: every pass and the decoder go over the whole window of frames; no memory is kept."""
    spec = config.spec()
    S, N, V = spec.tokens, spec.steps, spec.codebook
    dynamics, decoder = config.dynamics.transformer, config.tokenizer.decoder
    T = config.dynamics.window + 1
    decoded = T if config.tokenizer.window else 1
    edges = config.tokenizer.quantizer.latent_dim + 3 * config.tokenizer.patch**2
    inner, outer = _weights(dynamics, T), _weights(decoder, config.tokenizer.window) + edges * decoder.dim
    linear = N * 2 * S * (T * inner + V * dynamics.dim) + 2 * S * decoded * outer
    attention = N * T * _attention(dynamics, S, S, T)
    attention += decoded * _attention(decoder, S, S, decoded if decoded > 1 else 0)
    weights = N * (inner + V * dynamics.dim) + outer
    return Work(
        passes=N,
        linear_gflop=1e-9 * linear,
        attention_gflop=1e-9 * attention,
        weights_gb=1e-9 * weights * WEIGHT_BYTES[dtype],
        memory_gb=0.0,
    )


def bound(work: Work, dtype: str, limits: Limits, speed: Speed) -> Bound | None:
    """The least time against the measured one; None where a limit was not measured."""
    attends = "bfloat16" if dtype == "float8" else dtype
    if limits.bandwidth is None or not {dtype, attends} <= limits.matrix.keys():
        return None
    operations = (
        work.linear_gflop / limits.matrix[dtype].best + work.attention_gflop / limits.matrix[attends].best
    )
    moved = 1000 * (work.weights_gb + work.memory_gb) / limits.bandwidth.best
    return Bound(
        binds="operations" if operations > moved else "bandwidth",
        operations_ms=operations,
        bandwidth_ms=moved,
        share=max(operations, moved) * speed.fps / 1000,
    )


def parameters(config: GenieConfig) -> int:
    """Of the parts that play: dynamics and decoder, their layers."""
    dynamics, decoder = config.dynamics, config.tokenizer
    return _weights(dynamics.transformer, dynamics.window) + _weights(decoder.decoder, decoder.window)


def _weights(config: TransformerConfig, past: int) -> int:
    """Of all layers: projections of attention in space (and in time, where there is a past), feed-forward."""
    projections = 4 * config.dim * config.heads * config.head_dim * (2 if past else 1)
    return config.layers * (projections + 2 * config.dim * config.ffn)


def _attention(config: TransformerConfig, tokens: int, seen: int, past: int) -> int:
    """Scores and mixing for one frame: every token sees `seen` tokens, and its own place in `past` frames."""
    return config.layers * 4 * tokens * (seen + past) * config.heads * config.head_dim


def _entry(config: TransformerConfig, tokens: int) -> int:
    """Numbers in one frame's keys and values."""
    return config.layers * 2 * tokens * config.heads * config.head_dim
