"""The samples are what the graphs really meet."""

import numpy as np

from pocketgenie.genie.contract import signatures
from pocketgenie.quantize.calibration import LIMIT, record


def test_every_graph_has_samples_of_its_own_inputs(samples, world):
    for name, (inputs, _) in signatures(world.spec).items():
        assert 0 < len(samples[name]) <= LIMIT
        for sample in samples[name]:
            assert {key: (array.dtype.name, array.shape) for key, array in sample.items()} == {
                spec.name: (spec.dtype, spec.shape) for spec in inputs
            }


def test_the_memory_is_seen_empty_filling_and_wrapped(samples, world):
    slots = world.spec.memories["dynamics"].slots
    assert {0, slots} <= {int(sample["filled"][0]) for sample in samples["observe"]}
    played = [sample["ages"].tolist() for sample in samples["play"] if sample["filled"][0] == slots]
    assert len({tuple(ages) for ages in played}) == slots, "the ring at each of its turns"


def test_frames_are_masked_in_every_measure(samples, world):
    shares = [np.mean(sample["tokens"] == world.spec.codebook) for sample in samples["logits"]]
    assert min(shares) < 0.3 and max(shares) > 0.7
    assert all((sample["tokens"] < world.spec.codebook).all() for sample in samples["decode"])


def test_samples_are_copies_and_the_seed_draws_them(samples, world, clips):
    first, second = samples["play"][0]["memory"], samples["play"][-1]["memory"]
    assert not np.shares_memory(first, second) and not np.array_equal(first, second)
    again = record(world, clips, rollouts=4, frames=9, seed=0)
    np.testing.assert_array_equal(again["play"][0]["memory"], first)
    other = record(world, clips, rollouts=4, frames=9, seed=1)
    assert not np.array_equal(other["play"][0]["memory"], first)
