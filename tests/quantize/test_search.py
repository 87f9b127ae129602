"""A whole search on the tiny world: every point a bundle that was run, the chosen one a whole bundle."""

from __future__ import annotations

import csv
import time

import numpy as np
import pytest

from pocketgenie.errors import UserError
from pocketgenie.export.bundle import load_bundle
from pocketgenie.export.searched import read_search
from pocketgenie.export.world import ExportOptions
from pocketgenie.genie.checkpoint import read_header
from pocketgenie.genie.graphs import load_world
from pocketgenie.quantize.pareto import JUDGED, PARETO, SENSITIVITY, Goal
from pocketgenie.quantize.search import search
from pocketgenie.quantize.search_bench import SearchOptions
from pocketgenie.quantize.sensitivity import Sensitivity
from pocketgenie.runtimes.contestants import Contestant
from pocketgenie.runtimes.reference import world_session
from pocketgenie.runtimes.table import load_session
from pocketgenie.runtimes.worker import Worker
from pocketgenie.training.evaluation import evaluate

pytestmark = pytest.mark.slow
ANY = 90.0  # dB: a world of random weights has no quality to lose


def wanted(cache, **options):
    settings = {"goal": Goal(budget_db=ANY), "steps": (1,), "candidates": 3, "rounds": 2}
    return SearchOptions(**{**settings, "frames_per_round": 4, "rollouts": 2, "cache": cache, **options})


@pytest.fixture(scope="module")
def found(tiny_checkpoint, tmp_path_factory):
    """The document, the bundle, what was reported, the folder of sensitivities."""
    folder = tmp_path_factory.mktemp("search")
    told: list[str] = []
    document = search(tiny_checkpoint, folder / "out", ExportOptions(), wanted(folder / "cache"), told.append)
    return document, load_bundle(folder / "out"), told, folder / "cache"


def test_each_point_was_made_and_run(found):
    document, _, told, _ = found
    names = [point.name for point in document.points]
    assert names[0] == "N=2 fp32" and set(names[1:]) == {"N=1 int8", "N=2 int8"}
    for name in names:
        assert any(name in what and what.startswith("L4") for what in told)
    assert "racing 3 bundles: round 2 of 2" in told
    assert document.baseline.figures.items() >= document.points[0].figures.items()
    assert document.points[0].quality_db == 0 and document.points[0].ratio == 1
    assert document.why.keys() == set(names)


def test_the_bundle_is_the_chosen_point(found, tiny_checkpoint):
    document, bundle, _, _ = found
    point = document.point(document.chosen)
    assert point.fps == max(one.fps for one in document.points)
    assert (bundle.manifest.precision, bundle.manifest.spec.steps) == (point.precision, point.steps)
    with np.load(tiny_checkpoint / "clips.npz") as file:
        clips = file["frames"]
    with Worker("ort-cpu", Contestant, bundle.folder, "ort-cpu", clips[0, 0], time.time()) as worker:
        figures = worker.call("evaluate", clips, 0)
    assert {name: figures[name] for name in JUDGED} == {name: point.figures[name] for name in JUDGED}
    assert bundle.manifest.recipe["search"] == document.why[point.name]


def test_the_bundle_brings_its_own_reference(found):
    _, bundle, _, _ = found
    assert bundle.manifest.reference and bundle.manifest.clips and bundle.manifest.gallery
    world = load_world(bundle.folder / bundle.manifest.reference)
    assert world.spec.steps == bundle.manifest.spec.steps
    with np.load(bundle.folder / bundle.manifest.clips) as file:
        clips = file["frames"]
    truth = evaluate(world_session(world), clips)
    seen = evaluate(load_session(bundle.folder, "ort-cpu"), clips)
    assert truth["recon_psnr_db"] == pytest.approx(seen["recon_psnr_db"], abs=1.0)


def test_the_search_travels_with_the_bundle(found):
    document, bundle, _, _ = found
    assert read_search(bundle) == document
    rows = list(csv.DictReader((bundle.folder / PARETO).open()))
    assert {row["point"] for row in rows} == {point.name for point in document.points}
    kept = Sensitivity.model_validate_json((bundle.folder / SENSITIVITY).read_text())
    assert {"dynamics.0.ffn", "decoder.0.ffn"} <= set(kept.groups("int8"))


def test_a_goal_that_nothing_reaches_leaves_nothing(found, tiny_checkpoint, tmp_path):
    told: list[str] = []
    options = wanted(found[3], goal=Goal(budget_db=ANY, fps=1e6), steps=(2,), candidates=1)
    with pytest.raises(UserError, match=r"reaches 1e[+]06 fps here: the fastest, N=2 fp32"):
        search(tiny_checkpoint, tmp_path / "out", ExportOptions(), options, told.append)
    assert not any(tmp_path.iterdir())
    assert not any("timing" in what for what in told), "the sensitivities were kept"


def test_other_targets_are_refused(tiny_checkpoint, tmp_path):
    with pytest.raises(UserError, match="--target onnx"):
        search(tiny_checkpoint, tmp_path / "out", ExportOptions(target="tensorrt"), wanted(tmp_path), print)


def test_a_world_of_another_kind_is_searched_too(tinyworlds, tmp_path):
    """In steps that its kind can be played in."""
    options = wanted(tmp_path / "cache", candidates=2, rounds=1)
    document = search(tinyworlds, tmp_path / "out", ExportOptions(), options, lambda what: None)
    assert [point.name for point in document.points] == ["N=4 fp32", "N=1 int8"]
    bundle, point = load_bundle(tmp_path / "out"), document.point(document.chosen)
    assert bundle.manifest.kind == "tinyworlds" and bundle.manifest.spec.steps == point.steps
    assert read_header(bundle.folder / "reference").config["steps"] == point.steps
    kept = Sensitivity.model_validate_json((bundle.folder / SENSITIVITY).read_text())
    assert {"dynamics.0.ffn", "decoder.0.ffn"} <= set(kept.groups("int8"))


def test_a_world_without_pixels_has_nothing_to_search_by(onexgpt, tmp_path):
    with pytest.raises(UserError, match=r"has tokens and no pixels.*take --precision int8"):
        search(onexgpt, tmp_path / "out", ExportOptions(), wanted(tmp_path), print)
    assert not (tmp_path / "out").exists()
