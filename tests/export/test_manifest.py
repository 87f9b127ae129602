"""The manifest's own rules, and any bytes at all in the place of manifest.json."""

import json
import shutil
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from pydantic import TypeAdapter, ValidationError

from pocketgenie.errors import UserError
from pocketgenie.export.bundle import load_bundle, seal, staged
from pocketgenie.export.manifest import MANIFEST, Draft, GraphEntry, RelativePath
from pocketgenie.genie.spec import MemorySpec, WorldSpec

SPEC = WorldSpec(
    name="tiny",
    height=16,
    width=16,
    grid=(2, 2),
    codebook=8,
    actions=3,
    steps=2,
    temperature=1.0,
    fps=10,
    memories={"dynamics": MemorySpec(slots=4, entry=(1, 2, 4, 1, 4))},
)
DRAFT = Draft(
    spec=SPEC,
    target="onnx",
    precision="fp32",
    recipe={"opset": "20"},
    graphs={"play": GraphEntry(file="play.onnx", inputs=SPEC.memories["dynamics"].inputs(), outputs=())},
    checkpoint_hash="0" * 64,
    versions={"onnx": "1"},
    licence="Apache-2.0",
)


@pytest.fixture(scope="module")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> Path:
    destination = tmp_path_factory.mktemp("bundles") / "tiny"
    with staged(destination) as folder:
        (folder / "play.onnx").write_bytes(b"graph")
        seal(folder, DRAFT)
    return destination


def refused(folder: Path, content: bytes) -> str:
    """What load_bundle says of a bundle with this manifest; empty when it takes it."""
    (folder / MANIFEST).write_bytes(content)
    try:
        load_bundle(folder)
    except UserError as error:
        assert "\n" not in str(error)
        return str(error)
    return ""


@pytest.mark.parametrize("path", ["a", "a/b.onnx", "gallery/00 é.png", ".hidden/x", "a..b"])
def test_a_path_inside_is_taken(path: str):
    assert TypeAdapter(RelativePath).validate_python(path) == path


@pytest.mark.parametrize(
    "path",
    [
        "",
        ".",
        "..",
        "/a",
        "//a",
        "../a",
        "a/../b",
        "a/..",
        "./a",
        "a//b",
        "a/",
        "C:a",
        "c:/a",
        "a\\b",
        "a\0b",
        "a\nb",
    ],
)
def test_any_other_path_is_refused(path: str):
    with pytest.raises(ValidationError):
        TypeAdapter(RelativePath).validate_python(path)


@pytest.mark.parametrize(
    ("change", "complaint"),
    [
        ({"schema_version": 5}, "newer pocketgenie (schema 5); update"),
        ({"schema_version": 10**400}, "newer pocketgenie (schema 1000"),
        ({"schema_version": 0}, "schema_version"),
        ({"schema_version": "1"}, "schema_version"),
        ({"schema_version": None}, "schema_version"),
        ({"surprise": 1}, "surprise"),
        ({"target": "abacus"}, "target"),
        ({"precision": "fp4"}, "precision"),
        ({"graphs": {"play": {"file": "other.onnx", "inputs": [], "outputs": []}}}, "other.onnx"),
        ({"gallery": ["none.png"]}, "none.png"),
        ({"clips": "none.npz"}, "none.npz"),
        ({"reference": "reference"}, "reference"),
        ({"teacher": "teacher"}, "teacher folder teacher holds no files"),
        ({"files": {"../play.onnx": {"sha256": "0" * 64, "size": 5}}}, "leaves the bundle"),
        ({"files": {"/etc/passwd": {"sha256": "0" * 64, "size": 5}}}, "leaves the bundle"),
        ({"files": {"play.onnx": {"sha256": "xyz", "size": 5}}}, "sha256"),
        ({"files": {"play.onnx": {"sha256": "0" * 64, "size": -5}}}, "size"),
        ({"created": "yesterday"}, "created"),
        ({"created": "2026-11-22T10:00:00+02:00"}, "UTC"),
        ({"licence": "MIT"}, "seal"),
    ],
)
def test_a_changed_field_is_named(bundle: Path, tmp_path: Path, change: dict, complaint: str):
    folder = shutil.copytree(bundle, tmp_path / "changed")
    content = json.loads((folder / MANIFEST).read_text()) | change
    assert complaint in refused(folder, json.dumps(content, indent=2).encode())


def test_a_flipped_bit_is_found(bundle: Path, tmp_path: Path):
    folder = shutil.copytree(bundle, tmp_path / "flipped")
    good = (folder / MANIFEST).read_bytes()
    for position in range(0, len(good), 2):
        bad = bytearray(good)
        bad[position] ^= 1 << (position % 8)
        assert refused(folder, bytes(bad)), f"byte {position} of {good[position - 20 : position + 20]!r}"
    assert not refused(folder, good)


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=20),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=10), inner, max_size=3),
    max_leaves=5,
)


@settings(deadline=None, max_examples=300, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_any_bytes_make_one_clear_error(bundle: Path, tmp_path: Path, data: st.DataObject):
    folder = tmp_path / "fuzzed"
    shutil.copytree(bundle, folder, dirs_exist_ok=True)
    good = (bundle / MANIFEST).read_bytes()
    kind = data.draw(st.sampled_from(["bytes", "cut", "splice", "json", "node"]))
    if kind == "bytes":
        bad = data.draw(st.binary(max_size=200))
    elif kind == "cut":
        bad = good[: data.draw(st.integers(0, len(good) - 2))]
    elif kind == "splice":
        at = data.draw(st.integers(0, len(good) - 1))
        bad = good[:at] + data.draw(st.binary(min_size=1, max_size=8)) + good[at:]
    elif kind == "json":
        bad = json.dumps(data.draw(JSON)).encode()
    else:
        content = json.loads(good)
        node, key = content, data.draw(st.sampled_from(sorted(content)))
        while isinstance(node[key], dict) and node[key] and data.draw(st.booleans()):
            node, key = node[key], data.draw(st.sampled_from(sorted(node[key])))
        node[key] = data.draw(JSON)
        bad = json.dumps(content).encode()
    if bad != good:
        assert refused(folder, bad)


@pytest.mark.parametrize(
    "content", [b"[" * 1_000_000, b'{"schema_version": ' + b"9" * 5000 + b"}", b" " * (17 << 20)]
)
def test_a_hostile_manifest_is_refused(bundle: Path, tmp_path: Path, content: bytes):
    assert refused(shutil.copytree(bundle, tmp_path / "hostile"), content)
