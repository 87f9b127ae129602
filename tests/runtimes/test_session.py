"""Sessions: the ring's bookkeeping, and every runtime of the table against the reference."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from pocketgenie.errors import UserError
from pocketgenie.genie.graphs import load_world
from pocketgenie.genie.noise import draw_noise
from pocketgenie.genie.spec import MemorySpec
from pocketgenie.runtimes.reference import FullWindow, as_the_paper, world_session
from pocketgenie.runtimes.ring import Ring
from pocketgenie.runtimes.table import load_session

FRAMES = 20  # more than 4 x W


def test_a_ring_keeps_the_last_entries_with_their_ages():
    memory = np.zeros((3, 2), np.float32)
    ring = Ring(MemorySpec(slots=3, entry=(2,)), memory)
    for frame in range(1, 9):
        ring.push(np.full(2, frame, np.float32))
        assert ring.filled[0] == min(frame, 3)
        held = {int(age): memory[slot, 0] for slot, age in enumerate(ring.ages) if age <= ring.filled[0]}
        assert held == {age: frame + 1 - age for age in range(1, min(frame, 3) + 1)}
    ring.reset()
    assert ring.filled[0] == 0 and ring.inputs()["memory"] is memory


@pytest.fixture(scope="module")
def start(tiny_bundle: Path) -> np.ndarray:
    frames: np.ndarray = np.load(tiny_bundle / "clips.npz")["frames"]
    return frames[0]


def test_ort_plays_the_same_world_as_the_reference(tiny_bundle, start):
    reference, ort = (load_session(tiny_bundle, name) for name in ("reference", "ort-cpu"))
    for session in (reference, ort):
        session.reset()
        session.observe(session.encode(start[0]), session.spec.no_action)
    for frame in range(FRAMES):
        noise = draw_noise(ort.spec, 5, frame)
        action = frame % ort.spec.actions
        masked = np.full(ort.spec.tokens, ort.spec.codebook)
        assert np.abs(reference.logits(masked, action) - ort.logits(masked, action)).max() < 1e-4
        (tokens, picture), (own_tokens, own_picture) = (s.play(action, noise) for s in (reference, ort))
        assert np.array_equal(tokens, own_tokens), f"frame {frame}"
        assert np.abs(picture.astype(int) - own_picture).max() <= 1
    named, distances = reference.infer_action(start[:2])
    own_named, own_distances = ort.infer_action(start[:2])
    assert named == own_named and np.allclose(distances, own_distances, atol=1e-4)


def test_a_reset_session_plays_the_same_again(tiny_bundle, start):
    session = load_session(tiny_bundle, "ort-cpu")

    def play() -> list[np.ndarray]:
        session.reset()
        session.observe(session.encode(start[0]), session.spec.no_action)
        return [session.play(1, draw_noise(session.spec, 0, frame))[0] for frame in range(6)]

    assert all(np.array_equal(a, b) for a, b in zip(play(), play(), strict=True))


def test_the_papers_way_draws_what_the_cached_session_draws(tiny_checkpoint, start):
    """While the whole history is in the window, full passes and the streaming memory agree."""
    world = load_world(tiny_checkpoint)
    world.spec = as_the_paper(world.spec, steps=4)
    paper = FullWindow(world, world.spec, seed=0)
    cached = world_session(world)
    assert paper.spec.order == cached.spec.order == "confidence"
    shown = paper.start(start[0])
    tokens = cached.encode(start[0])
    assert np.array_equal(shown, cached.decode(tokens))
    cached.observe(tokens, cached.spec.no_action)
    for frame in range(1, world.spec.memories["dynamics"].slots + 1):
        noise = draw_noise(world.spec, 0, frame)
        assert np.array_equal(paper.step(frame % 5), cached.play(frame % 5, noise)[1]), f"frame {frame}"


@pytest.mark.slow
def test_the_compiled_reference_plays_the_same_world(tiny_bundle, start):
    reference, compiled = (load_session(tiny_bundle, name) for name in ("reference", "compiled"))
    for session in (reference, compiled):
        session.reset()
        session.observe(session.encode(start[0]), session.spec.no_action)
    for frame in range(6):
        noise = draw_noise(reference.spec, 5, frame)
        assert np.array_equal(reference.play(frame % 5, noise)[0], compiled.play(frame % 5, noise)[0])
    torch._dynamo.reset()


def test_an_unknown_runtime_is_refused(tiny_bundle):
    with pytest.raises(UserError, match="no runtime 'gameboy'; there are reference"):
        load_session(tiny_bundle, "gameboy")


def test_without_its_reference_a_bundle_cannot_be_the_reference(tiny_bundle, tmp_path):
    from pocketgenie.export.bundle import load_bundle

    bundle = load_bundle(tiny_bundle)
    bare = type(bundle)(folder=bundle.folder, manifest=bundle.manifest.model_copy(update={"reference": None}))
    with pytest.raises(UserError, match="without its reference"):
        load_session(bare, "reference")
