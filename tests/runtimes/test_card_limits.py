"""The limits, measured on the CPU: every method gives a rate or says why not."""

import math

import pytest

from pocketgenie.errors import UserError
from pocketgenie.runtimes.card_limits import MATRICES, CardLimits


@pytest.fixture(scope="module")
def limits():
    return CardLimits("cpu", quick=True)


@pytest.mark.parametrize("dtype", MATRICES)
def test_a_matrix_rate_is_the_best_of_its_shapes(limits, dtype):
    rate = limits.matrix(dtype)
    assert rate.unit == "TFLOP/s" and set(rate.by_case) == {"256x256x256", "512x512x512"}
    assert rate.best == max(rate.by_case.values()) > 0


@pytest.mark.parametrize("method", ["bandwidth", "launches"])
def test_a_rate_is_a_number(limits, method):
    rate = getattr(limits, method)()
    assert rate.best > 0 and math.isfinite(rate.best)
    assert method != "launches" or rate.by_case.keys() == {"eager"}


def test_what_takes_a_card_says_so(limits):
    with pytest.raises(UserError, match="PCIe"):
        limits.host_copies()
    facts = limits.facts()
    assert (facts.kind, facts.driver, facts.capability) == ("cpu", None, None)


@pytest.mark.gpu
def test_a_card_has_all_of_them():
    card = CardLimits("cuda", quick=True)
    assert card.facts().kind == "cuda"
    assert card.launches().by_case.keys() == {"eager", "graph"}
    assert card.host_copies().by_case.keys() == {"to the card", "to the host"}
    assert card.bandwidth().best > 10
