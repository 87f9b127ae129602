"""What a rounding error turns is a near-tie, what a fault turns is not: real sessions against real ones."""

import copy

import numpy as np
import pytest

from pocketgenie.genie.noise import draw_noise
from pocketgenie.runtimes import ties

torch = pytest.importorskip("torch")


@pytest.fixture(scope="module", params=["halton", "confidence"])
def world(request, tiny_checkpoint):
    from pocketgenie.genie.graphs import load_world

    world = load_world(tiny_checkpoint)
    world.spec = world.spec.model_copy(update={"order": request.param, "steps": 4})
    return world


def session(world):
    from pocketgenie.runtimes.reference import world_session

    playing = world_session(world)
    playing.observe(np.arange(world.spec.tokens, dtype=np.int32), world.spec.no_action)
    return playing


def perturbed(world, relative):
    """The same world with every weight off by a relative error."""
    other = copy.deepcopy(world)
    generator = torch.Generator().manual_seed(3)
    with torch.no_grad():
        for weight in other.genie.parameters():
            weight *= 1 + relative * torch.randn(weight.shape, generator=generator)
    return other


def frames(world, other, count):
    """Frames of both from equal histories: the reference's logits, the noise, both tokens."""
    mine, theirs = session(world), session(other)
    for number in range(count):
        noise = draw_noise(world.spec, 5, number)
        memory = copy.deepcopy(mine.rings)
        tokens, _ = mine.play(1, noise)
        played, _ = theirs.play(1, noise)
        after, mine.rings = mine.rings, memory
        yield lambda masked: mine.logits(masked, 1), noise, tokens, played
        mine.rings = after
        if not np.array_equal(tokens, played):
            theirs.rings = copy.deepcopy(after)


def test_it_draws_as_the_session_does(world):
    for logits_of, noise, tokens, _ in frames(world, world, 8):
        np.testing.assert_array_equal(ties.draw(world.spec, logits_of, noise).tokens, tokens)


def test_a_turned_choice_is_explained_by_its_gap(world):
    found = 0
    for logits_of, noise, _, _ in frames(world, world, 60):
        for choice in ties.draw(world.spec, logits_of, noise).close[:2]:
            turned = ties.draw(world.spec, logits_of, noise, choice)
            assert ties.margin(world.spec, logits_of, noise, turned.tokens) <= choice.gap
            found += 1
    assert found


def test_what_a_small_error_turns_has_a_small_margin(world):
    margins = [
        ties.margin(world.spec, logits_of, noise, played)
        for logits_of, noise, tokens, played in frames(world, perturbed(world, 1e-3), 200)
        if not np.array_equal(tokens, played)
    ]
    assert margins, "no frame differed: raise the error"
    assert np.median(margins) < ties.NEAR


def test_what_a_fault_turns_has_a_large_margin(world):
    margins = [
        ties.margin(world.spec, logits_of, noise, played)
        for logits_of, noise, tokens, played in frames(world, perturbed(world, 0.3), 8)
        if not np.array_equal(tokens, played)
    ]
    assert len(margins) == 8
    assert min(margins) > 0.1
