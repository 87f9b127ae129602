"""What each layer suffers: measured on real graphs, kept, and gone on with."""

from __future__ import annotations

import numpy as np
import pytest

from pocketgenie.quantize.products import groups
from pocketgenie.quantize.recipe import precision_pass
from pocketgenie.quantize.sensitivity import GRAPHS, measure


@pytest.fixture(scope="module")
def make(world):
    return lambda bits: precision_pass("mixed", world, None, assignment=bits)[0]


@pytest.fixture(scope="module")
def measured(graphs, make, samples, tmp_path_factory):
    """Graph -> its sensitivity, and the folder where both are kept."""
    cache = tmp_path_factory.mktemp("cache")
    return {
        graph: measure(graph, graphs[graph], make, lambda: samples, "clips", cache, lambda what: None)
        for graph in GRAPHS
    }, cache


def test_every_layer_that_may_be_quantized_is_measured(measured, graphs):
    found, _ = measured
    for graph in GRAPHS:
        named = found[graph].groups("int8")
        assert set(named) == set(groups(graphs[graph])) - {"decoder.out"}
        rows = [row for row in found[graph].rows if row.bits == "int8"]
        assert sum(row.share for row in rows) == pytest.approx(1)
        assert all(row.harm > 0 for row in rows)
        assert sum(row.saved_mb > 0 for row in rows) >= len(rows) - 1, "but for the tiny decoder's first"
        assert found[graph].pass_ms["fp32"] > 0


def test_the_divergence_is_that_of_the_two_graphs(measured, graphs, make, samples, run):
    found, _ = measured
    row = next(row for row in found["logits"].rows if row.bits == "int8")
    less = make({row.group: "int8"})("logits", graphs["logits"])
    none = make({})("logits", graphs["logits"])
    divergences = []
    for inputs in samples["logits"]:
        pair = []
        for model in (none, less):
            logits = run(model, inputs)["logits"].astype(np.float64)
            shares = np.exp(logits - logits.max(-1, keepdims=True))
            pair.append(shares / shares.sum(-1, keepdims=True))
        masked = inputs["tokens"] == pair[0].shape[-1]
        divergences += list((pair[0] * np.log(pair[0] / pair[1])).sum(-1)[masked])
    assert row.kl == pytest.approx(np.mean(divergences), rel=1e-6)


def test_what_is_kept_is_not_measured_again(measured, graphs):
    found, cache = measured

    def never(*asked):
        raise AssertionError("measured again")

    for graph in GRAPHS:
        assert measure(graph, graphs[graph], never, never, "clips", cache, never) == found[graph]


def test_an_interrupted_measurement_goes_on(measured, graphs, make, samples, tmp_path):
    calls = []

    def dies(bits):
        calls.append(bits)
        if len(calls) > 3:
            raise KeyboardInterrupt
        return make(bits)

    def counts(bits):
        calls.append(bits)
        return make(bits)

    with pytest.raises(KeyboardInterrupt):
        measure("decode", graphs["decode"], dies, lambda: samples, "clips", tmp_path, print)
    calls.clear()
    again = measure("decode", graphs["decode"], counts, lambda: samples, "clips", tmp_path, print)
    assert next(bits for bits in calls if len(bits) == 1).keys() == {again.groups("int8")[2]}
    assert again.rows == measured[0]["decode"].rows


def test_other_clips_and_a_damaged_file_are_measured_anew(measured, graphs, make, samples):
    found, cache = measured

    def again():
        return measure(
            "decode", graphs["decode"], make, lambda: {"decode": fewer}, "other clips", cache, print
        )

    fewer = samples["decode"][:5]
    other = again()
    assert other.key != found["decode"].key and other.rows != found["decode"].rows
    for path in cache.glob("sensitivity-decode-*.json"):
        path.write_text("{")
    assert again().rows == other.rows
