"""`export` as a user calls it: whole or not at all, and what a checkpoint may lack."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from pocketgenie.errors import UserError
from pocketgenie.export.bundle import load_bundle
from pocketgenie.export.world import ExportOptions, export_checkpoint, open_source
from pocketgenie.genie.checkpoint import checkpoint_hash, not_the_teacher, read_header


@pytest.fixture
def checkpoint(tiny_checkpoint: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(tiny_checkpoint, tmp_path / "checkpoint"))


@pytest.fixture
def family(taught_checkpoint: Path, tmp_path: Path) -> Path:
    """A folder with a `student` and its `teacher`."""
    return Path(shutil.copytree(taught_checkpoint.parent, tmp_path / "family"))


def export(checkpoint: Path, out: Path, **options: object) -> None:
    export_checkpoint(checkpoint, out, ExportOptions(**options), lambda what: None)  # type: ignore[arg-type]


def test_a_bundle_carries_what_check_needs(tiny_bundle):
    manifest = load_bundle(tiny_bundle).manifest
    assert manifest.reference == "reference" and manifest.clips == "clips.npz"
    assert set(manifest.graphs) == {"encode", "observe", "step", "decode", "play", "logits", "infer_action"}
    assert manifest.gallery and all((tiny_bundle / path).exists() for path in manifest.gallery)
    assert np.load(tiny_bundle / "clips.npz")["frames"].dtype == np.uint8


@pytest.mark.parametrize("name", ["tokenizer.safetensors", "world.json"])
def test_a_broken_checkpoint_leaves_an_older_bundle_whole(name, checkpoint, tiny_bundle, tmp_path):
    out = Path(shutil.copytree(tiny_bundle, tmp_path / "bundle"))
    before = (out / "manifest.json").read_bytes()
    (checkpoint / name).write_bytes((checkpoint / name).read_bytes()[:-7])
    with pytest.raises(UserError):
        export(checkpoint, out)
    assert (out / "manifest.json").read_bytes() == before
    load_bundle(out)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["bundle", "checkpoint"]


def test_clips_of_another_size_are_refused_before_anything_is_written(checkpoint, tmp_path):
    np.savez(checkpoint / "clips.npz", frames=np.zeros((2, 6, 8, 8, 3), np.uint8))
    with pytest.raises(UserError, match="8x8, this world is 16x16"):
        export(checkpoint, tmp_path / "bundle")
    assert not (tmp_path / "bundle").exists()


def test_a_gallery_picture_of_another_size_is_refused(checkpoint, tmp_path):
    (checkpoint / "gallery").mkdir()
    Image.new("RGB", (20, 16)).save(checkpoint / "gallery" / "wide.png")
    with pytest.raises(UserError, match="20x16"):
        export(checkpoint, tmp_path / "bundle")


def test_a_gallery_picture_that_is_none_is_refused(checkpoint, tmp_path):
    (checkpoint / "gallery").mkdir()
    (checkpoint / "gallery" / "text.png").write_text("hello")
    with pytest.raises(UserError, match="no picture"):
        export(checkpoint, tmp_path / "bundle")


@pytest.mark.slow
def test_without_reference_and_clips_no_teacher_travels_either(family, tmp_path):
    (family / "student" / "clips.npz").unlink(missing_ok=True)
    shutil.rmtree(family / "student" / "gallery", ignore_errors=True)
    export(family / "student", tmp_path / "plain", reference=False)
    manifest = load_bundle(tmp_path / "plain").manifest
    assert manifest.reference is None and manifest.clips is None and manifest.gallery == ()
    assert manifest.teacher is None
    with pytest.raises(UserError, match="holds no checkpoint"):
        export(tmp_path / "plain", tmp_path / "again")


def test_a_bundle_is_exported_again_teacher_and_all(taught_bundle, taught_checkpoint, tmp_path):
    first = load_bundle(taught_bundle).manifest
    assert open_source(taught_bundle).name == first.spec.name
    assert first.teacher == "teacher" and first.recipe["teacher"] == "included"
    teacher = checkpoint_hash(taught_checkpoint.parent / "teacher")
    assert checkpoint_hash(taught_bundle / "teacher") == teacher != first.checkpoint_hash
    export(taught_bundle, tmp_path / "again", precision="fp16")
    again = load_bundle(tmp_path / "again").manifest
    assert again.teacher == "teacher" and checkpoint_hash(tmp_path / "again" / "teacher") == teacher
    assert again.checkpoint_hash == first.checkpoint_hash and again.gallery == first.gallery
    assert again.files["clips.npz"].size and again.precision == "fp16"
    assert {memory.dtype for memory in again.spec.memories.values()} == {"float16"}
    types = {tensor.name: tensor.dtype for tensor in again.graphs["play"].inputs}
    assert types["memory"] == "float16" and types["noise"] == "int32"


def test_a_bundle_without_a_teacher_says_nothing_of_one(tiny_bundle):
    manifest = load_bundle(tiny_bundle).manifest
    assert manifest.teacher is None and "teacher" not in manifest.recipe


@pytest.mark.parametrize(
    ("spoil", "said"),
    [
        (lambda teacher: shutil.rmtree(teacher), "../teacher is not there"),
        (lambda teacher: (teacher / "lam.safetensors").unlink(), "../teacher is not there"),
        (lambda teacher: (teacher / "lam.safetensors").open("ab").write(b" "), "its hash differs"),
    ],
    ids=["no folder", "a file is missing", "another teacher"],
)
def test_a_teacher_that_is_not_there_or_another_is_told(spoil, said, family):
    lineage = read_header(family / "student").lineage
    assert lineage and not_the_teacher(lineage, family / "teacher") is None
    spoil(family / "teacher")
    assert said in (not_the_teacher(lineage, family / "teacher") or "")


@pytest.mark.slow
def test_a_teacher_that_is_another_is_left_out(family, tmp_path):
    (family / "teacher" / "lam.safetensors").open("ab").write(b" ")
    export(family / "student", tmp_path / "bundle")
    manifest = load_bundle(tmp_path / "bundle").manifest
    assert manifest.teacher is None and not (tmp_path / "bundle" / "teacher").exists()
    assert manifest.recipe["teacher"].startswith("left out: ")
