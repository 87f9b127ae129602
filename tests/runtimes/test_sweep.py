"""The sweep on small worlds without a card: whatever happens to a player is a row, and the next one plays."""

import json
import math
from dataclasses import replace
from importlib import import_module

import pytest

from pocketgenie.runtimes import sweep_contest
from pocketgenie.runtimes.sweep import Sweep
from pocketgenie.runtimes.sweep_contest import OUT_OF_TIME, ContestRun, Home, Processes, Settings
from pocketgenie.runtimes.sweep_plan import (
    CASE_STUDY,
    EMBEDDED,
    LARGE,
    PAPER_STEPS,
    WORLDS,
    Contest,
    configuration,
    plan,
)
from pocketgenie.runtimes.sweep_results import Document, to_json
from pocketgenie.runtimes.worker import Worker, WorkerFailed


@pytest.fixture
def settings(tmp_path):
    return Settings(
        device="cpu",
        quick=True,
        minutes=5.0,
        rounds=2,
        frames=3,
        turn_seconds=1.0,
        worlds=(),
        part="speed",
        parity_frames=2,
        parity_clips=1,
        checkpoint=tmp_path,
        scratch=tmp_path,
    )


@pytest.fixture
def processes():
    made = Processes(lambda: 300.0)
    yield made
    made.end(*list(made.workers))


def document():
    return Document(created="2026-01-01T00:00:00+00:00", settings={"quick": True}, versions={})


def contest(*players, steps=PAPER_STEPS, dtype="float32"):
    return Contest(world=EMBEDDED, steps=steps, dtype=dtype, players=players)


@pytest.mark.slow
def test_players_take_turns_and_every_figure_is_there(settings, processes):
    found, saved = document(), []
    run = ContestRun(
        contest("cuda-eager", "paper-way"), settings, processes, found, lambda: saved.append(to_json(found))
    )
    run.run()
    assert [(case.player, case.status) for case in found.cases] == [
        ("cuda-eager", "measured"),
        ("paper-way", "measured"),
    ]
    for case in found.cases:
        assert len(case.speed.rounds) == 2 and 2 <= case.speed.frames <= 6
        assert case.speed.p50_ms <= case.speed.p95_ms
        assert list(case.stages_ms) == ["noise and copies", "refinement", "decoder"]
        assert sum(case.stages_ms.values()) >= case.speed.p50_ms * 0.99
        assert case.ready_s > 0 and case.host_mb > 50 and case.device_mb is None
        assert case.bound is None, "no limit was measured"
    first = json.loads(saved[0])["cases"]
    assert [row["player"] for row in first] == ["cuda-eager"], "saved before the next player was built"
    assert len(processes.workers) == 1, "both play one set of weights"


@pytest.mark.slow
def test_a_player_that_dies_is_a_row_and_those_beside_it_are_built_again(settings, processes):
    found = document()
    killed: list[Worker] = []

    def save():
        if not killed:
            killed.extend(processes.workers.values())
            killed[0].process.kill()

    ContestRun(contest("cuda-eager", "paper-way"), settings, processes, found, save).run()
    eager, paper = found.cases
    assert (paper.player, paper.status, paper.speed) == ("paper-way", "failed", None)
    assert "SIGKILL" in paper.reason
    assert (eager.player, eager.status, eager.reason) == ("cuda-eager", "measured", None)
    assert len(eager.speed.rounds) == 2


def test_a_graph_that_would_take_minutes_to_export_is_not_exported(settings, processes):
    found, settings = document(), replace(settings, quick=False)
    ContestRun(contest("ort-cpu"), settings, processes, found, lambda: None).run()
    (row,) = found.cases
    assert (row.status, row.speed) == ("not run", None)
    assert row.reason.startswith("104 layers unrolled in one graph") and not processes.workers


def test_nothing_begins_when_the_time_is_up(settings):
    found = document()
    ContestRun(contest("cuda-eager"), settings, Processes(lambda: -1.0), found, lambda: None).run()
    assert [(case.status, case.reason) for case in found.cases] == [("not run", OUT_OF_TIME)]


def test_a_call_ends_with_the_time_of_the_run(monkeypatch):
    monkeypatch.setattr(sweep_contest, "RESERVE", 1.0)
    processes = Processes(iter([30.0, 0.5, -1.0]).__next__)
    home = Home(import_module, ("time",))
    processes.call(home, "sleep", 0)
    with pytest.raises(WorkerFailed, match=OUT_OF_TIME) as failed:
        processes.call(home, "sleep", 60)
    assert failed.value.user and not processes.workers


@pytest.mark.slow
def test_a_sweep_of_one_world_leaves_limits_cases_and_goals(settings):
    found = document()
    lines: list[str] = []
    Sweep(replace(settings, worlds=(CASE_STUDY,)), found, lambda: None, lines.append).run()
    assert found.finished and found.device.kind == "cpu" and found.seconds > 0
    assert {"bfloat16", "float32"} <= found.limits.matrix.keys()
    assert found.limits.reasons == {"host_copies": "a CPU copies nothing over PCIe"}
    assert [case.player for case in found.cases] == ["cuda-eager", "paper-way"]
    assert all(case.bound and case.bound.share > 0 for case in found.cases)
    assert {goal.status for goal in found.goals} == {"not run"}
    assert lines[0] == "the limits of the device"
    assert "NaN" not in to_json(found)


@pytest.mark.parametrize("device", ["cuda", "cpu"])
def test_the_plan_begins_with_what_matters_most(device):
    contests = plan(device, quick=False)
    assert (contests[0].world, contests[0].steps, contests[0].players[0]) == (LARGE, 2, "cuda-graph")
    assert (contests[1].world, contests[1].steps) == (EMBEDDED, 2)
    for world in WORLDS:
        own = [contest for contest in contests if contest.world == world]
        assert {contest.steps for contest in own} == {1, 2, 4, 25}
        assert any("paper-way" in contest.players and contest.steps == PAPER_STEPS for contest in own)
    rows = [(c.world, c.steps, c.dtype, p) for c in contests for p in c.players if p != "cuda-graph"]
    assert len(rows) == len(set(rows)), "only the rival plays twice, beside each of the others"
    assert all(contest.world == LARGE for contest in plan(device, False, (LARGE,)))


@pytest.mark.parametrize("name", WORLDS)
def test_the_small_twin_has_the_same_structure(name):
    small, whole = configuration(name, True), configuration(name, False)
    assert small.sampling == whole.sampling and small.dynamics.window == whole.dynamics.window
    assert small.spec().memories.keys() == whole.spec().memories.keys()
    assert PAPER_STEPS <= small.spec().tokens <= 64 <= whole.spec().tokens


def test_a_document_refuses_what_is_no_number():
    found = document()
    found.seconds = math.nan
    with pytest.raises(ValueError, match="JSON"):
        to_json(found)
