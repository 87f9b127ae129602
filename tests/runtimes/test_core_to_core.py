"""The round trip between two cores is measured on two, and not on one."""

import os
import subprocess
import sys

import pytest

from pocketgenie.runtimes.core_to_core import round_trip_ns


@pytest.mark.skipif(len(os.sched_getaffinity(0)) < 2, reason="needs two cores")
def test_two_cores_answer():
    apart = round_trip_ns()
    assert apart is not None and 20 < apart < 1e8  # busy cores answer after a slice of the scheduler


def test_one_core_has_no_other():
    code = (
        "import os; os.sched_setaffinity(0, {min(os.sched_getaffinity(0))})\n"
        "from pocketgenie.runtimes.core_to_core import round_trip_ns\n"
        "print(round_trip_ns())"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "None\n"
