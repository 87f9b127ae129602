"""The search in the report: every point named, none lost, readable figures."""

from __future__ import annotations

import re
from xml.etree import ElementTree

from pocketgenie.export.charts import Dot, scatter
from pocketgenie.export.page import Charts, Page, Table, to_html, to_markdown
from pocketgenie.export.searched import section
from pocketgenie.quantize.pareto import JUDGED, Baseline, Goal, Point, SearchDocument, choose, explain, front


def document():
    points = [
        Point(
            name=name,
            steps=1,
            decoder="teacher" if "teacher" in name else "own",
            precision="int8",
            bits={},
            fps=fps,
            ratio=fps / 68,
            size_mb=6.5,
            figures=dict.fromkeys(JUDGED, 26 + quality),
            quality_db=quality,
        )
        for name, fps, quality in (
            ("N=2 fp32", 68, 0.0),
            ("N=1 int8", 150, -0.1),
            ("N=1, teacher's decoder int8", 149, -0.05),
            ("N=1 int4", 151, -0.9),
        )
    ]
    goal = Goal(budget_db=0.3)
    chosen = choose(points, goal)
    return SearchDocument(
        world="w",
        checkpoint_hash="0",
        goal=goal,
        baseline=Baseline(name="N=2 fp32, the checkpoint", figures=points[0].figures),
        points=tuple(points),
        chosen=chosen.name,
        why=explain(points, chosen, goal) | {"N=4 int4": "could not be run: no such operator"},
        front=tuple(point.name for point in front(points)),
        machine="A CPU",
        cores=1,
        clips=2,
        rounds=3,
        seconds=4.0,
    )


def test_every_candidate_is_in_the_table_with_its_verdict():
    found = document()
    (table,) = (block for block in section(found).blocks if isinstance(block, Table))
    assert len(table.rows) == 5 and {len(row) for row in table.rows} == {len(table.head)}
    assert [row[0] for row in table.rows[:2]] == ["N=1 int4", "**N=1 int8**"]
    assert [row[-1] for row in table.rows] == [
        "over the budget by 0.60 dB",
        "chosen: the fastest within 0.3 dB",
        "1% slower",
        "55% slower",
        "could not be run: no such operator",
    ]
    page = Page("t", "l", "passed", [section(found)])
    assert "over the budget by 0.60 dB" in to_markdown(page) and "could not be run" in to_html(page)


def test_the_chart_names_every_point_and_stays_in_its_frame():
    (charts,) = (block for block in section(document()).blocks if isinstance(block, Charts))
    svg = ElementTree.fromstring(charts.charts[0][1])
    words = {text.text for text in svg.iter("text")}
    assert {"N=2 fp32", "N=1 int8", "N=1 T int8", "N=1 int4", "budget: 0.3 dB", "0"} <= words
    _, _, width, height = map(float, svg.attrib["viewBox"].split())
    for mark in svg.iter("circle"):
        assert 0 <= float(mark.attrib["cx"]) <= width and 0 <= float(mark.attrib["cy"]) <= height
    assert [mark.attrib["class"] for mark in svg.iter("circle")].count("ours") == 1


def test_names_do_not_cover_each_other():
    dots = [Dot(name=f"N={n} int8", x=100 + n, y=1 + n / 50, joined=True) for n in range(5)]
    svg = ElementTree.fromstring(scatter(dots, -0.3, "budget", "label", ("x", "y")))
    names = [text for text in svg.iter("text") if re.match(r"N=\d", text.text or "")]
    boxes = [(float(one.attrib["x"]), float(one.attrib["y"])) for one in names]
    for number, (x, y) in enumerate(boxes):
        for a, b in boxes[:number]:
            assert abs(x - a) >= 6 * 8 or abs(y - b) >= 12


def test_one_point_alone_is_drawn():
    svg = scatter([Dot(name="only", x=10, y=0, ours=True, joined=True)], 0, "budget", "label", ("x", "y"))
    assert "nan" not in svg and "only" in svg
