"""A ticket: what one open page plays, and what it has played. Only its own Streamlit session knows it."""

from __future__ import annotations

import secrets
import threading
from collections import OrderedDict, deque
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import NamedTuple

from pocketgenie.runtimes.pictures import Frame
from pocketgenie.runtimes.player import MAX_PLAYED
from pocketgenie.web_demo.settings import MAX_TICKETS

KEPT_FRAMES, KEPT_MB = 1200, 32
"""What a recording holds at most: two minutes at 10 frames a second, and less of large frames."""


class Kept(NamedTuple):
    """What can be downloaded: the last frames, and every action since the start as far as they were kept."""

    frames: list[Frame]
    actions: list[int]
    first: int
    """Number of the first frame kept; 0 is the start picture."""
    start: Frame | None
    begun: str


class Recording:
    """The frames and actions since the last start; bounded, so that memory stays flat."""

    def __init__(self) -> None:
        self.lock = threading.Lock()
        self.frames: deque[Frame] = deque()
        self.actions: list[int] = []
        self.start: Frame | None = None
        self.begun = ""
        self.number = 0

    def begin(self, start: Frame, frame: Frame) -> int:
        """A new play from a start picture, of which the world sees `frame` -> 0"""
        with self.lock:
            most = max(2, min(KEPT_FRAMES, KEPT_MB * 1_000_000 // frame.nbytes))
            self.frames = deque([frame], maxlen=most)
            self.actions, self.start, self.number = [], start, 0
            self.begun = datetime.now(UTC).isoformat(timespec="seconds")
            return 0

    def add(self, action: int, frame: Frame) -> int:
        """The next frame -> its number"""
        with self.lock:
            self.frames.append(frame)
            if len(self.actions) < MAX_PLAYED:
                self.actions.append(action)
            self.number += 1
            return self.number

    def kept(self) -> Kept:
        """A copy to work with; the frames themselves are not copied."""
        with self.lock:
            first = self.number + 1 - len(self.frames)
            return Kept(list(self.frames), list(self.actions), first, self.start, self.begun)


@dataclass
class Ticket:
    """Made by a page's session. A change of the start picture counts as a new revision."""

    bundle: str
    runtime: str
    start: Frame
    seed: int = 0
    temperature_zero: bool = False
    revision: int = 0
    key: str = field(default_factory=lambda: secrets.token_urlsafe(24))
    recording: Recording = field(default_factory=Recording)


class Tickets:
    """Those of the open pages; the oldest is forgotten when there are too many."""

    def __init__(self) -> None:
        self.lock = threading.Lock()
        self.known: OrderedDict[str, Ticket] = OrderedDict()

    def add(self, ticket: Ticket) -> Ticket:
        """Let it be known -> the same ticket"""
        with self.lock:
            self.known[ticket.key] = ticket
            while len(self.known) > MAX_TICKETS:
                self.known.popitem(last=False)
            return ticket

    def drop(self, key: str) -> None:
        """Forget one, and what it has recorded."""
        with self.lock:
            self.known.pop(key, None)

    def find(self, key: str) -> Ticket | None:
        """By its key; it becomes the newest."""
        with self.lock:
            if key in self.known:
                self.known.move_to_end(key)
            return self.known.get(key)
