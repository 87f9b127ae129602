"""What each layer suffers: measured on real graphs, kept, and gone on with."""

from __future__ import annotations

import numpy as np
import pytest

from pocketgenie.errors import UserError
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
        graph: measure(graph, graphs[graph], make, samples[graph], cache, lambda what: None)
        for graph in GRAPHS
    }, cache


def test_every_layer_that_may_be_quantized_is_measured(measured, graphs):
    found, _ = measured
    for graph in GRAPHS:
        named = found[graph].groups("int8")
        assert set(named) == set(groups(graphs[graph])) - {"dynamics.head", "decoder.out"}
        rows = [row for row in found[graph].rows if row.bits == "int8"]
        assert sum(row.share for row in rows) == pytest.approx(1)
        assert all(row.saved_mb > 0 and row.harm > 0 for row in rows)
        assert found[graph].pass_ms["fp32"] > 0


def test_the_divergence_is_that_of_the_two_graphs(measured, graphs, make, samples, run):
    found, _ = measured
    row = next(row for row in found["logits"].rows if row.bits == "int8")
    less = make({row.group: "int8"})("logits", graphs["logits"])
    divergences = []
    for inputs in samples["logits"]:
        pair = []
        for model in (graphs["logits"], less):
            logits = run(model, inputs)["logits"].astype(np.float64)
            shares = np.exp(logits - logits.max(-1, keepdims=True))
            pair.append(shares / shares.sum(-1, keepdims=True))
        masked = inputs["tokens"] == pair[0].shape[-1]
        divergences += list((pair[0] * np.log(pair[0] / pair[1])).sum(-1)[masked])
    assert row.kl == pytest.approx(np.mean(divergences), rel=1e-6)


def test_what_is_kept_is_not_measured_again(measured, graphs, samples):
    found, cache = measured

    def never(bits):
        raise AssertionError("measured again")

    told: list[str] = []
    for graph in GRAPHS:
        # int4 that saves nothing in a tiny product is tried again, and refused again
        refuse = never if len(found[graph].groups("int4")) == len(found[graph].groups("int8")) else refused
        again = measure(graph, graphs[graph], refuse, samples[graph], cache, told.append)
        assert again == found[graph]
    assert not any("timing" in what for what in told)


def refused(bits):
    assert set(bits.values()) == {"int4"}, "measured again"
    raise UserError("nothing was quantized")


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
        measure("decode", graphs["decode"], dies, samples["decode"], tmp_path, lambda what: None)
    calls.clear()
    again = measure("decode", graphs["decode"], counts, samples["decode"], tmp_path, lambda what: None)
    assert next(bits for bits in calls if len(bits) == 1).keys() == {again.groups("int8")[3]}
    assert again.rows == measured[0]["decode"].rows


def test_other_samples_are_another_measurement(measured, graphs, make, samples):
    found, cache = measured
    fewer = samples["decode"][:5]
    other = measure("decode", graphs["decode"], make, fewer, cache, lambda what: None)
    assert other.key != found["decode"].key
    for path in cache.glob("sensitivity-decode-*.json"):
        path.write_text("{")  # damaged: measured again
    again = measure("decode", graphs["decode"], make, fewer, cache, lambda what: None)
    assert again.rows == other.rows
