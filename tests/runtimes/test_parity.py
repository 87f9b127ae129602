"""The rungs on real runtimes: what plays the same world passes, what does not falls short."""

import os
import signal
import time

import numpy as np
import pytest

from pocketgenie.runtimes.bounds import bounds_for, shortfalls
from pocketgenie.runtimes.check import examine_runtime
from pocketgenie.runtimes.contestants import Contestant
from pocketgenie.runtimes.parity import Exam
from pocketgenie.runtimes.results import ParityFigures
from pocketgenie.runtimes.worker import Worker

FRAMES = 20


@pytest.fixture(scope="module")
def clips(tiny_bundle):
    with np.load(tiny_bundle / "clips.npz") as file:
        return file["frames"]


def begin(bundle, runtime, clips):
    return Worker(runtime, Contestant, bundle, runtime, clips[0, 0], time.time())


@pytest.fixture(scope="module")
def exam(tiny_bundle, clips):
    """The questions, with the reference's answers from its own process."""
    with begin(tiny_bundle, "reference", clips) as reference:
        spec = reference.call("world_spec")
        yield Exam(reference, spec, clips, frames=FRAMES, rollouts=2, seed=0)


def test_the_exported_graphs_play_the_same_world(exam, tiny_bundle, clips):
    with begin(tiny_bundle, "ort-cpu", clips) as worker:
        row = examine_runtime(worker, "fp32", exam, print)
    assert (row.status, row.reasons) == ("passed", ())
    parity = row.parity.model_dump(by_alias=True)
    assert parity["pass"]["max_abs"] < 1e-4 and parity["pass"]["top1"] == 1 and parity["pass"]["kl"] < 1e-6
    assert (parity["frame"]["token_match"], parity["frame"]["encode_match"]) == (1, 1)
    rollout = parity["rollout"]
    assert rollout["frames"] == len(rollout["psnr_db_per_frame"]) == FRAMES
    assert rollout["first_difference"] is None and rollout["margin"] is None
    assert {"recon_psnr_db", "next_frame_psnr_db", "delta_psnr_db"} <= parity["world"].keys()
    operators = parity["artefact"]["operators"]
    assert operators["play"]["MatMul"] + operators["play"].get("Gemm", 0) > operators["step"]["Softmax"]


def test_noise_on_the_weights_falls_short_at_every_rung(exam, faulty_bundle, clips):
    with begin(faulty_bundle, "ort-cpu", clips) as worker:
        row = examine_runtime(worker, "fp32", exam, print)
    assert row.status == "falls short"
    parity = row.parity.model_dump()
    assert parity["artefact"]["problems"] == ()  # the files are as the manifest says
    for rung in ("L1 pass", "L2 frame", "L3 rollout", "L4 world"):
        assert any(reason.startswith(rung) for reason in row.reasons), (rung, row.reasons)
    assert parity["rollout"]["first_difference"] < FRAMES
    assert parity["rollout"]["margin"] > bounds_for("fp32").near_tie


def test_a_runtime_that_is_killed_falls_short_with_the_signal(exam, tiny_bundle, clips):
    with begin(tiny_bundle, "ort-cpu", clips) as worker:

        def kill_at_the_rollout(what):
            if "L3" in what:
                os.kill(worker.process.pid, signal.SIGKILL)

        row = examine_runtime(worker, "fp32", exam, kill_at_the_rollout)
    assert row.status == "falls short"
    assert row.parity.frame is not None and row.parity.rollout is None and row.parity.world is None
    (reason,) = row.reasons
    assert "L3 rollout" in reason and "SIGKILL" in reason


def test_a_reference_that_is_killed_leaves_the_runtime_unjudged(tiny_bundle, clips):
    with begin(tiny_bundle, "reference", clips) as reference, begin(tiny_bundle, "ort-cpu", clips) as worker:
        exam = Exam(reference, worker.call("world_spec"), clips, frames=2, rollouts=1, seed=0)
        os.kill(reference.process.pid, signal.SIGKILL)
        row = examine_runtime(worker, "fp32", exam, print)
    assert row.status == "not run"
    assert "the reference was killed" in row.reasons[0]


def test_contexts_reach_beyond_the_window_and_mask_in_part(exam):
    slots = exam.spec.memories["dynamics"].slots
    lengths = {len(context.history[0]) for context in exam.contexts}
    assert min(lengths) == 1 and max(lengths) > 2 * slots
    masked = np.stack([context.masked_MS == exam.spec.codebook for context in exam.contexts])
    assert masked[:, 0].all() and 0 < masked[:, 2].mean() < masked[:, 1].mean() < 1


@pytest.mark.parametrize(
    ("rung", "figures"),
    [
        ("L0", {"artefact": {"problems": ["play.onnx lacks frame"], "operators": None}}),
        ("L1", {"pass": {"max_abs": 2e-3, "kl": 0, "top1": 1}}),
        ("L1", {"pass": {"max_abs": 0, "kl": 0, "top1": 0.99}}),
        ("L2", {"frame": {"token_match": 1, "psnr_db": 40, "margin": None, "encode_match": 1}}),
        ("L2", {"frame": {"token_match": 0.9, "psnr_db": 20, "margin": 0.01, "encode_match": 1}}),
        ("L2", {"frame": {"token_match": 1, "psnr_db": 100, "margin": None, "encode_match": 0.9}}),
        ("L4", {"world": {"delta_psnr_db": -0.06}}),
        ("L4", {"world": {"recon_psnr_db": 0.06}}),
    ],
)
def test_each_bound_is_judged(rung, figures):
    (reason,) = shortfalls(bounds_for("fp32"), ParityFigures.model_validate(figures))
    assert reason.startswith(rung)


def test_a_near_tie_is_forgiven_and_perplexities_are_not_judged():
    figures = {
        "frame": {"token_match": 0.9, "psnr_db": 20, "margin": 9e-4, "encode_match": 1},
        "rollout": {
            "frames": 2,
            "rollouts": 1,
            "first_difference": 1,
            "margin": 9e-4,
            "psnr_db": 60,
            "psnr_db_per_frame": [100, 20],
        },
        "world": {"recon_psnr_db": 0.04, "action_perplexity": 3.0},
    }
    assert shortfalls(bounds_for("fp32"), ParityFigures.model_validate(figures)) == []
