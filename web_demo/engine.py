"""An engine: the process that plays one bundle in one runtime, the thread that drives it, and its queue.

Exactly one seat plays, the others wait. The thread takes the latest action, never a backlog; a frame is drawn
while the one before is on its way, and waits there: at most one is under way. A process that dies is started
again from the same picture, and the player is told.
"""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable
from time import monotonic, perf_counter

from pocketgenie.runtimes.worker import Worker, WorkerFailed
from pocketgenie.web_demo.messages import pack, say
from pocketgenie.web_demo.playing import Drawn, Playing
from pocketgenie.web_demo.settings import IDLE_SECONDS
from pocketgenie.web_demo.shelf import Entry
from pocketgenie.web_demo.tickets import Ticket

ANSWER = 30.0  # seconds for a frame; then the process counts as hung, and is started again
DEATHS = (3, 60.0)  # so many in so many seconds, and the engine is given up


class Seat:
    """One socket's place at an engine. Its fields are guarded by the engine's lock."""

    def __init__(self, ticket: Ticket, wake: Callable[[], None]) -> None:
        self.ticket = ticket
        self.wake = wake
        """Called from the engine's thread when there is something to send."""
        self.words: deque[str] = deque(maxlen=32)
        self.ready: bytes | None = None
        """Drawn, not sent: the one before is still under way."""
        self.under_way: float | None = None
        """When the last frame was sent, until it is on the canvas."""
        self.way_ms = 0.0
        self.held: int | None = None
        self.tapped: int | None = None
        """Pressed since the last frame was begun: counts even if it was let go meanwhile."""
        self.last: int | None = None
        self.goes_on = False
        self.pace: float | None = None
        self.due = 0.0
        self.fresh = True
        """To begin (again) at the start picture."""
        self.joined = self.touched = monotonic()
        self.place: int | None = None
        self.over = False
        """No more to come: the socket closes once the words are sent."""

    def tell(self, kind: str, **fields: object) -> None:
        """Say something to the page."""
        self.words.append(say(kind, **fields))
        self.wake()

    def touch(self) -> None:
        """Its player is awake."""
        self.touched = monotonic()

    def action(self) -> int | None:
        """What to play now, if anything."""
        pressed = self.tapped if self.held is None else self.held
        return self.last if pressed is None and self.goes_on else pressed

    def take(self) -> bytes | None:
        """The next frame to send, if the last one has arrived."""
        if self.ready is None or self.under_way is not None:
            return None
        frame, self.ready, self.under_way = self.ready, None, perf_counter()
        return frame

    def shown(self) -> None:
        """The last frame is on the canvas."""
        if self.under_way is not None:
            self.way_ms = (perf_counter() - self.under_way) * 1000
            self.under_way = None


