"""The site in a real browser is a runtime: it plays the reference's world, token for token."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pytest

from pocketgenie.errors import UserError
from pocketgenie.export.bundle import load_bundle
from pocketgenie.genie.noise import draw_noise
from pocketgenie.runtimes import chromium
from pocketgenie.runtimes.check import check
from pocketgenie.runtimes.chromium import Chromium
from pocketgenie.runtimes.lineup import Options
from pocketgenie.runtimes.player import Player
from pocketgenie.runtimes.remote import Remote
from pocketgenie.runtimes.session import Session
from pocketgenie.runtimes.table import load_session
from pocketgenie.runtimes.web import SLOW_FRAMES, WebSession, probe, probe_webgpu

pytestmark = pytest.mark.browser


@pytest.fixture(scope="module", autouse=True)
def browser() -> None:
    """Any Chrome or Chromium; what is missing otherwise is the reason to skip."""
    pytest.importorskip("playwright")
    try:
        Chromium().close()
    except UserError as error:
        pytest.skip(str(error))


@pytest.fixture(scope="module")
def clips(web_bundle: Path) -> np.ndarray:
    return np.load(web_bundle / "clips.npz")["frames"]


def roll_out(session: Session, picture: np.ndarray, frames: int) -> tuple[np.ndarray, np.ndarray]:
    player = Player(session, seed=7)
    drawn = [(player.start(picture), player.tokens)]
    for number in range(frames):
        drawn.append((player.step(number // 3 % session.spec.actions), player.tokens))
    return np.stack([tokens for _, tokens in drawn]), np.stack([frame for frame, _ in drawn])


@pytest.mark.parametrize(
    ("runtime", "threads", "frames"), [("web-wasm", 2, 64), ("web-wasm-1", 1, 64), ("web-webgpu", 1, 4)]
)
def test_it_plays_the_references_world(web_bundle, clips, monkeypatch, runtime, threads, frames):
    monkeypatch.setenv("OMP_NUM_THREADS", str(max(threads, 1)))
    if runtime == "web-webgpu":
        try:
            probe_webgpu()
        except UserError as error:
            pytest.skip(str(error))
    reference, session = load_session(web_bundle, "reference"), load_session(web_bundle, runtime)
    try:
        spec, picture = session.spec, clips[0, 0]
        assert isinstance(session, WebSession) and session.loaded["threads"] == threads
        wanted, found = (roll_out(one, picture, frames) for one in (reference, session))
        np.testing.assert_array_equal(wanted[0], found[0])
        assert np.abs(wanted[1].astype(int) - found[1]).max() <= 1
        masked = np.full(spec.tokens, spec.codebook, np.int32)
        np.testing.assert_allclose(reference.logits(masked, 1), session.logits(masked, 1), atol=1e-3)
        (action, distances), (own, own_distances) = (
            one.infer_action(clips[0, : spec.action_frames]) for one in (reference, session)
        )
        assert action == own
        np.testing.assert_allclose(distances, own_distances, rtol=1e-4, atol=1e-4)
    finally:
        session.close()


def test_a_turn_is_timed_where_it_is_played(web_bundle, clips):
    session = load_session(web_bundle, "web-wasm-1")
    try:
        assert isinstance(session, Remote) and session.shortened() is None
        roll_out(session, clips[0, 0], 2)
        assert len(session.turn(5, 10, 2)) == 5
        timed = session.turn(1000, 0.05, 0)
        assert 0 < len(timed) < 1000 and min(timed) > 0, "a turn ends with its seconds"
        assert set(session.stages(3)) == {"noise", "step", "copy"}
        assert session.memory_mb() > 50
        tokens, _ = session.play(0, draw_noise(session.spec, 0, 0))
        assert tokens.shape == (session.spec.tokens,)
    finally:
        session.close()


def test_a_byte_that_is_altered_after_the_check_is_named_by_the_page(web_bundle, tmp_path):
    copy = shutil.copytree(web_bundle, tmp_path / "copy")
    bundle = load_bundle(copy)
    weights = copy / "site" / "world" / "weights.bin"
    content = bytearray(weights.read_bytes())
    content[5000] ^= 16
    weights.write_bytes(content)
    with pytest.raises(UserError, match=r"weights\.bin"):
        load_session(bundle, "web-wasm-1")


def test_a_browser_that_is_missing_or_does_not_start_is_one_line(monkeypatch, tmp_path):
    monkeypatch.setenv("CHROME", str(tmp_path / "nowhere"))
    with pytest.raises(UserError, match=r"CHROME=.*nowhere is no program; install Chromium"):
        probe()
    broken = tmp_path / "broken"
    broken.write_text("#!/bin/sh\necho it breaks >&2\nexit 1\n")
    broken.chmod(0o755)
    monkeypatch.setenv("CHROME", str(broken))
    with pytest.raises(UserError, match="does not start") as error:
        probe()
    assert "\n" not in str(error.value)


def test_the_browser_is_named_by_the_doctor_and_found_on_the_path(monkeypatch, tmp_path):
    assert probe().startswith("Chromium ")
    monkeypatch.delenv("CHROME", raising=False)
    monkeypatch.setenv("PATH", str(tmp_path))
    assert chromium.find_browser() is None
    (tmp_path / "google-chrome").write_text("")
    (tmp_path / "google-chrome").chmod(0o755)
    assert chromium.find_browser() == tmp_path / "google-chrome"


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_check_judges_both_and_says_what_a_software_adapter_cuts_short(web_bundle):
    few = Options(rounds=1, frames_per_round=4, frames=8, rollouts=1, clips=2)
    document, shown = check(web_bundle, ["web-wasm", "web-webgpu"], few, lambda what: None)
    rows = {row.name: row for row in document.runtimes}
    wasm, webgpu = rows["web-wasm"], rows["web-webgpu"]
    assert wasm.status == "passed" and wasm.fps and wasm.first_frame_ms and wasm.memory_mb, wasm.reasons
    assert shown.stages_ms.keys() == {"noise", "step", "copy"}, "of web-wasm, the first that is fast enough"
    if any("swiftshader" in reason for reason in webgpu.reasons):
        assert webgpu.status == "not run" and webgpu.fps is None
        assert webgpu.parity.rollout and webgpu.parity.rollout.frames == SLOW_FRAMES
        assert webgpu.parity.rollout.first_difference is None and webgpu.parity.world is None
        assert any(reason.startswith("L4 world") for reason in webgpu.reasons)
