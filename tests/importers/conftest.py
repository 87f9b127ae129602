"""Where the reference checkpoints of other projects lie: ../shared/peers beside the repository, if at all."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

PEERS = Path(__file__).parents[3] / "shared" / "peers"


@pytest.fixture(scope="session")
def peer() -> Callable[[str], Path]:
    """Name -> the folder of one project. Skips the test, by name, where it is absent."""

    def folder(name: str) -> Path:
        if not (PEERS / name).is_dir():
            pytest.skip(f"no reference checkpoint of {name}: ../shared/peers/{name} is absent")
        return PEERS / name

    return folder
