"""The doctor tries every runtime for real; what is missing, broken or crashes is said with its mend."""

import json
import os
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

import pytest
from rich.console import Console

from pocketgenie.runtimes import doctor
from pocketgenie.runtimes.doctor import Finding, Report, examine, render
from pocketgenie.runtimes.table import RUNTIMES, Runtime


def row(module: str, *needs: str) -> Runtime:
    return Runtime(
        name="odd",
        module=module,
        description="a world [in] brackets",
        needs=needs,
        mend="pip install 'odd[all]'",
        targets=(),
    )


def shown(report: Report) -> str:
    console = Console(width=80, record=True, file=open(os.devnull, "w"))  # noqa: SIM115 (lives as long as the console)
    console.print(render(report))
    return console.export_text()


def test_the_command_reports_every_runtime_in_80_columns(tmp_path: Path):
    command = [sys.executable, "-m", "pocketgenie", "doctor", "--json", str(tmp_path / "doctor.json")]
    ran = subprocess.run(command, capture_output=True, text=True, env=os.environ | {"COLUMNS": "80"})
    assert ran.returncode == 0, ran.stderr
    assert max(map(len, ran.stdout.splitlines())) <= 80
    report = Report.model_validate_json((tmp_path / "doctor.json").read_text())
    assert [finding.runtime for finding in report.runtimes] == list(RUNTIMES)
    for finding in report.runtimes:
        assert finding.runtime in ran.stdout
        assert finding.works == (not finding.mend)
        lacking = [name for name in RUNTIMES[finding.runtime].needs if find_spec(name) is None]
        assert not (finding.works and lacking)
        assert "AttributeError" not in finding.detail  # every runtime has a probe
    assert {finding.runtime: finding for finding in report.runtimes}["ort-cpu"].works
    assert report.machine["cpu"] in ran.stdout
    assert json.loads((tmp_path / "doctor.json").read_text())["versions"]["onnxruntime"]


def test_what_is_not_installed_is_named():
    finding = examine(row("pocketgenie.runtimes.ort_cpu", "onnxruntime", "no_such_library"))
    assert not finding.works
    assert finding.detail == "no_such_library is not installed"
    assert finding.mend == "pip install 'odd[all]'"


@pytest.mark.parametrize(
    ("source", "complaint"),
    [
        ("raise ImportError('libodd.so: not found')", "ImportError: libodd.so: not found"),
        ("import os; os.abort()", "SIGABRT"),
        ("import time; time.sleep(60)", "no answer for"),
        ("def probe(): raise RuntimeError('no [device]\\nand more')", "RuntimeError: no [device]"),
        ("def probe(): return 'odd 1.0'", ""),
    ],
    ids=["import", "crash", "hang", "probe", "works"],
)
def test_a_broken_runtime_is_a_finding(tmp_path: Path, monkeypatch, source: str, complaint: str):
    (tmp_path / "odd_runtime.py").write_text(source)
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setattr(doctor, "TIMEOUT", 10.0 if "sleep" not in source else 1.0)
    finding = examine(row("odd_runtime"))
    assert finding.works == (not complaint)
    assert complaint in finding.detail
    page = shown(Report(runtimes=(finding,), machine={}, versions={}))
    assert "a world [in] brackets" in page
    assert ("pip install 'odd[all]'" in page) == bool(complaint)


def test_compiled_needs_a_compiler_that_compiles(tmp_path: Path, monkeypatch):
    pytest.importorskip("torch", reason="torch is not installed")
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.delenv("CXX", raising=False)
    finding = examine(RUNTIMES["compiled"])
    assert not finding.works
    assert "C++ compiler" in finding.detail
    compiler = tmp_path / "g++"
    compiler.write_text(
        '#!/bin/sh\n[ "$1" = --version ] && echo "g++ 1" || { echo "no headers" >&2; exit 1; }\n'
    )
    compiler.chmod(0o755)
    finding = examine(RUNTIMES["compiled"])
    assert finding.detail == "g++ does not compile: no headers"
    assert finding.mend == RUNTIMES["compiled"].mend


def test_a_long_report_wraps():
    long = Finding(
        runtime="odd", description="d" * 30, works=False, detail="word " * 60, mend="pip install " + "x" * 90
    )
    page = shown(Report(runtimes=(long,), machine={"cpu": "name " * 40}, versions={"odd": "1"}))
    assert max(map(len, page.splitlines())) <= 80
