"""How the figures are made, on a real contest. Not how fast: that is for `check` to say."""

import os
import time

import numpy as np
import pytest

from pocketgenie.export.bundle import load_bundle
from pocketgenie.runtimes.brought import held_out_clips, start_picture
from pocketgenie.runtimes.contestants import play_turn
from pocketgenie.runtimes.throughput import PAPER, Contest, count_gflop, per_round

ROUNDS, FRAMES = 3, 5


@pytest.fixture(scope="module")
def contest(tiny_bundle):
    bundle = load_bundle(tiny_bundle)
    with Contest(tiny_bundle, ["ort-cpu"], start_picture(bundle, held_out_clips(bundle, 1))) as contest:
        contest.start(print)
        contest.run(ROUNDS, FRAMES, print)
        yield contest


def test_everybody_takes_a_turn_in_every_round(contest):
    assert contest.failures == {}
    assert set(contest.turns) == {"reference", "ort-cpu", PAPER}
    assert all(len(turns) == ROUNDS == len(contest.rates) for turns in contest.turns.values())
    assert [len(turn) for turn in contest.turns["ort-cpu"]] == [FRAMES] * ROUNDS
    assert [len(turn) for turn in contest.turns[PAPER]] == [1] * ROUNDS
    apart = contest.limits()["core_to_core_ns"]
    assert len(apart) == (ROUNDS if len(os.sched_getaffinity(0)) > 1 else 0)


def test_the_figures_are_made_of_the_frame_times(contest, tiny_bundle):
    gflop, why_not = count_gflop(load_bundle(tiny_bundle))
    assert gflop and not why_not
    row, reference = contest.row("ort-cpu", "fp32", gflop), contest.reference("checkpoint")
    times = np.concatenate(contest.turns["ort-cpu"])
    assert row.fps.p50 == pytest.approx(1000 / np.median(times))
    assert row.fps.p95 == pytest.approx(1000 / np.percentile(times, 95)) and row.fps.p95 <= row.fps.p50
    assert row.fps.median == np.median(row.fps.rounds)
    assert reference.fps_cached == np.median(per_round(contest.turns["reference"]))
    for ratio, rival in ((row.fps.ratio_cached, "reference"), (row.fps.ratio_paper_way, PAPER)):
        of_each_round = np.divide(row.fps.rounds, per_round(contest.turns[rival]))
        assert ratio == pytest.approx(np.median(of_each_round))
    assert row.fps.ratio_compiled is None  # it took no part
    assert row.limit_share == pytest.approx(gflop * row.fps.median / contest.matrix().gflops)
    assert 0 < row.limit_share < 1


def test_a_runtime_without_torch_is_smaller_and_sooner(contest):
    assert contest.memory_mb["ort-cpu"] < contest.memory_mb["reference"]
    assert contest.first_frame_ms["ort-cpu"] < contest.first_frame_ms["reference"]


def test_the_matrix_rate_is_the_best_median(contest):
    best = contest.matrix()
    medians = {key: np.median([rate[key] for rate in contest.rates]) for key in contest.rates[0]}
    assert best.gflops == max(medians.values()) == medians[best.library, best.shape]
    assert {library for library, _ in medians} == {"numpy", "torch", "onnxruntime"}


def test_the_paper_way_recomputes_a_full_window_25_times(tiny_bundle, monkeypatch):
    from pocketgenie.runtimes.contestants import PaperWay

    bundle = load_bundle(tiny_bundle)
    played = PaperWay(tiny_bundle, start_picture(bundle, None))
    passes, real = [], played.played.world.full_logits

    def counted(tokens, actions):
        passes.append(len(tokens))
        return real(tokens, actions)

    monkeypatch.setattr(played.played.world, "full_logits", counted)
    played.step(0)
    spec = bundle.manifest.spec
    assert passes == [spec.memories["dynamics"].slots + 1] * min(25, spec.tokens)


def test_a_runtime_that_does_not_start_is_a_reason(faulty_bundle, tmp_path):
    bundle = load_bundle(faulty_bundle)
    picture = start_picture(bundle, None)
    with Contest(tmp_path, ["ort-cpu"], picture) as contest:  # no bundle there
        contest.start(print)
        contest.run(1, 2, print)
        row = contest.row("ort-cpu", "fp32", 1.0)
    assert row.fps is None and row.limit_share is None and row.first_frame_ms is None
    assert "did not start" in row.reasons[0] and "no bundle" in row.reasons[0]
    reference = contest.reference("checkpoint")
    assert reference.fps_cached is None and len(reference.reasons) == 2


def test_a_turn_ends_by_frames_or_by_time():
    assert len(play_turn(lambda action: None, 3, 10, 5)) == 10
    assert len(play_turn(lambda action: time.sleep(0.03), 3, 1000, 0.05)) == 2


def test_frames_per_second_of_a_round_is_over_all_its_frames():
    assert per_round([[10.0, 30.0], [5.0, 5.0]]) == [50.0, 200.0]
