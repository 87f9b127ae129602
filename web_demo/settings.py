"""What the demo may open and how much it takes: set by `pocketgenie demo`, never by a visitor of the page."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Final

from pydantic import Field

from pocketgenie.genie.spec import Frozen

VARIABLE: Final = "POCKETGENIE_DEMO"
"""The environment variable that hands the settings to the server: Streamlit imports the app by its file."""

MAX_PICTURE_MB: Final = 16
MAX_VIDEO_MB: Final = 64
"""Of an upload; Streamlit refuses a larger one while it arrives."""
MAX_MESSAGE: Final = 512
"""Characters of one message of the player's socket; the longest real one has about 80."""
MAX_SOCKETS: Final = 16
"""Players and those who wait, together; further ones are refused before the handshake."""
MAX_ENGINES: Final = 2
"""Processes that play at the same time; an idle one makes room for another."""
MAX_TICKETS: Final = 24
"""Open pages that may play; the oldest is forgotten."""
HANDSHAKES_PER_SECOND: Final = 10
"""New sockets, of all pages together; a page that is refused tries again."""
MESSAGES_PER_SECOND: Final = 1500
"""Of one socket: an acknowledgement for every frame and the keys; who sends more is shut out."""
WAITING_PER_SECOND: Final = 30
"""The same of one that waits in the queue."""
IDLE_SECONDS: Final = 60.0
"""Without a key, while the same other one waits: then that one plays."""


class Settings(Frozen):
    """Folders are the operator's; a page only ever names entries of lists made from them."""

    bundles: tuple[Path, ...] = ()
    """Named on the command line, listed before those in `dist`."""
    dist: Path = Path("dist")
    """Searched for bundles; exports from the page go there."""
    checkpoints: tuple[Path, ...] = (Path("assets"), Path("runs"))
    """Folders that hold checkpoint folders, for the panel Export."""
    prompt_model: Path | None = None
    """Folder of a text-to-image model in diffusers' format."""
    address: str = "127.0.0.1"
    port: int = Field(default=8501, ge=1, le=65535)


def read_settings() -> Settings:
    """Those of this process; the defaults when started by `streamlit run web_demo/app.py`."""
    text = os.environ.get(VARIABLE)
    return Settings.model_validate_json(text) if text else Settings()
