"""The library optimum as a quantizer: what it makes is as much int8 as what is made without it."""

from __future__ import annotations

import sys

import numpy as np
import onnx
import pytest

from pocketgenie.errors import UserError
from pocketgenie.quantize import optimum
from pocketgenie.quantize.int8 import to_int8_cpu
from pocketgenie.quantize.products import merged, products
from pocketgenie.quantize.proof import count_products


@pytest.mark.parametrize(
    ("machine", "flags", "name"),
    [
        ("aarch64", "", "arm64"),
        ("x86_64", "avx2 avx512f avx512_vnni", "avx512_vnni"),
        ("x86_64", "avx2 avx512f", "avx512"),
        ("AMD64", "avx2", "avx2"),
    ],
)
def test_the_settings_are_the_machines(machine, flags, name, monkeypatch, tmp_path):
    (tmp_path / "cpuinfo").write_text(f"flags : {flags}\n")
    monkeypatch.setattr(optimum, "CPUINFO", tmp_path / "cpuinfo")
    monkeypatch.setattr("platform.machine", lambda: machine)
    assert optimum.preset() == name


def test_without_the_library_it_says_how_to_install_it(monkeypatch):
    monkeypatch.setitem(sys.modules, "optimum.onnxruntime", None)
    with pytest.raises(UserError, match=r"pocketgenie\[optimum\]"):
        optimum.to_int8_optimum(onnx.ModelProto(), ["any"])


def test_it_quantizes_what_is_asked(graphs, samples, run):
    pytest.importorskip("optimum.onnxruntime", reason="optimum-onnx is not installed")
    model = merged(graphs["decode"])
    names = [node.name for node in products(model.graph)]
    made, own = optimum.to_int8_optimum(model, names), to_int8_cpu(model, names)
    assert count_products(made) == count_products(own) == (len(names), len(names))
    inputs = samples["decode"][0]
    wanted, found = run(own, inputs)["frame"], run(made, inputs)["frame"]
    assert np.abs(wanted.astype(int) - found.astype(int)).mean() < 2
