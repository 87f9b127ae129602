"""Who is answered, what is read, what may be written: the guards without a server."""

from __future__ import annotations

import io
import socket
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from pydantic import ValidationError

pytest.importorskip("starlette", reason="the extra `demo` is not installed")

from pocketgenie.errors import UserError
from pocketgenie.export.bundle import load_bundle
from pocketgenie.web_demo.guards import Rate, host_allowed, is_local, origin_allowed, picture_of
from pocketgenie.web_demo.jobs import CheckOrder, ExportOrder, Job, Jobs
from pocketgenie.web_demo.panel_export import destination_name
from pocketgenie.web_demo.settings import MAX_PICTURE_MB, MAX_TICKETS, Settings
from pocketgenie.web_demo.shelf import look, sources
from pocketgenie.web_demo.tickets import Recording, Ticket, Tickets


@pytest.mark.parametrize(
    ("host", "local", "public"),
    [
        ("localhost:8501", True, True),
        ("127.0.0.1:8501", True, True),
        ("[::1]:8501", True, True),
        ("127.0.0.2:8501", True, True),
        ("LOCALHOST", True, True),
        ("192.168.1.20:8501", False, True),
        ("evil.example", False, False),
        ("evil.example:8501", False, False),
        ("localhost.evil.example", False, False),
        ("127.0.0.1.evil.example", False, False),
        ("", False, False),
        ("[", False, False),
    ],
)
def test_hosts(host: str, local: bool, public: bool) -> None:
    assert host_allowed(host, "127.0.0.1") is local
    assert host_allowed(host, "0.0.0.0") is public


def test_local_addresses() -> None:
    assert all(map(is_local, ("localhost", "127.0.0.1", "127.9.9.9", "::1", "[::1]")))
    assert not any(map(is_local, ("0.0.0.0", "::", "192.168.0.1", "example.org", "")))


def test_origins() -> None:
    host = {"host": "localhost:8501"}
    assert origin_allowed(host)  # no browser
    assert origin_allowed({**host, "origin": "http://localhost:8501"})
    for origin in ("http://localhost:1", "http://evil.example", "null", "file://", "http://[", ""):
        assert not origin_allowed({**host, "origin": origin})


def test_a_rate_lets_bursts_pass_and_floods_not() -> None:
    rate = Rate(50)
    assert sum(rate.take() for _ in range(500)) < 120
    time.sleep(0.1)
    rate.left = 0
    assert rate.take()


def picture(width: int, height: int, kind: str = "PNG") -> bytes:
    file = io.BytesIO()
    Image.fromarray(np.random.default_rng(0).integers(0, 256, (height, width, 3), np.uint8)).save(file, kind)
    return file.getvalue()


def test_uploads_become_frames(tiny_bundle: Path) -> None:
    spec = load_bundle(tiny_bundle).manifest.spec
    assert picture_of(picture(40, 20), spec).frame.shape == spec.frame_shape


