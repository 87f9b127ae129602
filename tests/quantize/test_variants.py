"""Other steps, and the teacher's decoder: the same world otherwise, and only where the codes are the same."""

from __future__ import annotations

import shutil

import numpy as np
import pytest

from pocketgenie.export.bundle import load_bundle
from pocketgenie.genie.checkpoint import (
    Lineage,
    checkpoint_hash,
    load_genie,
    read_config,
    save_config,
    save_part,
)
from pocketgenie.genie.graphs import load_world
from pocketgenie.importers import tinyworlds as tinyworlds_kind
from pocketgenie.quantize.candidates import Variant
from pocketgenie.quantize.variants import (
    make_variant,
    shares_codes,
    usable_teacher,
    variants,
)
from pocketgenie.runtimes.reference import paper_session, world_session
from pocketgenie.runtimes.table import load_session
from pocketgenie.training.evaluation import evaluate


@pytest.fixture(scope="module")
def teacher(tiny_checkpoint, tmp_path_factory):
    """A world with the same encoder as the tiny one, and another decoder."""
    return changed(tiny_checkpoint, tmp_path_factory.mktemp("teacher") / "teacher", "patch_out.weight")


@pytest.fixture(scope="module")
def student(tiny_checkpoint, teacher, tmp_path_factory):
    """The tiny world, which says that it was distilled from the teacher."""
    folder = tmp_path_factory.mktemp("student") / "student"
    shutil.copytree(tiny_checkpoint, folder)
    lineage = Lineage(teacher="../../" + "/".join(teacher.parts[-2:]), teacher_hash=checkpoint_hash(teacher))
    save_config(folder, read_config(folder), lineage)
    return folder


def changed(source, folder, weight):
    shutil.copytree(source, folder)
    genie = load_genie(folder)
    genie.tokenizer.get_parameter(weight).mul_(1.5)
    save_part(folder, "tokenizer", genie.tokenizer)
    return folder


def test_the_teachers_decoder_takes_part_where_the_codes_are_the_same(tiny_checkpoint, teacher, tmp_path):
    own = load_genie(tiny_checkpoint)
    assert shares_codes(own, load_genie(teacher))
    assert not shares_codes(own, own), "its own decoder is no other"
    assert not shares_codes(own, load_genie(changed(tiny_checkpoint, tmp_path / "x", "patch_in.weight")))


def test_which_variants_there_are(tiny_checkpoint, student, teacher):
    assert variants(tiny_checkpoint, None, ()) == [Variant(steps=steps) for steps in (2, 1, 4)]
    assert variants(tiny_checkpoint, None, (1, 64)) == [Variant(steps=2), Variant(steps=1)]
    assert [one.name for one in variants(student, teacher, (2,))] == ["N=2", "N=2, teacher's decoder"]


def test_other_kinds_are_tried_in_other_steps_where_they_say_how(tinyworlds, tiny_checkpoint, monkeypatch):
    assert variants(tinyworlds, None, ()) == [Variant(steps=steps) for steps in (4, 1, 2)]
    assert variants(tinyworlds, tinyworlds, (2,)) == [Variant(steps=4), Variant(steps=2)], "no decoder"
    assert usable_teacher(tinyworlds, tiny_checkpoint) is None
    monkeypatch.delattr(tinyworlds_kind, "with_steps")
    assert variants(tinyworlds, None, ()) == [Variant(steps=4)]


def test_a_teacher_that_is_not_the_one_named_is_none(tiny_checkpoint, student, teacher, tmp_path):
    assert usable_teacher(student, teacher) == teacher
    assert usable_teacher(student, tiny_checkpoint) is None
    assert usable_teacher(student, tmp_path) is None
    assert usable_teacher(tiny_checkpoint, teacher) is None


@pytest.mark.slow
def test_a_variant_plays_what_its_own_reference_plays(tiny_bundle, teacher, tmp_path):
    variant = Variant(steps=1, decoder="teacher")
    made = make_variant(load_bundle(tiny_bundle), teacher, variant, tmp_path / "variant")
    bundle = load_bundle(made.folder)
    assert bundle.manifest.spec.steps == 1 and bundle.manifest.recipe["steps"] == "1"
    world = load_world(bundle.folder / "reference")
    assert (world.genie.tokenizer.patch_out.weight == load_genie(teacher).tokenizer.patch_out.weight).all()
    with np.load(bundle.folder / "clips.npz") as file:
        clips = file["frames"]
    seen, truth, before = (
        evaluate(session, clips)
        for session in (
            load_session(bundle.folder, "ort-cpu"),
            world_session(world),
            load_session(tiny_bundle, "ort-cpu"),
        )
    )
    assert seen == pytest.approx(truth, abs=1e-3)
    assert abs(seen["recon_psnr_db"] - before["recon_psnr_db"]) > 0.01, "the decoder is the teacher's"


def test_the_paper_plays_25_steps_in_the_order_of_confidence(teacher):
    spec = paper_session(load_world(teacher)).spec
    assert (spec.steps, spec.order) == (16, "confidence"), "no more steps than tokens"
