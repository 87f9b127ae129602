"""Sampling and play of TinyWorlds against what the project's own inference drew."""

from __future__ import annotations

from types import SimpleNamespace

import numpy as np
import pytest
import torch
from torch import Tensor

from pocketgenie.genie.noise import draw_noise
from pocketgenie.importers.tinyworlds import convert
from pocketgenie.importers.tinyworlds_model import TinyWorlds
from pocketgenie.importers.tinyworlds_sampler import ConfidenceSampler, commit_counts, highest
from pocketgenie.importers.tinyworlds_transformer import Past
from pocketgenie.importers.tinyworlds_world import TinyWorldsWorld
from pocketgenie.runtimes.reference import world_session

TOLERANCE = 1e-4
BOTH = pytest.mark.parametrize("b", [0, 1])
PEERS = pytest.mark.peers


def build(folder, **flags):
    """The model straight from the project's files."""
    config, parts = convert(folder, flags)
    model = TinyWorlds(config)
    for part, tensors in parts.items():
        model.get_submodule(part).load_state_dict(tensors)
    return model.eval().requires_grad_(False)


@pytest.fixture(scope="module")
def one(peer):
    folder = peer("tinyworlds")
    with np.load(folder / "golden.npz") as file:
        golden = {key: torch.from_numpy(file[key]) for key in file.files}
    world = TinyWorldsWorld(build(folder, temperature="0"))
    return SimpleNamespace(world=world, golden=golden, folder=folder)


def drawn(one, case: str, b: int, cached: bool) -> Tensor:
    """The new frames' tokens [Hz, P] of a golden generation, after checking when each place was fixed."""
    golden, dynamics = one.golden, one.world.model.dynamics
    steps, temperature = golden[f"{case}_num_steps"].item(), golden[f"{case}_temperature"].item()
    spec = one.world.spec.model_copy(update={"steps": steps, "temperature": temperature})
    tokens, horizon = golden[f"{case}_tokens"][b], golden[f"{case}_horizon"].item()
    context = tokens[:-horizon]
    modulation = dynamics.modulation(
        torch.cat([torch.tensor([spec.no_action]), golden[f"{case}_actions"][b]])
    )
    past, fixed = None, []
    if cached:
        _, entries = dynamics.transformer(dynamics.embed(context), None, modulation[: len(context)])
        memory = entries.flatten(1, 2).unbind(1)
        filled = torch.tensor([len(context)], dtype=torch.int32)
        past = Past(list(memory[0::2]), list(memory[1::2]), torch.zeros(len(context)), filled)

    def logits(flat: Tensor) -> Tensor:
        fixed.append(flat != spec.codebook)
        new = flat.view(horizon, -1)
        if past:
            hidden, _ = dynamics.transformer(dynamics.embed(new), past, modulation[len(context) :])
        else:
            hidden, _ = dynamics.transformer(dynamics.embed(torch.cat([context, new])), None, modulation)
        return dynamics.output_mlp(hidden[-horizon:]).flatten(0, 1)

    def draw(step: int, logits_SV: Tensor) -> Tensor:
        if f"{case}_draws" in golden:
            return golden[f"{case}_draws"][step, b, len(context) :].flatten()
        return logits_SV.argmax(-1)

    sampler = ConfidenceSampler(spec, tokens[-horizon:].numel())
    assert sampler.counts == golden[f"{case}_commit_counts"][b].tolist()
    found = sampler.fill(logits, draw)
    when = len(fixed) - torch.stack([*fixed[1:], torch.ones_like(fixed[0])]).sum(0)
    assert torch.equal(when, golden[f"{case}_commit_step"][b].flatten())
    return found.view(horizon, -1)


@PEERS
@BOTH
@pytest.mark.parametrize("cached", [False, True], ids=["full window", "cached"])
@pytest.mark.parametrize("case", ["gen", "gen2", "gentemp"])
def test_the_sampler_draws_the_golden_frames(one, case, cached, b):
    tokens = one.golden[f"{case}_tokens"][b]
    found = drawn(one, case, b, cached)
    assert torch.equal(found, tokens[-len(found) :])
    frames = one.world.model.tokenizer.decode(torch.cat([tokens[: -len(found)], found]))[0]
    assert (frames - one.golden[f"{case}_frames"][b].movedim(-3, -1)).abs().max() < TOLERANCE


