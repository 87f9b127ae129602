"""Whatever happens to a worker process is a reason, and no process is left. The workers hold real modules."""

import os
import signal
import subprocess
import sys
import time
from importlib import import_module
from pathlib import Path

import psutil
import pytest

from pocketgenie.runtimes.worker import Worker, WorkerFailed


@pytest.fixture
def holding():
    """Starts workers that hold a module; closes them."""
    workers = []

    def start(module, **options):
        workers.append(Worker(module, import_module, module, **options))
        return workers[-1]

    yield start
    for worker in workers:
        worker.close()


def test_it_answers_from_another_process(holding):
    assert holding("os").call("getpid") not in (os.getpid(), None)


def test_an_exception_is_a_reason_and_the_worker_lives_on(holding):
    worker = holding("math")
    with pytest.raises(WorkerFailed, match="ValueError") as failed:
        worker.call("sqrt", -1)
    assert (failed.value.who, failed.value.user) == ("math", False)
    assert worker.call("sqrt", 4) == 2


def test_what_a_user_can_mend_is_told_apart(holding, tmp_path):
    with pytest.raises(WorkerFailed, match="no bundle") as failed:
        holding("pocketgenie.runtimes.table").call("load_session", tmp_path, "ort-cpu")
    assert failed.value.user


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGSEGV], ids=lambda number: number.name)
def test_a_killed_worker_names_the_signal(holding, number):
    worker = holding("time")
    os.kill(worker.process.pid, number)
    with pytest.raises(WorkerFailed, match=number.name):
        worker.call("time")
    with pytest.raises(WorkerFailed, match=number.name):
        worker.call("time")


def test_an_exit_names_its_code_and_last_words(holding):
    worker = holding("os")
    worker.call("system", "echo no more memory >&2")
    with pytest.raises(WorkerFailed, match="exit code 3: no more memory"):
        worker.call("_exit", 3)


def test_a_hang_ends_at_the_timeout(holding):
    worker = holding("time", timeout=20)
    worker.timeout = 0.5
    with pytest.raises(WorkerFailed, match="no answer"):
        worker.call("sleep", 600)
    worker.close()
    assert not psutil.pid_exists(worker.process.pid)


def test_a_worker_that_cannot_be_built_is_a_reason_too():
    with pytest.raises(WorkerFailed, match="ModuleNotFoundError"):
        Worker("absent", import_module, "pocketgenie.no_such_module")


INTERRUPTED = """
import signal
from importlib import import_module
from pocketgenie.runtimes.worker import Worker
signal.signal(signal.SIGINT, signal.default_int_handler)  # a shell's background jobs ignore it
with Worker("one", import_module, "time") as one, Worker("two", import_module, "time") as two:
    print(one.process.pid, two.process.pid, flush=True)
    one.call("sleep", 600)
"""


@pytest.mark.skipif(sys.platform == "win32", reason="sends SIGINT to a process group, which Windows lacks")
def test_ctrl_c_ends_all_workers_quietly():
    parent = subprocess.Popen(
        [sys.executable, "-c", INTERRUPTED],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )
    assert parent.stdout
    children = [int(number) for number in parent.stdout.readline().split()]
    assert len(children) == 2
    os.killpg(parent.pid, signal.SIGINT)  # as a terminal does
    _, complaints = parent.communicate(timeout=60)
    assert complaints.count("Traceback") == 1, complaints  # the parent's KeyboardInterrupt alone
    wait_until(lambda: not any(psutil.pid_exists(child) for child in children))


def test_nothing_is_left_in_the_temporary_folder(holding):
    worker = holding("time")
    log = Path(worker.log)
    assert log.exists()
    worker.close()
    assert not log.exists()


def wait_until(true, seconds=30):
    end = time.monotonic() + seconds
    while not true():
        assert time.monotonic() < end
        time.sleep(0.05)
