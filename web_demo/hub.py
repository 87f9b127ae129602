"""What the routes and the page share: tickets, engines, the job, the number of sockets. One per process."""

from __future__ import annotations

import threading
from functools import cache

from pocketgenie.errors import UserError
from pocketgenie.web_demo import prompt
from pocketgenie.web_demo.engine import Engine
from pocketgenie.web_demo.guards import Rate
from pocketgenie.web_demo.jobs import Jobs
from pocketgenie.web_demo.settings import HANDSHAKES_PER_SECOND, MAX_ENGINES, Settings, read_settings
from pocketgenie.web_demo.shelf import look
from pocketgenie.web_demo.tickets import Tickets


class Hub:
    """Engines by bundle and runtime; an idle one is closed when another is wanted."""

    def __init__(self, settings: Settings) -> None:
        self.settings = settings
        self.tickets = Tickets()
        self.jobs = Jobs()
        self.sockets = 0
        self.handshakes = Rate(HANDSHAKES_PER_SECOND)
        self.engines: dict[tuple[str, str], Engine] = {}
        self.lock = threading.Lock()

    def engine(self, bundle: str, runtime: str) -> Engine:
        """The engine of an entry of the shelf. Raises UserError when there is none, or no room for it."""
        with self.lock:
            entry = look(self.settings).bundles.get(bundle)
            if entry is None or runtime not in entry.runtimes:
                raise UserError(f"there is no bundle {bundle} for {runtime}; reload the page")
            if found := self.engines.get((bundle, runtime)):
                same = found.entry.manifest.seal == entry.manifest.seal
                if found.thread.is_alive() and not found.closing and (same or found.busy):
                    return found
                self.engines.pop((bundle, runtime)).close()  # the bundle was exported anew
            idle = sorted((one for one in self.engines.values() if not one.busy), key=lambda one: one.used)
            if len(self.engines) >= MAX_ENGINES:
                if not idle:
                    raise UserError(f"{MAX_ENGINES} worlds are being played already; wait for one to end")
                self.engines.pop((idle[0].entry.name, idle[0].runtime)).close()
            made = self.engines[bundle, runtime] = Engine(entry, runtime)
            return made

    def close(self) -> None:
        """End every engine, the job, and the model that draws."""
        self.jobs.close()
        with self.lock:
            for engine in self.engines.values():
                engine.close()
            self.engines.clear()
        prompt.close()


@cache
def hub() -> Hub:
    """The one of this process."""
    return Hub(read_settings())
