"""What each graph really meets when the world is played: the samples that ranges of int8 are taken from."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Mapping
from typing import Any

import numpy as np

from pocketgenie.genie.contract import World
from pocketgenie.genie.noise import draw_noise
from pocketgenie.runtimes.reference import TorchBackend
from pocketgenie.runtimes.session import Array, GraphSession
from pocketgenie.training.evaluation import infer_actions

Samples = dict[str, list[dict[str, Array]]]
"""Graph -> inputs by name"""
LIMIT = 24
"""Samples of each graph; one holds a whole memory (6 MB for the embedded world)."""
HELD = (2, 9)  # frames for which an action is held, as a player would


def record(world: World, clips: Array, *, rollouts: int, frames: int, seed: int) -> Samples:
    """Play the world at float32 and keep up to LIMIT inputs of every graph, drawn evenly from all calls.

    Each roll-out is teacher-forced over a part of a clip (uint8 [N, T, H, W, 3]), with the actions that the
    action model names, and goes on for `frames` frames with random actions, each held for a while. `frames`
    should be several windows, so that the memory is seen empty, filling and wrapped.
    """
    rng = np.random.default_rng(seed)
    spec, graphs = world.spec, world.graphs()
    recorder = _Recorder(TorchBackend(graphs), rng)
    session = GraphSession(spec, recorder)
    for rollout in range(rollouts):
        clip = clips[rollout % len(clips)]
        tokens = [session.encode(frame) for frame in clip]
        actions = infer_actions(session, clip)
        session.reset()
        for number in range(int(rng.integers(1, len(clip) + 1))):
            session.observe(tokens[number], actions[number])
        held: list[int] = []
        while len(held) < frames:
            held += [int(rng.integers(spec.actions))] * int(rng.integers(*HELD))
        for number, action in enumerate(held[:frames]):
            hidden = rng.random(spec.tokens) < rng.random()
            session.logits(np.where(hidden, spec.codebook, tokens[-1]), action)
            drawn, _ = session.play(action, draw_noise(spec, seed + rollout, number))
            session.decode(drawn)
            tokens.append(drawn)
        session.reset()
    samples = recorder.samples
    own = [tensor.name for tensor in graphs["step"].inputs]
    samples["step"] = [{name: inputs[name] for name in own} for inputs in samples["play"]]
    return samples


class _Recorder:
    """A backend that keeps a fair draw of its inputs (reservoir sampling: Vitter's algorithm R)."""

    def __init__(self, backend: TorchBackend, rng: np.random.Generator) -> None:
        self.backend, self.rng = backend, rng
        self.memory, self.close = backend.memory, backend.close
        self.calls: Counter[str] = Counter()
        self.samples: Samples = defaultdict(list)

    def run(self, graph: str, inputs: Mapping[str, Any]) -> dict[str, Any]:
        kept, place = self.samples[graph], self.calls[graph]
        self.calls[graph] += 1
        if place >= LIMIT:
            place = int(self.rng.integers(place + 1))
        if place < LIMIT:
            kept[place : place + 1] = [{name: array.copy() for name, array in inputs.items()}]
        return self.backend.run(graph, inputs)
