"""Long work from the page, `check` and `export`: one at a time, in a process of its own, cancellable.

The child (job_child.py) prints one JSON object a line: {"at": what is being done}, then {"done": words} or
{"error": words}. Its arguments are a validated Order; no user's text becomes a command or a path.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
from collections import deque
from contextlib import suppress
from pathlib import Path
from time import monotonic
from typing import Literal

from pocketgenie.errors import UserError
from pocketgenie.export.manifest import Precision, Target
from pocketgenie.genie.spec import Frozen

LINES = 400  # of the log
GRACE = 5.0  # seconds from asking a job to end to ending it


class CheckOrder(Frozen):
    """`pocketgenie check BUNDLE`, the report put into the bundle."""

    kind: Literal["check"] = "check"
    bundle: Path
    runtimes: tuple[str, ...] = ()
    frames: int = 64


class ExportOrder(Frozen):
    """`pocketgenie export CHECKPOINT`"""

    kind: Literal["export"] = "export"
    checkpoint: Path
    destination: Path
    target: Target
    precision: Precision
    cards: str = "rtx30,rtx40,rtx50"


Order = CheckOrder | ExportOrder
State = Literal["running", "done", "failed", "cancelled"]


class Job:
    """One order being carried out."""

    def __init__(self, title: str, order: Order) -> None:
        self.title, self.order = title, order
        self.lines: deque[tuple[float, str]] = deque(maxlen=LINES)
        """Seconds since the start, and what was begun then."""
        self.words = ""
        """What came of it."""
        self.state: State = "running"
        self.began, self.ended = monotonic(), 0.0
        self.process = subprocess.Popen(
            [sys.executable, "-m", "pocketgenie.web_demo.job_child"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            encoding="utf-8",
            errors="replace",
            start_new_session=True,
        )
        assert self.process.stdin
        with self.process.stdin as given:
            given.write(order.model_dump_json())
        self.thread = threading.Thread(target=self._listen, name=title, daemon=True)
        self.thread.start()

    @property
    def seconds(self) -> float:
        """How long it has taken, or took."""
        return (self.ended or monotonic()) - self.began

    @property
    def running(self) -> bool:
        """Whether it is neither done nor ended otherwise."""
        return self.state == "running"

    def _listen(self) -> None:
        assert self.process.stdout
        other = ""
        for line in self.process.stdout:
            with suppress(ValueError):
                said = json.loads(line)
                if isinstance(said, dict):
                    if "at" in said:
                        self.lines.append((self.seconds, str(said["at"])))
                    elif "done" in said or "error" in said:
                        self.words = str(said.get("done") or said.get("error"))
                        self.state = "done" if "done" in said else "failed"
                    continue
            other = line.strip() or other
        code = self.process.wait()
        self.ended = monotonic()
        if self.state == "running":
            self.state = "failed"
            self.words = f"it ended with exit code {code}: {other[:300]}"

    def cancel(self) -> None:
        """End the process and all that it started. Exports and reports are whole or not there."""
        if not self.running:
            return
        self._signal(signal.SIGINT)
        with suppress(subprocess.TimeoutExpired):
            self.process.wait(GRACE)
        if os.name == "posix":
            self._signal(signal.SIGKILL)
        else:
            self.process.kill()
        self.thread.join(GRACE)
        if self.state != "done":  # it may have been quicker
            self.state, self.words = "cancelled", "cancelled; nothing half-written was left"

    def _signal(self, number: int) -> None:
        with suppress(ProcessLookupError, PermissionError):
            if os.name == "posix":
                os.killpg(self.process.pid, number)
            else:
                self.process.terminate()


class Jobs:
    """The job that runs or ran last."""

    def __init__(self) -> None:
        self.lock = threading.Lock()
        self.last: Job | None = None

    def begin(self, title: str, order: Order) -> Job:
        """Start it. Raises UserError while another runs."""
        with self.lock:
            if self.last and self.last.running:
                raise UserError(f"{self.last.title} is still running; wait for it or cancel it")
            self.last = Job(title, order)
            return self.last

    def close(self) -> None:
        """Nothing outlives the server."""
        if self.last:
            self.last.cancel()
