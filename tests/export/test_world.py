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


@pytest.fixture
def checkpoint(tiny_checkpoint: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(tiny_checkpoint, tmp_path / "checkpoint"))


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


def test_a_bundle_can_be_exported_again(tiny_bundle, tmp_path):
    assert open_source(tiny_bundle).name == "tiny"
    export(tiny_bundle, tmp_path / "again", precision="fp16")
    first, again = (load_bundle(folder).manifest for folder in (tiny_bundle, tmp_path / "again"))
    assert again.checkpoint_hash == first.checkpoint_hash and again.gallery == first.gallery
    assert again.files["clips.npz"].size and again.precision == "fp16"
    assert {memory.dtype for memory in again.spec.memories.values()} == {"float16"}
    types = {tensor.name: tensor.dtype for tensor in again.graphs["play"].inputs}
    assert types["memory"] == "float16" and types["noise"] == "int32"


@pytest.mark.slow
def test_without_reference_and_clips(checkpoint, tmp_path):
    (checkpoint / "clips.npz").unlink()
    export(checkpoint, tmp_path / "plain", reference=False)
    manifest = load_bundle(tmp_path / "plain").manifest
    assert manifest.reference is None and manifest.clips is None and manifest.gallery == ()
    with pytest.raises(UserError, match="holds no checkpoint"):
        export(tmp_path / "plain", tmp_path / "again")
