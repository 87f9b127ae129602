"""The table of bounds: every precision that can be made has a row, and each is judged as its row says."""

from typing import get_args

import pytest

from pocketgenie.errors import UserError
from pocketgenie.export.manifest import Precision
from pocketgenie.runtimes.bounds import BOUNDS, bounds_for, shortfalls
from pocketgenie.runtimes.results import ParityFigures
from pocketgenie.runtimes.ties import NEAR

# what ONNX Runtime measured on the embedded world, 32 clips; mixed: all of it in int4, rounded to nearest
MEASURED = {
    "fp16": ((0.0076, 7.3e-8, 1.0), (1.0, 75.8, None), 0.0007, 0.0),
    "int8": ((0.707, 7.9e-4, 0.985), (0.924, 29.4, 9.6), 4.5, 0.555),
    "int4": ((1.82, 5.2e-3, 0.963), (0.904, 22.4, 5.0), 0.7, -0.705),
    "mixed": ((3.44, 0.0135, 0.931), (0.904, 28.7, 9.6), 1.4, -3.48),
}
# the same with noise on its weights: 1 % (fp16), 5 % (int8, int4), 10 % (mixed)
FAULTY = {
    "fp16": ((0.569, 7.1e-4, 0.981), (0.955, 27.3, 9.6), 4.1, -0.28),
    "int8": ((1.43, 6.9e-3, 0.951), (0.893, 21.3, 9.6), 2.2, -4.17),
    "int4": ((2.27, 0.0131, 0.931), (0.906, 22.3, 6.7), 5.2, -4.43),
    "mixed": ((4.48, 0.0488, 0.874), (0.816, 15.7, 12.8), 5.2, -9.22),
}


def figures(one_pass, frame, margin, world):
    rollout = {"frames": 2, "rollouts": 1, "first_difference": 1, "margin": margin, "psnr_db": 21}
    return ParityFigures.model_validate(
        {
            "pass": dict(zip(("max_abs", "kl", "top1"), one_pass, strict=True)),
            "frame": dict(zip(("token_match", "psnr_db", "margin"), frame, strict=True))
            | {"encode_match": 1},
            "rollout": rollout | {"psnr_db_per_frame": [30, 12]},
            "world": {"recon_psnr_db": world},
        }
    )


@pytest.mark.parametrize("precision", MEASURED)
def test_what_was_measured_passes(precision):
    assert shortfalls(bounds_for(precision), figures(*MEASURED[precision])) == []


@pytest.mark.parametrize("precision", FAULTY)
def test_noise_on_the_weights_falls_short_by_far(precision):
    found = shortfalls(bounds_for(precision), figures(*FAULTY[precision]))
    rungs = {reason.split(":")[0] for reason in found}
    assert {"L1 pass", "L4 world"} <= rungs
    assert ("L2 frame" in rungs) == (precision != "int4"), "its tokens differ as often without noise"
    assert ("L3 rollout" in rungs) == (precision == "fp16")


def test_int4_rounded_to_nearest_falls_short_of_its_row():
    found = shortfalls(bounds_for("int4"), figures(*MEASURED["mixed"]))
    assert {reason.split(":")[0] for reason in found} == {"L1 pass", "L4 world"}


def test_a_near_tie_is_tried_as_far_as_it_is_forgiven():
    assert all(bounds.near_tie is None or bounds.near_tie <= NEAR for bounds in BOUNDS.values())


def test_tighter_precisions_have_tighter_rows():
    rows = [BOUNDS[precision] for precision in ("fp32", "fp16", "int8", "int4", "mixed")]
    for field in ("max_abs", "kl", "world_db"):
        values = [getattr(row, field) for row in rows]
        assert values == sorted(values)


def test_a_precision_without_a_row_is_refused():
    for precision in set(get_args(Precision)) - BOUNDS.keys():
        with pytest.raises(UserError, match=r"runtimes/bounds\.py"):
            bounds_for(precision)