@pytest.mark.parametrize(
    ("data", "words"),
    [
        (b"", "no picture"),
        (b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n", "no picture"),
        (picture(40, 20)[:300], "damaged"),
        (bytes(MAX_PICTURE_MB * 1_000_000 + 1), "at most"),
    ],
)
def test_bad_uploads_are_one_line_without_our_paths(tiny_bundle: Path, data: bytes, words: str) -> None:
    with pytest.raises(UserError, match=words) as caught:
        picture_of(data, load_bundle(tiny_bundle).manifest.spec, "your picture")
    assert "your picture" in str(caught.value)
    assert "/" not in str(caught.value).replace("x64/", "") and "\n" not in str(caught.value)


def test_a_bomb_is_refused_by_its_header(tiny_bundle: Path) -> None:
    file = io.BytesIO()
    Image.new("1", (30_000, 30_000)).save(file, "PNG")
    with pytest.raises(UserError, match="too large"):
        picture_of(file.getvalue(), load_bundle(tiny_bundle).manifest.spec)


def test_memory_of_recordings_and_tickets_is_bounded() -> None:
    frame = np.zeros((64, 64, 3), np.uint8)
    recording = Recording()
    recording.begin(frame, frame)
    for _ in range(5000):
        recording.add(1, frame)
    kept = recording.kept()
    assert len(kept.frames) == 1200 and len(kept.actions) == 5000 and kept.first == 3801
    tickets = Tickets()
    first = tickets.add(Ticket(bundle="a", runtime="b", start=frame))
    for _ in range(MAX_TICKETS):
        tickets.add(Ticket(bundle="a", runtime="b", start=frame))
    assert tickets.find(first.key) is None and len(tickets.known) == MAX_TICKETS


def test_the_shelf_lists_sound_bundles_and_names_the_others(tiny_bundle: Path, tmp_path: Path) -> None:
    (tmp_path / "broken").mkdir()
    (tmp_path / "broken" / "manifest.json").write_text("{")
    (tmp_path / "other").mkdir()
    shelf = look(Settings(bundles=(tiny_bundle,), dist=tmp_path))
    assert list(shelf.bundles) == ["tiny"] and list(shelf.damaged) == ["broken"]
    assert shelf.bundles["tiny"].runtimes[0] == "ort-cpu"
    found = sources(Settings(bundles=(tiny_bundle,), dist=tmp_path, checkpoints=()))
    assert found == {"bundle tiny": tiny_bundle}


@pytest.mark.parametrize(
    ("source", "name"),
    [
        ("assets/coinrun", "coinrun-onnx-int8"),
        ("bundle coinrun-onnx-fp32", "coinrun-onnx-int8"),
        ("runs/my world; rm", "my-world--rm-onnx-int8"),
        ("runs/..hidden", "hidden-onnx-int8"),
    ],
)
def test_names_of_exports_are_plain(source: str, name: str) -> None:
    assert destination_name(source, "onnx", "int8") == name


def test_orders_are_validated() -> None:
    with pytest.raises(ValidationError):
        ExportOrder.model_validate_json(
            '{"checkpoint": ".", "destination": ".", "target": "sh", "precision": "fp32"}'
        )


def finished(job: Job, seconds: float = 280) -> Job:
    job.thread.join(seconds)
    return job


@pytest.mark.slow
def test_a_job_exports_and_says_what_it_does(tiny_checkpoint: Path, tmp_path: Path) -> None:
    order = ExportOrder(
        checkpoint=tiny_checkpoint, destination=tmp_path / "made", target="onnx", precision="fp32"
    )
    job = finished(Jobs().begin("export of made", order))
    assert job.state == "done", (job.words, job.lines)
    assert any("exporting play" in what for _, what in job.lines)
    assert load_bundle(tmp_path / "made").manifest.precision == "fp32"


def test_a_job_that_fails_says_why_in_one_line(tmp_path: Path) -> None:
    jobs = Jobs()
    job = finished(jobs.begin("check of nothing", CheckOrder(bundle=tmp_path / "nothing")))
    assert job.state == "failed" and "no bundle" in job.words and "Traceback" not in job.words


def test_a_job_can_be_cancelled_and_leaves_nothing(tiny_checkpoint: Path, tmp_path: Path) -> None:
    jobs, destination = Jobs(), tmp_path / "made"
    order = ExportOrder(checkpoint=tiny_checkpoint, destination=destination, target="onnx", precision="fp32")
    job = jobs.begin("export of made", order)
    while not job.lines:
        time.sleep(0.05)
    with pytest.raises(UserError, match="still running"):
        jobs.begin("another", order)
    job.cancel()
    assert job.state == "cancelled" and job.process.poll() is not None
    assert not destination.exists()


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--address", "0.0.0.0"], "--let-others-in"),
        (["nowhere"], "is no bundle"),
    ],
)
def test_the_command_refuses_what_it_should(arguments: list[str], words: str, tmp_path: Path) -> None:
    command = [sys.executable, "-m", "pocketgenie", "demo", *arguments]
    ended = subprocess.run(command, capture_output=True, text=True, cwd=tmp_path, timeout=120)
    assert ended.returncode == 2 and words in ended.stderr and "Traceback" not in ended.stderr


def test_a_port_in_use_is_told_before_anything_starts(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        command = [sys.executable, "-m", "pocketgenie", "demo", "--port", str(port)]
        ended = subprocess.run(command, capture_output=True, text=True, cwd=tmp_path, timeout=120)
    assert ended.returncode == 2 and f"port {port}" in ended.stderr and f"--port {port + 1}" in ended.stderr
    assert "Streamlit" not in ended.stdout
