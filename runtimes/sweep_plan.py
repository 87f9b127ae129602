"""What the sweep measures and in which order: what matters most comes first. No torch."""

from __future__ import annotations

from dataclasses import dataclass

from pocketgenie.genie.config import GenieConfig, load_config

EMBEDDED, CASE_STUDY, LARGE = "coinrun", "paper_coinrun", "paper_10b"
WORLDS = (EMBEDDED, CASE_STUDY, LARGE)
PAPER_STEPS = 25
"""MaskGIT steps a frame in the paper (arXiv 2402.15391, section 2.2)."""

RIVAL = "cuda-graph"
"""CUDA-graphed PyTorch, the strongest rival: what ours is compared with."""
TORCH_PLAYERS = (RIVAL, "cuda-eager")
COMPILED = "cuda-compiled"
"""In a process of its own, since Inductor may take longer than the time that is left."""
MAX_EXPORTED = 60
"""Layers x passes that are unrolled into one exported graph; a larger one takes minutes to export."""
MAX_COMPILED = 60
"""The same for one program of torch.compile."""
MAX_WHOLE = 20
"""The same for `cuda-graph`, which is compiled whole up to here and layer by layer beyond."""
SMALL_TOKENS = 64


@dataclass(frozen=True, kw_only=True)
class Contest:
    """Players of one world at one N and dtype, who take turns."""

    world: str
    steps: int
    dtype: str
    players: tuple[str, ...]


def configuration(world: str, quick: bool) -> GenieConfig:
    """A shipped configuration; with `quick` a small twin: fewer pixels, two narrow layers, same structure."""
    config = load_config(world)
    return _small(config) if quick else config


def plan(device: str, quick: bool, asked: tuple[str, ...] = ()) -> list[Contest]:
    """All contests in order of importance; `asked` limits them to some worlds."""
    wide, narrow = ("bfloat16", "float16") if device == "cuda" else ("bfloat16", "float32")
    few, all_torch = TORCH_PLAYERS, (*TORCH_PLAYERS, COMPILED)
    exported, paper = bundle_players(device), (*TORCH_PLAYERS, "paper-way")
    found = [
        _contest(LARGE, 2, wide, few),
        _contest(EMBEDDED, 2, narrow, (*all_torch, *exported)),
        _contest(LARGE, 2, "float8", (RIVAL,)),
        _contest(CASE_STUDY, 2, narrow, (*all_torch, *exported)),
        *(_contest(EMBEDDED, n, narrow, (*few, *exported)) for n in (1, 4)),
        *(_contest(LARGE, n, wide, few) for n in (1, 4)),
        _contest(EMBEDDED, PAPER_STEPS, narrow, paper),
        _contest(CASE_STUDY, PAPER_STEPS, narrow, paper),
        _contest(LARGE, PAPER_STEPS, wide, paper),
        *(_contest(LARGE, n, "float8", (RIVAL,)) for n in (1, 4, PAPER_STEPS)),
        *(_contest(CASE_STUDY, n, narrow, (*few, *exported)) for n in (1, 4)),
        *(_contest(world, n, narrow, (RIVAL, COMPILED)) for world in (EMBEDDED, CASE_STUDY) for n in (1, 4)),
    ]
    if device == "cuda":
        found.append(_contest(LARGE, 2, "float16", few))
    if quick:  # every kind of contest once: compiling takes most of a trial
        found = [
            *found[:3],
            _contest(CASE_STUDY, PAPER_STEPS, narrow, paper[1:]),
            _contest(EMBEDDED, 4, narrow, (*few[1:], *exported)),
        ]
    return [contest for contest in found if not asked or contest.world in asked]


def bundle_players(device: str) -> tuple[str, ...]:
    """Runtimes of the table that play exported graphs and take part."""
    return ("ort-cuda", "tensorrt") if device == "cuda" else ("ort-cpu",)


def weights_dtype(dtype: str) -> str:
    """Of the weights that a player starts from: float8 products are made from bfloat16."""
    return "bfloat16" if dtype == "float8" else dtype


def unrolled_layers(config: GenieConfig, steps: int) -> int:
    """Layers of the dynamics in the `play` graph, all passes unrolled."""
    return config.dynamics.transformer.layers * (steps + 1)


def _contest(world: str, steps: int, dtype: str, players: tuple[str, ...]) -> Contest:
    return Contest(world=world, steps=steps, dtype=dtype, players=players)


def _small(config: GenieConfig) -> GenieConfig:
    sizes = config.model_dump()
    patch = config.tokenizer.patch
    while -(-sizes["height"] // patch) * -(-sizes["width"] // patch) > SMALL_TOKENS:
        sizes["height"], sizes["width"] = sizes["height"] // 2, sizes["width"] // 2
    narrow = {"layers": 2, "dim": 32, "heads": 2, "head_dim": 16, "ffn": 64}
    for part in (sizes["tokenizer"], sizes["lam"]):
        part["encoder"] |= narrow
        part["decoder"] |= narrow
    sizes["dynamics"]["transformer"] |= narrow
    small: GenieConfig = GenieConfig.model_validate(sizes)
    return small
