"""GPTQ: better than rounding to nearest for what is met in play, and the same weights in every graph."""

from __future__ import annotations

import numpy as np
import onnx
import pytest
from onnx import numpy_helper

from pocketgenie.quantize.gptq import BLOCK, LEAST, MOST, fit, key, rounded
from pocketgenie.quantize.int4 import to_int4
from pocketgenie.quantize.products import merged, products


@pytest.fixture(scope="module")
def play(graphs):
    return merged(graphs["play"])


@pytest.fixture(scope="module")
def fitted(play, samples):
    return fit(play, names(play), samples["play"], {})


def names(model):
    return [node.name for node in products(model.graph)]


def weights(model):
    used = {node.input[1] for node in products(model.graph)}
    return [tensor for tensor in model.graph.initializer if tensor.name in used]


def layer(inputs):
    """Inputs that go together, as those of a layer do, and a weight. 40: a block and a short one."""
    rng = np.random.default_rng(0)
    x = rng.standard_normal((500, inputs // 4)) @ rng.standard_normal((inputs // 4, inputs))
    return x + 0.1 * rng.standard_normal(x.shape), rng.standard_normal((inputs, 24)).astype(np.float32)


@pytest.mark.parametrize("inputs", [BLOCK, 40, 3 * BLOCK])
def test_products_are_nearer_than_by_rounding_to_nearest(inputs):
    x, weight = layer(inputs)
    plain, fine = rounded(weight, np.eye(inputs)), rounded(weight, x.T @ x)
    steps = np.repeat(plain.scales_BN, BLOCK, 0)[:inputs]
    assert (plain.codes_KN == np.clip(np.round(weight / steps), LEAST, MOST)).all()
    errors = [np.square(x @ (made.floats() - weight)).mean() for made in (plain, fine)]
    assert errors[1] < 0.5 * errors[0]
    assert fine.codes_KN.dtype == np.int8 and fine.scales_BN.shape == (-(-inputs // BLOCK), 24)
    assert (fine.scales_BN.astype(np.float16) == fine.scales_BN).all()


def test_weights_of_nearly_nothing_become_nothing():
    assert not rounded(np.full((BLOCK, 3), 1e-9, np.float32), np.eye(BLOCK)).floats().any()


def test_inputs_that_are_never_met_do_no_harm():
    x, weight = layer(40)
    x[:, :3] = 0
    made = rounded(weight, x.T @ x)
    assert np.isfinite(made.floats()).all() and np.abs(made.floats() - weight).max() < 1.5


def test_what_is_played_holds_every_weight_of_the_other_graphs(graphs, samples, fitted):
    for name in ("observe", "logits", "decode"):
        model = merged(graphs[name])
        assert {key(tensor) for tensor in weights(model)} <= fitted.keys()
        assert fit(model, names(model), samples[name], fitted) == {}


@pytest.mark.parametrize("form", ["cpu", "qdq"])
def test_it_computes_with_the_fitted_weights(form, graphs, samples, fitted, run):
    model = merged(graphs["logits"])
    wanted = onnx.ModelProto()
    wanted.CopyFrom(model)
    for tensor in weights(wanted):
        tensor.CopyFrom(numpy_helper.from_array(fitted[key(tensor)].floats(), tensor.name))
    own = to_int4(model, names(model), form, fitted)
    nearest = to_int4(model, names(model), form)
    inputs = samples["logits"][0]
    logits, exact, apart = (run(graph, inputs)["logits"] for graph in (own, wanted, nearest))
    error = np.std(logits - exact)
    assert error < 0.02 * np.std(exact), "activations in int8"
    assert error < 0.3 * np.std(apart - exact), "or it was not written where it is read"
