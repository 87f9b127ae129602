"""Every test starts from the same seeds. The markers are declared in pyproject.toml."""

import random
import sys

import numpy as np
import pytest


@pytest.fixture(autouse=True)
def seeded() -> None:
    """Seed python, numpy and, where a test has imported it, torch."""
    random.seed(0)
    np.random.seed(0)
    if "torch" in sys.modules:
        sys.modules["torch"].manual_seed(0)


def pytest_runtest_setup(item: pytest.Item) -> None:
    """Skip what is marked `gpu` where there is no CUDA device."""
    if item.get_closest_marker("gpu"):
        import torch

        if not torch.cuda.is_available():
            pytest.skip("no CUDA device")
