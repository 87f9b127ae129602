"""Roll-outs in a batch are the roll-outs that a player sees."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from pocketgenie.genie.checkpoint import Genie, load_genie
from pocketgenie.genie.graphs import GenieWorld
from pocketgenie.genie.noise import draw_noise
from pocketgenie.quantize.streams import Streams
from pocketgenie.runtimes.reference import world_session


@pytest.mark.parametrize("order", ["halton", "confidence"])
@pytest.mark.parametrize("steps", [1, 3])
def test_each_of_a_batch_is_what_a_session_plays(order, steps, tiny_checkpoint):
    genie = load_genie(tiny_checkpoint)
    sampling = {"steps": steps, "order": order, "temperature": 0.0}
    genie.config = genie.config.model_copy(
        update={"sampling": genie.config.sampling.model_copy(update=sampling)}
    )
    world = GenieWorld(genie)
    session, rng = world_session(world), np.random.default_rng(0)
    first = rng.integers(world.spec.codebook, size=(3, world.spec.tokens))
    actions = rng.integers(world.spec.actions, size=(9, 3))  # three times the window
    streams = Streams(genie.dynamics, genie.config.grid)
    streams.observe(torch.from_numpy(first), torch.full((3,), world.spec.no_action))
    drawn = []
    for led_by in torch.from_numpy(actions):
        drawn.append(streams.draw(led_by, genie.config.sampling))
        streams.observe(drawn[-1], led_by)
    for number in range(3):
        session.reset()
        session.observe(first[number], world.spec.no_action)
        for t, action in enumerate(actions[:, number]):
            tokens, _ = session.play(int(action), draw_noise(world.spec, 0, t))
            assert np.array_equal(tokens, drawn[t][number]), f"stream {number}, frame {t}"


def test_temperature_is_that_of_the_gumbel_noise(tiny_checkpoint):
    genie = load_genie(tiny_checkpoint)
    no_action = torch.full((400,), genie.dynamics.no_action)
    frame = torch.zeros(400, 16, dtype=torch.long)

    def kinds(temperature: float, model: Genie = genie) -> int:
        streams = Streams(model.dynamics, model.config.grid)
        streams.observe(frame, no_action)
        sampling = model.config.sampling.model_copy(update={"temperature": temperature, "steps": 1})
        return len(streams.draw(no_action, sampling).unique(dim=0))

    assert kinds(0.0) == 1 < kinds(0.2) <= kinds(3.0) == 400
