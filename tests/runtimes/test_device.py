"""Devices: the real cuda-bindings over a stand-in for the driver's library (libcuda.c), and host memory."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from pocketgenie.errors import UserError
from pocketgenie.runtimes.device import CudaDevice, HostDevice, check_driver

HERE = Path(__file__).parent
Straw = Callable[..., Any]

needs_bindings = pytest.mark.skipif(find_spec("cuda") is None, reason="cuda-bindings is not installed")


@pytest.fixture(scope="module")
def straw(tmp_path_factory: pytest.TempPathFactory) -> Straw:
    """Runs Python code that prints JSON, in a process whose driver is libcuda.c."""
    compiler = shutil.which("cc")
    if sys.platform != "linux" or compiler is None:
        pytest.skip("no C compiler (cc) on Linux")
    folder = tmp_path_factory.mktemp("straw")
    made = [compiler, "-shared", "-fPIC", "-o", str(folder / "libcuda.so.1"), str(HERE / "libcuda.c")]
    subprocess.run(made, check=True, capture_output=True)

    def run(code: str, *arguments: object, **settings: object) -> Any:
        environment = os.environ | {"LD_LIBRARY_PATH": str(folder)}
        environment |= {name: str(value) for name, value in settings.items()}
        command = [sys.executable, "-c", code, *map(str, arguments)]
        ran = subprocess.run(command, capture_output=True, text=True, env=environment)
        assert ran.returncode == 0, ran.stderr
        assert not ran.stderr
        return json.loads(ran.stdout)

    return run


def without_a_driver() -> bool:
    try:
        from cuda.bindings import driver

        driver.cuInit(0)
    except RuntimeError:
        return True
    return False


@needs_bindings
def test_without_a_driver_there_is_one_clear_line():
    if not without_a_driver():
        pytest.skip("an NVIDIA driver is installed")
    with pytest.raises(UserError, match=r"^no NVIDIA driver: .*; install NVIDIA's driver") as caught:
        CudaDevice()
    assert "\n" not in str(caught.value)


COPIES = """
import json, threading
import numpy as np
from pocketgenie.runtimes.device import CudaDevice

device = CudaDevice(needs=13)
there, again = device.allocate(100, "a test"), device.allocate(100, "a test")
up, down = device.pinned(100), device.pinned(100)
zeros = not up.any()
device.download(down, there)
zeros = zeros and not down.any()
up[:] = np.arange(100)

def elsewhere():  # another thread has no current context until `activate`
    device.activate()
    device.upload(there, up)
    device.copy(again + 10, there + 20, 50)
    device.download(down, again)
    device.synchronize()

thread = threading.Thread(target=elsewhere)
thread.start()
thread.join()
runs = []
replay = device.record(lambda: runs.append(1))
replay()
replay()
facts = [device.name, device.capability, device.driver, device.stream != 0, there % 256, device.free_memory()]
held = down.tolist()
device.close()
print(json.dumps([facts, zeros, held, runs]))
"""


@needs_bindings
def test_copies_with_offsets_from_any_thread_and_nothing_left_at_the_end(straw):
    facts, zeros, held, runs = straw(COPIES)
    assert facts == ["Card of Straw", "8.9", "CUDA 13.0", True, 0, 1 << 40]
    assert zeros and held == [0] * 10 + list(range(20, 70)) + [0] * 40
    assert runs == [1]  # recorded once, played twice without it


REFUSED = """
import json
from pocketgenie.errors import UserError
from pocketgenie.runtimes.device import CudaDevice

try:
    device = CudaDevice(needs=13, who="TensorRT for RTX")
    device.allocate(5_000_000, "the ring")
    device.record(lambda: None)
except UserError as error:
    print(json.dumps(str(error)))
"""


@needs_bindings
@pytest.mark.parametrize(
    ("settings", "line"),
    [
        (
            {"CARD_INIT": 100},
            "no NVIDIA card is visible (cuInit: CUDA_ERROR_NO_DEVICE); look at nvidia-smi",
        ),
        (
            {"CARD_INIT": 34},
            "no NVIDIA driver: libcuda is a stub here (cuInit: CUDA_ERROR_STUB_LIBRARY); install",
        ),
        (
            {"CARD_INIT": 803},
            "the NVIDIA driver and its library differ in version (cuInit: CUDA_ERROR_SYSTEM_DRIVER",
        ),
        ({"CARD_INIT": 999}, "the NVIDIA driver failed (cuInit: CUDA_ERROR_UNKNOWN); look at nvidia-smi"),
        (
            {"CARD_CUDA": 12040},
            "the NVIDIA driver is too old: it offers CUDA 12.4, TensorRT for RTX needs CUDA 13; update",
        ),
        (
            {"CARD_FREE": 2_000_000},
            "too little memory on the NVIDIA card: the ring needs 5 MB, 2 MB are free; close other",
        ),
        (
            {"CARD_CAPTURE": 900},
            "the NVIDIA driver failed (cuStreamEndCapture: CUDA_ERROR_STREAM_CAPTURE_UNSUPPORTED)",
        ),
    ],
    ids=["no card", "stub", "mismatch", "unknown", "old driver", "memory", "capture"],
)
def test_what_the_driver_refuses_is_one_line(straw, settings, line):
    said = straw(REFUSED, **settings)
    assert said.startswith(line) and "\n" not in said and "; " in said


def test_a_driver_as_old_as_the_library_is_new_enough():
    check_driver(13000, 13, "TensorRT")
    check_driver(13010, 12, "TensorRT")
    with pytest.raises(UserError, match=r"CUDA 11\.8, TensorRT needs CUDA 12"):
        check_driver(11080, 12, "TensorRT")


def test_host_memory_in_a_devices_place():
    device = HostDevice()
    device.activate()
    address, up, down = device.allocate(1000, "a test"), device.pinned(100), device.pinned(100)
    assert address % 256 == 0
    up[:] = np.arange(100)
    device.upload(address + 500, up)
    device.copy(address + 900, address + 500, 100)
    device.download(down, address + 900)
    device.synchronize()
    assert np.array_equal(up, down)
    assert device.free_memory() > 0
    runs: list[int] = []
    replay = device.record(lambda: runs.append(1))
    replay()
    assert runs == [1]
    device.close()
    assert not device.blocks


PLAY = """
import json, sys, threading
from pathlib import Path
import numpy as np
from pocketgenie.export.bundle import load_bundle
from pocketgenie.genie.noise import draw_noise
from pocketgenie.runtimes.device import CudaDevice
from pocketgenie.runtimes.ort_cuda import CPU, on_device
from pocketgenie.runtimes.table import load_session

bundle = load_bundle(Path(sys.argv[1]))
sessions = on_device(bundle, CudaDevice(), CPU), load_session(bundle, "ort-cpu")
spec = bundle.manifest.spec
frame = np.random.default_rng(0).integers(0, 256, spec.frame_shape).astype(np.uint8)
played = []

def play(session, start, stop):
    if start == 0:
        session.reset()
        session.observe(session.encode(frame), spec.no_action)
    for number in range(start, stop):
        drawn = session.play(number % spec.actions, draw_noise(spec, 1, number))
        played.append([array.tolist() for array in drawn])

for session in sessions:
    for start in (0, 5, 12):
        thread = threading.Thread(target=play, args=(session, start, {0: 5, 5: 12, 12: 20}[start]))
        thread.start()
        thread.join()
    session.close()
print(json.dumps(played[:20] == played[20:] and len(played) == 40))
"""


@needs_bindings
def test_a_world_plays_through_the_bindings_from_changing_threads(straw, tiny_bundle):
    assert straw(PLAY, tiny_bundle) is True