@PEERS
@BOTH
def test_a_session_plays_the_golden_frame(one, b):
    """Through the contract: the context observed frame by frame, then `play`; pixels by the ring."""
    tokens, actions = (one.golden[f"gen_{what}"][b].int().numpy() for what in ("tokens", "actions"))
    spec = one.world.spec
    session = world_session(one.world)
    for frame, action in zip(tokens[:-1], [spec.no_action, *actions[:-1]], strict=True):
        session.observe(frame, action)
    found, picture = session.play(int(actions[-1]), draw_noise(spec, 0, 0))
    assert (found == tokens[-1]).all()
    wanted = ((one.golden["gen_frames"][b, -1].movedim(0, -1).clamp(-1, 1) + 1) * 127.5).numpy()
    assert np.abs(picture - wanted).max() < 0.5 + 0.02


@PEERS
def test_each_turn_of_the_play_loop_draws_the_golden_tokens(one):
    """The project's loop reads its own pictures before each frame; given the tokens it read, play agrees."""
    golden, window = one.golden, one.golden["roll_window"].item()
    model = build(one.folder, temperature="0", context=str(window))
    world = TinyWorldsWorld(model)
    session = world_session(world)
    silence = draw_noise(world.spec, 0, 0)
    basis = model.lam.quantizer.basis
    for turn, (context, rows, wanted) in enumerate(
        zip(*(golden[f"roll_{what}"] for what in ("ctx_tokens", "cond", "pred_tokens")), strict=True)
    ):
        frames = golden["roll_frames"][0, turn : turn + window].movedim(-3, -1)
        assert torch.equal(model.tokenizer.encode(frames)[0], context)
        actions = ((rows > 0).long() * basis).sum(-1).tolist()
        session.reset()
        for tokens, action in zip(context, [world.spec.no_action, *actions[:-1]], strict=True):
            session.observe(tokens.int().numpy(), action)
        found, _ = session.play(actions[-1], silence)
        assert (found == wanted.numpy()).all()
        decoded = model.tokenizer.decode(torch.cat([context, wanted[None]]))[0][-1]
        wanted_frame = golden["roll_frames"][0, turn + window].movedim(0, -1)
        assert (decoded - wanted_frame).abs().max() < TOLERANCE


@PEERS
def test_a_window_that_moves_is_the_one_that_is_drawn_anew(one):
    """Long after the window first moved, each frame is what a session draws from its last W frames alone; and
    observing them one by one gives the same."""
    spec, silence = one.world.spec, draw_noise(one.world.spec, 0, 0)
    moving, other = world_session(one.world), world_session(one.world)
    other.spec = spec.model_copy(update={"prefill": False})
    played = [(one.golden["gen_tokens"][0, 0].int().numpy(), spec.no_action)]
    for session in (moving, other):
        session.observe(*played[0])
    for action in [0, 1, 3, 3, 2, 0, 1]:
        tokens, picture = moving.play(action, silence)
        assert all(
            np.array_equal(*pair) for pair in zip(other.play(action, silence), (tokens, picture), strict=True)
        )
        anew = world_session(one.world)
        for number, (past, led_by) in enumerate(played[-spec.kept :]):
            anew.observe(past, led_by if number else spec.no_action)
        assert all(
            np.array_equal(*pair) for pair in zip(anew.play(action, silence), (tokens, picture), strict=True)
        )
        played.append((tokens, action))


@pytest.mark.parametrize(("places", "steps"), [(256, 10), (64, 1), (64, 64), (5, 5), (16, 3)])
def test_the_schedule_fixes_every_place_once(places, steps):
    counts = commit_counts(places, steps)
    assert sum(counts) == places and min(counts) > 0 and len(counts) <= steps


@pytest.mark.parametrize("codes", [64, 1024, 243, 7])
def test_the_highest_is_the_first_of_its_equals(codes):
    scores = torch.randint(0, 4, (50, codes)).float()
    assert torch.equal(highest(scores), torch.from_numpy(scores.numpy().argmax(-1)))