class Engine:
    """Loads when the first seat is taken; `close` ends the process and the thread."""

    def __init__(self, entry: Entry, runtime: str) -> None:
        self.entry, self.runtime = entry, runtime
        self.seats: deque[Seat] = deque()
        self.changed = threading.Condition()
        self.worker: Worker | None = None
        self.deaths: deque[float] = deque(maxlen=DEATHS[0])
        self.drawn = 0
        """Frames since it was made."""
        self.closing = False
        self.used = monotonic()
        self.thread = threading.Thread(target=self._run, name=f"engine {entry.name}", daemon=True)
        self.thread.start()

    def join(self, seat: Seat) -> None:
        """Take the next place in the queue; the first one plays."""
        with self.changed:
            if self.closing:  # for another world, after this seat was sent here
                self._turn_away(seat)
                return
            self.seats.append(seat)
            self._tell_places()
            self.changed.notify()

    def leave(self, seat: Seat) -> None:
        """Free the place."""
        with self.changed:
            if seat in self.seats:
                self.seats.remove(seat)
            self.used = monotonic()
            self._tell_places()
            self.changed.notify()

    @property
    def busy(self) -> bool:
        return bool(self.seats)

    def close(self) -> None:
        """End the process; all seats are told."""
        with self.changed:
            self.closing = True
            self.changed.notify()
        self.thread.join(10)

    def _turn_away(self, seat: Seat) -> None:
        seat.over = True
        seat.tell("error", why="the engine was closed; reload the page")

    def _tell_places(self) -> None:
        """Who plays, who is next; only what changed."""
        for place, seat in enumerate(self.seats):
            if seat.place != place:
                seat.place, seat.touched = place, monotonic()
                seat.tell("place", ahead=place)

    def _run(self) -> None:
        while True:
            with self.changed:
                if self.closing:
                    break
                seat, work, wait = self._next()
                if work is None:
                    self.changed.wait(wait)
                    continue
            assert seat is not None
            try:
                self._do(seat, work)
            except WorkerFailed as failure:
                self._died(seat, str(failure))
            except Exception as fault:  # such as no room for a new process: nobody waits for a dead thread
                self._died(seat, f"{type(fault).__name__}: {fault}")
        with self.changed:
            for seat in self.seats:
                self._turn_away(seat)
        if self.worker:
            self.worker.close()

    def _next(self) -> tuple[Seat | None, int | str | None, float | None]:
        """The seat that plays and what it needs: "start", an action, or nothing for so many seconds."""
        if not self.seats:
            return None, None, None
        seat = self.seats[0]
        if self._sleeps(seat):
            self.seats.rotate(-1)
            seat.fresh, seat.ready = True, None
            seat.tell("idle", why="others were waiting; press a key when it is your turn again")
            self._tell_places()
            return self._next_of(self.seats[0])
        return self._next_of(seat)

    def _sleeps(self, seat: Seat) -> bool:
        """Whether a player has touched nothing for long while the same other one was waiting for as long."""
        since = monotonic() - IDLE_SECONDS
        return len(self.seats) > 1 and seat.touched < since and self.seats[1].joined < since

    def _next_of(self, seat: Seat) -> tuple[Seat, int | str | None, float | None]:
        if seat.fresh:
            return seat, "start", None
        action = seat.action()
        if action is None or seat.ready is not None:
            return seat, None, 1.0 if len(self.seats) > 1 else None  # to see who is idle
        if seat.pace is not None and (wait := seat.due - perf_counter()) > 0:
            return seat, None, wait
        seat.tapped = None
        return seat, action, None

    def _do(self, seat: Seat, work: int | str) -> None:
        if self.worker is None:
            seat.tell("loading", bundle=self.entry.name, runtime=self.runtime)
            self.worker = Worker(self.runtime, Playing, self.entry.folder, self.runtime, 1)
            self.worker.timeout = ANSWER
        ticket, began = seat.ticket, perf_counter()
        if work == "start":
            with self.changed:
                seat.fresh, seat.last, seat.tapped, seat.ready = False, None, None, None
            start = ticket.start
            drawn: Drawn = self.worker.call("start", start, ticket.seed, ticket.temperature_zero)
            number = ticket.recording.begin(start, drawn.frame)
            action = -1
        else:
            assert isinstance(work, int)
            action = work
            drawn = self.worker.call("step", action)
            number = ticket.recording.add(action, drawn.frame)
        handed = (perf_counter() - began) * 1000 - drawn.ms
        with self.changed:
            self.drawn += 1
            seat.last = action if action >= 0 else None
            if seat.pace is not None:  # a late frame is not made up for
                seat.due = max(seat.due, began) + 1 / seat.pace
            seat.ready = pack(number, action, drawn.frame, drawn.ms, handed, seat.way_ms)
        seat.wake()

    def _died(self, seat: Seat, why: str) -> None:
        """Start again where that may help; say so in any case."""
        now = monotonic()
        lost = self.worker is not None and self.worker.failure is not None
        if self.worker:
            self.worker.close()
            self.worker = None
        self.deaths.append(now)
        again = len(self.deaths) == DEATHS[0] and now - self.deaths[0] < DEATHS[1]
        with self.changed:
            if not lost or again:  # it could not even be opened, or dies again and again
                for each in self.seats:
                    each.over = True
                    each.tell("error", why=f"{self.runtime}: {why}")
                self.seats.clear()
                return
            seat.fresh = True
            seat.tell("restarted", why=f"the engine {why}; it was started again from the first picture")
