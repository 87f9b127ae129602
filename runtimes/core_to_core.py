"""How long two cores take to hand each other a cache line: what every small operation of two threads waits
for.

The cores of a virtual machine may lie in one core complex or far apart, and move while it runs. On an EPYC
the round trip below was 0.17 us or 0.57 us, from one minute to the next, and the embedded world in int8
played 200 or 136 frames a second (`bench`). No torch, no numpy: it is a script, so that its two processes
begin at once.
"""

from __future__ import annotations

import mmap
import os
import subprocess
import sys
import time

ROUNDS, BALLS = 1000, 10
PING, PONG = 0, 128  # bytes in cache lines of their own
OVER = 255
SECONDS = 10.0


def round_trip_ns() -> float | None:
    """There and back between the first two cores of this process, as two Python loops see it (of the 160 ns
    of near cores some 70 are their own); the median. None with one core, and where a process cannot choose
    its core."""
    if not hasattr(os, "sched_setaffinity") or len(os.sched_getaffinity(0)) < 2:
        return None
    try:
        done = subprocess.run(
            [sys.executable, "-I", "-S", __file__], capture_output=True, timeout=SECONDS, check=True
        )
    except (subprocess.SubprocessError, OSError):
        return None
    return float(done.stdout)


def _measure() -> float:
    first, second, *_ = sorted(os.sched_getaffinity(0))
    shared = mmap.mmap(-1, 256)
    parent = os.getpid()
    if os.fork() == 0:
        os.sched_setaffinity(0, {second})
        while shared[PING] != OVER and os.getppid() == parent:
            for _ in range(10_000):  # to ask for the parent takes longer than the way to the other core
                shared[PONG] = shared[PING]
        os._exit(0)
    os.sched_setaffinity(0, {first})
    times = []
    for _ in range(ROUNDS):
        began = time.perf_counter_ns()
        for ball in range(1, BALLS + 1):
            shared[PING] = ball
            while shared[PONG] != ball:
                pass
        times.append((time.perf_counter_ns() - began) / BALLS)
    shared[PING] = OVER
    os.wait()
    return sorted(times)[ROUNDS // 2]


if __name__ == "__main__":
    print(_measure())
