"""What a person sees of a sweep: the table, the chart, the goals."""

import json
from dataclasses import asdict, replace
from xml.etree import ElementTree

import pytest

from pocketgenie.runtimes.sweep_chart import draw
from pocketgenie.runtimes.sweep_goals import goals
from pocketgenie.runtimes.sweep_plan import WORLDS, configuration
from pocketgenie.runtimes.sweep_results import (
    Bound,
    Case,
    DeviceFacts,
    Document,
    Limits,
    Parity,
    Rate,
    Speed,
    to_json,
    write_whole,
)
from pocketgenie.runtimes.sweep_table import WIDTH, render
from pocketgenie.runtimes.sweep_work import count, parameters


def speed(fps):
    return Speed(fps=fps, rounds=(fps,), p50_ms=1000 / fps, p95_ms=1100 / fps, frames=10)


def case(world, player, fps, dtype="float16", steps=2):
    return Case(
        world=world,
        steps=steps,
        dtype=dtype,
        player=player,
        status="measured",
        speed=speed(fps),
        stages_ms={"noise and copies": 0.05, "refinement": 800 / fps, "decoder": 100 / fps},
        ready_s=12.5,
        device_mb=61234.5,
        host_mb=1234.0,
        work=count(configuration(world, False), dtype),
        bound=Bound(binds="operations", operations_ms=500 / fps, bandwidth_ms=100 / fps, share=0.5),
    )


@pytest.fixture
def document():
    found = Document(
        created="2026-01-01T00:00:00+00:00",
        settings={"quick": False},
        versions={"torch": "2.11.0"},
        device=DeviceFacts(
            kind="cuda",
            name="NVIDIA H200",
            torch="2.11.0+cu130",
            capability="9.0",
            memory_gb=150.8,
            cuda="13.0",
            driver="580.159.03",
        ),
        limits=Limits(
            matrix={"bfloat16": Rate(best=790.0, unit="TFLOP/s", by_case={"8192x8192x8192": 790.0})},
            bandwidth=Rate(best=4300.0, unit="GB/s", by_case={}),
            launches=Rate(best=1.1, unit="us", by_case={"eager": 4.2, "graph": 1.1}),
            host_copies=Rate(best=55.0, unit="GB/s", by_case={"to the card": 55.0, "to the host": 52.0}),
            reasons={"matrix float8": "the card has no float8 matrix units (Ada, Hopper and later have)"},
        ),
    )
    for world in WORLDS:
        config = configuration(world, False)
        found.worlds[world] = {
            "pixels": [config.width, config.height],
            "tokens": config.spec().tokens,
            "window": config.dynamics.window,
            "parameters": parameters(config),
        }
    for player, fps in (("tensorrt", 2345.6), ("cuda-graph", 1234.5), ("cuda-eager", 98.76)):
        found.put(case("coinrun", player, fps))
    found.put(case("paper_coinrun", "cuda-graph", 333.3))
    found.put(case("paper_10b", "cuda-graph", 11.5, "bfloat16"))
    found.put(case("paper_10b", "paper-way", 0.0712, "bfloat16", 25))
    out_of_memory = "OutOfMemoryError: CUDA out of memory. Tried to allocate 11.37 GiB"
    row = case("paper_10b", "cuda-eager", 1.0, "bfloat16")
    found.put(replace(row, status="failed", reason=out_of_memory, speed=None))
    missing = "tensorrt-rtx is not installed (pip install tensorrt-rtx)"
    found.parity.append(
        Parity(target="tensorrt", precision="fp16", runtimes=("tensorrt",), status="not run", reason=missing)
    )
    found.finished = True
    found.goals = goals(found)
    return found


def test_the_table_fits_80_columns_and_tells_all(document):
    shown = render(document)
    assert max(map(len, shown.splitlines())) <= WIDTH
    for told in ("NVIDIA H200", "790", "4300 GB/s", "out of memory", "tensorrt-rtx is not installed"):
        assert told in " ".join(shown.split()), told
    assert "paper_10b: 160x90, 920 tokens, 10.2 B parameters" in shown
    row = next(line for line in shown.splitlines() if "tensorrt" in line)
    assert row.split()[:4] == ["2", "float16", "tensorrt", "2346"] and row.split()[-2:] == ["50%o", "61.2"]


def test_the_chart_is_well_formed_and_has_a_bar_for_each_case(document):
    chart = ElementTree.fromstring(draw(document))
    space = "{http://www.w3.org/2000/svg}"
    bars = [rect for rect in chart.iter(f"{space}rect") if rect.get("height") == "13"]
    assert len(bars) == sum(case.speed is not None for case in document.cases)
    texts = [text.text for text in chart.iter(f"{space}text")]
    assert "2346" in texts and "0.0712" in texts and "Frames per second on NVIDIA H200" in texts
    width = float(chart.attrib["width"])
    assert all(float(bar.attrib["x"]) + float(bar.attrib["width"]) < width for bar in bars)


def test_a_chart_and_a_table_of_nothing(document):
    nothing = Document(created="now", settings={}, versions={})
    assert "no device" in render(nothing)
    ElementTree.fromstring(draw(nothing))


def test_the_goals_are_met_by_measurements_alone(document):
    assert [goal.status for goal in document.goals] == ["met", "met", "met"]
    assert "cuda-graph bfloat16: 11.5 fps" in document.goals[0].detail
    document.cases = [case for case in document.cases if case.player != "tensorrt"]
    assert [goal.status for goal in goals(document)] == ["met", "met", "not run"]
    document.put(case("coinrun", "ort-cuda", 900.0))
    document.put(case("paper_10b", "cuda-graph", 9.99, "bfloat16"))
    assert [goal.status for goal in goals(document)] == ["missed", "met", "missed"]
    document.cases = []
    assert {goal.status for goal in goals(document)} == {"not run"}


def test_a_cpu_meets_no_goal(document):
    document.device = DeviceFacts(kind="cpu", name="x86_64", torch="2.13.0")
    assert {goal.status for goal in goals(document)} == {"not run"}


def test_the_document_is_strict_json_and_written_whole(document, tmp_path):
    write_whole(tmp_path / "found.json", to_json(document))
    read = json.loads((tmp_path / "found.json").read_text(), parse_constant=pytest.fail)
    assert read == json.loads(json.dumps(asdict(document))) and read["schema_version"] == 1
    assert [path.name for path in tmp_path.iterdir()] == ["found.json"]
