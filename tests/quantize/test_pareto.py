"""The choice and the front, over whatever points a search may bring."""

from __future__ import annotations

import csv
import io

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pocketgenie.errors import UserError
from pocketgenie.quantize.pareto import (
    JUDGED,
    Baseline,
    Goal,
    Point,
    SearchDocument,
    choose,
    explain,
    front,
    quality,
    to_csv,
)


def point(name, fps, quality_db, size_mb=1.0):
    return Point(
        name=name,
        steps=1,
        decoder="own",
        precision="int8",
        bits={},
        fps=fps,
        ratio=1,
        size_mb=size_mb,
        figures=dict.fromkeys(JUDGED, 20 + quality_db),
        quality_db=quality_db,
    )


# Few values, so that ties occur.
VALUES = st.tuples(
    st.sampled_from([10.0, 20.0, 30.0, 40.5]),
    st.sampled_from([-1.0, -0.3, -0.1, 0.0, 0.2]),
    st.sampled_from([3.0, 5.0, 9.0]),
)
POINTS = st.lists(VALUES, min_size=1, max_size=12).map(
    lambda rows: [point(str(number), *row) for number, row in enumerate(rows)]
)
GOALS = st.builds(Goal, budget_db=st.sampled_from([0.0, 0.3, 2.0]), fps=st.sampled_from([None, 15.0, 30.0]))


def beats(one, other):
    """At least as fast and as good, and more in one of them."""
    return (
        one.fps >= other.fps
        and one.quality_db >= other.quality_db
        and (one.fps, one.quality_db) != (other.fps, other.quality_db)
    )


@given(POINTS)
def test_the_front_is_a_front(points):
    found = front(points)
    assert not any(beats(other, one) for one in found for other in points)
    for other in points:
        equal = any((one.fps, one.quality_db) == (other.fps, other.quality_db) for one in found)
        assert equal or any(beats(one, other) for one in found)
    assert [one.fps for one in found] == sorted({one.fps for one in found})


@given(POINTS, GOALS)
def test_nothing_within_the_budget_is_better_than_the_choice(points, goal):
    within = [one for one in points if one.quality_db >= -goal.budget_db]
    fit = [one for one in within if goal.fps is None or one.fps >= goal.fps]
    if not fit:
        with pytest.raises(UserError):
            choose(points, goal)
        return
    chosen = choose(points, goal)
    assert chosen in fit
    if goal.fps is None:
        assert not any(beats(one, chosen) for one in within)
        assert chosen.fps == max(one.fps for one in within)
        best = front(points)
        assert any((one.fps, one.quality_db) == (chosen.fps, chosen.quality_db) for one in best)
    else:
        assert chosen.size_mb == min(one.size_mb for one in fit)
    why = explain(points, chosen, goal)
    assert why.keys() == {one.name for one in points}
    assert [name for name, words in why.items() if words.startswith("chosen")] == [chosen.name]


def test_better_than_the_baseline_is_no_loss():
    assert point("a", 1, 0.4).loss_db == 0
    figures = {name: 20.0 for name in JUDGED}
    assert quality(figures | {"delta_psnr_db": 19.0, "recon_psnr_db": 25.0}, figures) == -1
    assert quality(figures | {"action_perplexity": 1.0}, figures) == 0


def test_why_in_words():
    points = [point("fast", 40, -0.1), point("wild", 90, -0.75), point("slow", 30, 0.2, 4)]
    goal = Goal(budget_db=0.3)
    why = explain(points, choose(points, goal), goal)
    assert why == {
        "fast": "chosen: the fastest within 0.3 dB",
        "wild": "over the budget by 0.45 dB",
        "slow": "25% slower",
    }
    small = Goal(budget_db=0.3, fps=25)
    why = explain(points, choose(points, small), small)
    assert why["fast"] == "chosen: the smallest that reaches 25 fps within 0.3 dB"
    assert why["slow"] == "300% larger"


def test_what_nothing_meets_names_the_nearest():
    points = [point("a", 40, -0.912), point("b", 90, -2.0)]
    with pytest.raises(UserError, match=r"nearest, a, loses 0.91 dB; allow it with --budget-db 0.92"):
        choose(points, Goal(budget_db=0.3))
    with pytest.raises(UserError, match=r"within 1 dB reaches 50 fps here: the fastest, a, plays at 40.0"):
        choose(points, Goal(budget_db=1, fps=50))


def test_the_table_and_the_document():
    points = [point("a, b", 40, 0), point("c", 90, -2.0)]
    goal = Goal(budget_db=0.3)
    chosen = choose(points, goal)
    document = SearchDocument(
        world="w",
        checkpoint_hash="0",
        goal=goal,
        baseline=Baseline(name="itself", figures=points[0].figures),
        points=tuple(points),
        chosen=chosen.name,
        why=explain(points, chosen, goal),
        front=tuple(one.name for one in front(points)),
        machine="A CPU",
        cores=1,
        clips=2,
        rounds=3,
        seconds=4.0,
    )
    assert SearchDocument.model_validate_json(document.model_dump_json()) == document
    rows = list(csv.DictReader(io.StringIO(to_csv(document))))
    assert [row["point"] for row in rows] == ["c", "a, b"]
    assert [float(row["fps"]) for row in rows] == [90, 40] and rows[0]["verdict"].startswith("over")
    assert {row["on_front"] for row in rows} == {"True"}
