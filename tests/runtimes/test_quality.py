"""L4 against the teacher: the figures of known worlds, and what is told apart."""

from __future__ import annotations

import time

import numpy as np
import pytest

from pocketgenie.errors import UserError
from pocketgenie.export.bundle import load_bundle
from pocketgenie.runtimes.brought import held_out_clips
from pocketgenie.runtimes.contestants import Contestant
from pocketgenie.runtimes.quality import (
    LEAST_DB,
    against_teacher,
    distances,
    least_separation,
    separations,
    shortfalls,
    teacher_of,
)
from pocketgenie.runtimes.reference import load_teacher
from pocketgenie.runtimes.worker import Worker, WorkerFailed
from pocketgenie.training.evaluation import evaluate


@pytest.fixture(scope="module")
def clips(taught_bundle):
    return held_out_clips(load_bundle(taught_bundle), 3)


@pytest.fixture(scope="module")
def figures(taught_bundle, clips):
    bundle, picture = load_bundle(taught_bundle), clips[0, 0]
    with (
        Worker("ort-cpu", Contestant, taught_bundle, "ort-cpu", picture, time.time()) as worker,
        teacher_of(bundle, picture) as teacher,
    ):
        return against_teacher(teacher, worker, bundle.manifest.spec, clips, 0, print)


def test_the_teachers_figures_are_those_of_evaluate_with_the_papers_sampling(figures, taught_bundle, clips):
    teacher = load_teacher(load_bundle(taught_bundle))
    assert (teacher.spec.steps, teacher.spec.order) == (16, "confidence")  # 25, but a frame has 16 tokens
    assert figures.teacher == pytest.approx(evaluate(teacher, clips), abs=1e-6)
    for name, difference in figures.difference_db.items():
        assert difference == pytest.approx(figures.own[name] - figures.teacher[name])
    assert figures.own["next_frame_psnr_db"] != figures.teacher["next_frame_psnr_db"]
    assert all(error >= 0 for error in figures.error_db.values())
    assert figures.separation > 0 and 0 <= figures.hardest[0] < figures.hardest[1] < 5


def test_a_world_without_a_teacher_is_refused(tiny_bundle, clips):
    bundle = load_bundle(tiny_bundle)
    with pytest.raises(UserError, match="has no teacher"):
        load_teacher(bundle)
    with pytest.raises(WorkerFailed, match="has no teacher"):
        teacher_of(bundle, clips[0, 0])


def test_only_a_loss_falls_short(figures):
    key = "next_frame_psnr_db"

    def changed(value, separation=2.0):
        differences = dict.fromkeys(figures.difference_db, 5.0) | {key: value}
        update = {"difference_db": differences, "separation": separation, "separation_teacher": 2.0}
        return figures.model_copy(update=update)

    assert shortfalls(changed(+3.0)) == shortfalls(changed(LEAST_DB)) == []
    assert "next frame is -0.31 dB" in shortfalls(changed(-0.31))[0]
    assert "separation 1.20, below 1.60" in shortfalls(changed(0, separation=1.2))[0]
    assert least_separation(figures.model_copy(update={"separation_teacher": 0.7})) == 1.0


def test_actions_are_told_apart_when_they_differ_by_more_than_the_noise():
    rng = np.random.default_rng(0)
    noise = rng.normal(0, 5, (3, 4, 8, 8, 3))
    level = np.array([100, 100, 140])[:, None, None, None, None]  # the first two do the same
    apart = distances((level + noise).clip(0, 255).astype(np.uint8))
    found = separations(apart)
    assert found[0, 1] == pytest.approx(1, abs=0.1) and np.isnan(found[1, 0]) and np.isnan(found[0, 0])
    assert found[0, 2] == pytest.approx(np.hypot(40, 5 * 2**0.5) / (5 * 2**0.5), rel=0.1)


def test_a_world_without_noise_tells_any_two_actions_apart():
    ends = np.array([[np.full((4, 4, 3), level)] * 2 for level in (10, 12)], np.uint8)
    assert separations(distances(ends))[0, 1] == pytest.approx(2 / 0.5)
