"""What goes over the player's socket. From the page: small JSON objects. To it: the same, and frames.

A frame is one binary message: HEADER (little endian), then pixels uint8 [H, W, 3].
"""

from __future__ import annotations

import json
import struct
from typing import Annotated, Any, Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, Field, TypeAdapter, ValidationError

from pocketgenie.web_demo.settings import MAX_MESSAGE

TICKET = r"^[A-Za-z0-9_-]{32}$"
HEADER = struct.Struct("<IiIfff")
"""frame number since the start, action that led to it (-1: the start), 0, then milliseconds: the engine's own
for this frame, from the engine's process to the server's, and the last frame's way to the canvas and back."""


class Sent(BaseModel):
    """Strict: "1" is no 1, unknown fields are refused."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)


class Join(Sent):
    """The first message: who is it? The page got the ticket from its own Streamlit session."""

    type: Literal["join"]
    ticket: str = Field(pattern=TICKET)


class Hold(Sent):
    """The action held from now on; null: none. The latest one counts."""

    type: Literal["hold"]
    action: int | None = Field(ge=0, lt=2**16)


class Shown(Sent):
    """The frame is on the canvas; the next may come."""

    type: Literal["shown"]
    frame: int = Field(ge=0, lt=2**32)


class Pace(Sent):
    """fps: at most so many frames a second, null: no limit; on: repeat the last action when none is held."""

    type: Literal["pace"]
    fps: float | None = Field(ge=0.01, le=1000, allow_inf_nan=False)
    on: bool


class Restart(Sent):
    """Begin again at the ticket's start picture."""

    type: Literal["restart"]


Message = Join | Hold | Shown | Pace | Restart
_MESSAGE: TypeAdapter[Message] = TypeAdapter(Annotated[Message, Field(discriminator="type")])


class Unknown(Exception):
    """A message that is none of these: the socket is closed."""


def parse(text: str | bytes | None) -> Message:
    """One message of the page. Raises Unknown."""
    if not isinstance(text, str) or len(text) > MAX_MESSAGE:
        raise Unknown
    try:
        return _MESSAGE.validate_json(text)
    except (ValidationError, ValueError, RecursionError):
        raise Unknown from None


def say(kind: str, **fields: Any) -> str:
    """What the server says, apart from frames."""
    return json.dumps({"type": kind, **fields})


def pack(
    number: int, action: int, frame: NDArray[np.uint8], engine_ms: float, handed_ms: float, way_ms: float
) -> bytes:
    """A frame as one binary message."""
    return HEADER.pack(number, action, 0, engine_ms, handed_ms, way_ms) + frame.tobytes()
