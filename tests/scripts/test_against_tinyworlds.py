"""`scripts/against_tinyworlds.py`: what it says of arguments that it cannot use."""

import runpy
import sys
from pathlib import Path

import numpy as np
import pytest

SCRIPT = Path(__file__).resolve().parent.parent.parent / "scripts" / "against_tinyworlds.py"


@pytest.fixture
def said(monkeypatch, capsys):
    """The one line that the command ends with, given its arguments; its exit code is 2."""

    def run(*arguments):
        monkeypatch.setattr(sys, "argv", [str(SCRIPT), *map(str, arguments)])
        with pytest.raises(SystemExit) as ended:
            runpy.run_path(str(SCRIPT), run_name="__main__")
        written = capsys.readouterr()
        assert ended.value.code == 2 and not written.out
        return written.err

    monkeypatch.setenv("OMP_NUM_THREADS", "1")  # the command sets it: put back afterwards
    return run


def test_what_cannot_be_compared_is_said_in_one_line(said, tmp_path, tiny_bundle):
    checkout = tmp_path / "tinyworlds"
    (checkout / "models").mkdir(parents=True)
    for wrong, words in (
        ((checkout, tiny_bundle), "is no checkout of TinyWorlds (it has no models/dynamics.py); git clone"),
        ((checkout, tmp_path), "is no checkout of TinyWorlds"),
        ((checkout, tiny_bundle, "--threads", "0"), "--threads and --rounds must be at least 1"),
        ((checkout, tiny_bundle, "--rounds", "x"), "invalid int value"),
    ):
        assert words in said(*wrong)
    (checkout / "models" / "dynamics.py").write_text("")
    for wrong, words in ((tiny_bundle, "holds no TinyWorlds; import one"), (tmp_path, "no manifest.json")):
        message = said(checkout, wrong)
        assert message.startswith("error: ") and words in message and message.count("\n") == 1


def test_the_place_that_differed_first_tells_a_tie_from_a_fault():
    first_difference = runpy.run_path(str(SCRIPT))["first_difference"]
    logits = np.zeros((2, 4, 3), np.float32)
    logits[0, :, 0] = [4, 3, 2, 1]  # places 0 and 1 are settled in step 1
    logits[1, 3, 1:] = [0.25, 0.5]
    masked = np.array([[1, 1, 1, 1], [0, 0, 1, 1]], bool)
    assert "at place 3, in step 2 of 2: their two best logits are 2.5e-01 apart" in first_difference(
        np.array([3]), logits, masked, 0.0
    )
    words = first_difference(np.array([1, 2, 3]), logits, masked, 0.5)
    confidence = [np.exp(2 * x) / (np.exp(2 * x) + 2) for x in (3, 2)]
    assert "at place 1, in step 1 of 2: their two best logits are 3.0e+00 apart" in words
    assert f"their last place settled and the next {confidence[0] - confidence[1]:.1e}" in words
