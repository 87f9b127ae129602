"""The table of bounds: every precision that can be made has a row, and each is judged as its row says."""

from typing import get_args

import pytest

from pocketgenie.errors import UserError
from pocketgenie.export.manifest import Precision
from pocketgenie.runtimes.bounds import BOUNDS, bounds_for, shortfalls
from pocketgenie.runtimes.results import ParityFigures
from pocketgenie.runtimes.ties import NEAR

# what ONNX Runtime measured on the embedded world, 32 clips
MEASURED = {
    "fp16": ((0.0076, 7.3e-8, 1.0), (1.0, 75.8, None), 0.0007, 0.0),
    "int8": ((0.637, 5.8e-4, 0.985), (0.971, 27.3, 0.85), 0.076, -0.294),
}
# the same with noise on its weights: 1 % (fp16), 5 % (float weights, judged as int8)
FAULTY = {
    "fp16": ((0.569, 7.1e-4, 0.981), (0.955, 27.3, 9.6), 4.1, -0.28),
    "int8": ((2.71, 0.018, 0.917), (0.865, 22.7, 9.6), 5.1, -4.2),
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
    assert {"L1 pass", "L2 frame", "L4 world"} <= rungs
    assert ("L3 rollout" in rungs) == (precision != "int8")


def test_a_near_tie_is_tried_as_far_as_it_is_forgiven():
    assert all(bounds.near_tie is None or bounds.near_tie <= NEAR for bounds in BOUNDS.values())


def test_tighter_precisions_have_tighter_rows():
    rows = [BOUNDS[precision] for precision in ("fp32", "fp16", "int8")]
    for field in ("max_abs", "kl", "world_db"):
        values = [getattr(row, field) for row in rows]
        assert values == sorted(values)


def test_a_precision_without_a_row_is_refused():
    for precision in set(get_args(Precision)) - BOUNDS.keys():
        with pytest.raises(UserError, match=r"runtimes/bounds\.py"):
            bounds_for(precision)
