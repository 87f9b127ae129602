"""A process of its own for each runtime: a crash, a hang, a lack of memory become a reason, not the end.

`Worker(name, make, ...)` builds `make(...)` in a new process; `call` runs one of its methods there.
"""

from __future__ import annotations

import multiprocessing
import os
import signal
import tempfile
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

from pocketgenie.errors import UserError

TIMEOUT = 600.0  # seconds for one answer; compiling a large world takes minutes
LAST_WORDS = 300  # characters of a message or of a dead process's output that a reason quotes


class WorkerFailed(Exception):
    """A call has no answer. The message is the reason on one line, `who` the worker's name."""

    def __init__(self, who: str, reason: str, user: bool = False) -> None:
        super().__init__(reason)
        self.who = who
        self.user = user
        """Something that a user can mend, not a fault of the runtime."""


class Worker:
    """A new process that holds `make(*args)`. Raises WorkerFailed when it cannot be built.

    `make` and all that is sent must be picklable. Close it, or use a `with` block, which nothing outlives.
    """

    def __init__(self, name: str, make: Callable[..., object], *args: Any, timeout: float = TIMEOUT) -> None:
        self.name, self.timeout = name, timeout
        self.failure: WorkerFailed | None = None
        handle, log = tempfile.mkstemp(prefix="pocketgenie-", suffix=".log")
        os.close(handle)
        self.log = Path(log)
        # A worker that ends at once leaves semaphores, which Python cleans up; it need not say so.
        os.environ.setdefault("PYTHONWARNINGS", "ignore::UserWarning:multiprocessing.resource_tracker")
        context = multiprocessing.get_context("spawn")
        self.pipe, theirs = context.Pipe()
        self.process = context.Process(target=_serve, args=(theirs, log, make, args), daemon=True)
        with _deaf_to_interrupts():
            self.process.start()
        theirs.close()
        try:
            self._answer()
        except BaseException:
            self.process.kill()
            self.close()
            raise

    def call(self, method: str, *args: Any) -> Any:
        """The answer of a method. Raises WorkerFailed; after a crash, every time."""
        if self.failure:
            raise self.failure
        with suppress(OSError):  # it died meanwhile; `_answer` says how
            self.pipe.send((method, args))
        return self._answer()

    def _answer(self) -> Any:
        try:
            if not self.pipe.poll(self.timeout):
                self.process.kill()
                self.failure = WorkerFailed(self.name, f"gave no answer for {self.timeout:.0f} s")
                raise self.failure
            kind, value = self.pipe.recv()
        except (EOFError, OSError):
            self.failure = WorkerFailed(self.name, self._epitaph())
            raise self.failure from None
        if kind == "answer":
            return value
        raise WorkerFailed(self.name, value, user=kind == "user")

    def _epitaph(self) -> str:
        self.process.join(10)
        code = self.process.exitcode
        if code is None:
            self.process.kill()
            return "closed its pipe without ending"
        if code < 0:
            how = f"was killed by signal {-code} ({signal.Signals(-code).name})"
            how += "; out of memory?" if -code == 9 else ""
        else:
            how = f"ended with exit code {code}"
        words = self.log.read_text(errors="replace").strip().splitlines()
        return f"{how}: {words[-1][:LAST_WORDS]}" if words else how

    def close(self) -> None:
        """End the process, by force after three seconds."""
        self.pipe.close()  # which it takes as the end
        self.process.join(0 if self.failure else 3)
        if self.process.is_alive():
            self.process.kill()
            self.process.join()
        self.log.unlink(missing_ok=True)

    def __enter__(self) -> Worker:
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        if kind is not None:  # Ctrl-C: no time for manners
            self.process.kill()
        self.close()


def _serve(pipe: Connection, log: str, make: Callable[..., object], args: tuple[Any, ...]) -> None:
    """The process: build, then answer until the pipe closes. What it prints goes to `log`."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the parent ends this process
    out = os.open(log, os.O_WRONLY | os.O_APPEND)
    os.dup2(out, 1)
    os.dup2(out, 2)
    with suppress(EOFError, OSError):
        kind, made = _reply(make, args)
        pipe.send((kind, None if kind == "answer" else made))
        while kind == "answer":
            method, arguments = pipe.recv()
            pipe.send(_reply(getattr(made, method), arguments))
    os._exit(0)  # taking a large library down in order takes a second


def _reply(work: Callable[..., Any], args: tuple[Any, ...]) -> tuple[str, Any]:
    """("answer", what it returned), or ("user" or "error", the reason)."""
    try:
        return "answer", work(*args)
    except UserError as error:
        return "user", str(error)
    except Exception as error:
        told = " ".join(str(error).split())[:LAST_WORDS]  # one line of what may be a page
        return "error", f"{type(error).__name__}: {told}".removesuffix(": ")


@contextmanager
def _deaf_to_interrupts() -> Iterator[None]:
    """A process started here ignores Ctrl-C from its first moment on."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)
