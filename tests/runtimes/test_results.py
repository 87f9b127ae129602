"""The documents: their schema is current, their parts fit together, the exit code follows from the rows."""

from pathlib import Path

import pytest
from pydantic import ValidationError

from pocketgenie.runtimes import machine
from pocketgenie.runtimes.results import (
    BenchDocument,
    BundleFacts,
    CheckDocument,
    FpsFigures,
    ParityDocument,
    ParityFigures,
    PassFigures,
    ReferenceSpeed,
    RuntimeRow,
    Settings,
    schema,
    to_json,
)

ROOT = Path(__file__).parents[2]


def fps(**changes):
    ratios = {"ratio_paper_way": 70.0, "ratio_cached": 2.0, "ratio_compiled": None}
    return FpsFigures(
        **{"p50": 101.0, "p95": 80.0, "median": 100.0, "rounds": (99.0, 100.0), **ratios, **changes}
    )


def document(wanted=("ort-cpu",), **status):
    rows = [
        RuntimeRow(name=name, precision="fp32", status=one, reasons=(), parity=ParityFigures(), fps=fps())
        for name, one in status.items()
    ]
    return CheckDocument(
        created="2026-01-01T00:00:00+00:00",
        bundle=BundleFacts(
            name="b",
            world="w",
            target="onnx",
            precision="fp32",
            sha256="0",
            checkpoint_sha256="1",
            size_mb=1.0,
        ),
        machine=machine.describe(),
        versions=machine.versions(),
        settings=Settings(
            runtimes=wanted, frames=64, rollouts=4, rounds=7, frames_per_round=32, clips=32, seed=0, min_fps=0
        ),
        reference=ReferenceSpeed(fps_paper_way=1.0, fps_cached=50.0),
        gflop_per_frame=1.0,
        runtimes=tuple(rows),
    )


def test_the_committed_schema_is_current():
    assert (ROOT / "docs/check.schema.json").read_text() == schema(), (
        "run: python -m pocketgenie.runtimes.results > docs/check.schema.json"
    )


def test_a_document_reads_back_as_it_was_written():
    figures = ParityFigures.model_validate({"pass": PassFigures(max_abs=1e-5, kl=1e-9, top1=1.0)})
    written = document(**{"ort-cpu": "passed"})
    (row,) = written.runtimes
    written = written.model_copy(update={"runtimes": (row.model_copy(update={"parity": figures}),)})
    assert '"pass": {' in to_json(written)
    assert CheckDocument.model_validate_json(to_json(written)) == written


def test_the_parts_hold_the_document_between_them():
    whole = document(**{"ort-cpu": "passed"})
    parity, bench = whole.parity_part(), whole.bench_part()
    assert ParityDocument.model_validate_json(to_json(parity)) == parity
    assert BenchDocument.model_validate_json(to_json(bench)) == bench
    assert bench.runtimes[0].fps == whole.runtimes[0].fps
    keys = set(whole.model_dump()["runtimes"][0])
    assert set(parity.model_dump()["runtimes"][0]) | set(bench.model_dump()["runtimes"][0]) == keys


@pytest.mark.parametrize(
    ("wanted", "status", "code"),
    [
        (("ort-cpu",), {"ort-cpu": "passed", "compiled": "passed"}, 0),
        (("ort-cpu",), {"ort-cpu": "passed", "compiled": "not run"}, 0),
        (("ort-cpu", "compiled"), {"ort-cpu": "passed", "compiled": "not run"}, 2),
        (("ort-cpu",), {"ort-cpu": "not run", "compiled": "passed"}, 2),
        (("ort-cpu",), {"ort-cpu": "passed", "compiled": "falls short"}, 1),
        (("ort-cpu",), {"ort-cpu": "falls short", "compiled": "not run"}, 1),
        ((), {"ort-cpu": "not run"}, 2),
    ],
)
def test_the_exit_code_follows_from_the_rows(wanted, status, code):
    assert document(wanted, **status).exit_code == code


def test_numbers_that_json_lacks_are_refused():
    for wrong in (float("nan"), float("inf")):
        with pytest.raises(ValidationError):
            fps(median=wrong)
