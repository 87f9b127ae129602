"""What a student inherits, how it is described, and what is refused."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from pocketgenie.errors import UserError
from pocketgenie.genie.checkpoint import Genie, checkpoint_hash, load_genie, read_world, save_part
from pocketgenie.quantize.students import Refinement, Shape, inherit, kept_layers, prepare, student_config

NOTHING = Shape(), Shape(), Refinement()


@given(st.integers(1, 60), st.data())
def test_kept_layers_are_spread_and_end_with_the_last(teacher, data):
    student = data.draw(st.integers(1, teacher))
    kept = kept_layers(teacher, student)
    gaps = [b - a for a, b in zip([-1, *kept], kept, strict=False)]
    assert len(kept) == student and kept[-1] == teacher - 1
    assert min(gaps) >= 1 and max(gaps) - min(gaps) <= 1


@pytest.fixture(scope="module")
def teacher(tiny_checkpoint: Path):
    return load_genie(tiny_checkpoint)


def test_a_student_of_the_same_size_is_its_teacher(teacher):
    student = Genie(student_config(teacher.config, "dynamics", *NOTHING))
    inherit(student, teacher)
    theirs = teacher.state_dict()
    assert all(torch.equal(weight, theirs[name]) for name, weight in student.state_dict().items())


def test_a_shallow_student_begins_with_the_teachers_last_layer(teacher):
    config = student_config(teacher.config, "tokenizer", Shape(layers=1), Shape(), Refinement())
    student = Genie(config)
    inherit(student, teacher)
    ours, theirs = student.tokenizer.decoder.state_dict(), teacher.tokenizer.decoder.state_dict()
    assert torch.equal(ours["blocks.0.ffn.1.weight"], theirs["blocks.1.ffn.1.weight"])
    assert torch.equal(student.tokenizer.patch_out.weight, teacher.tokenizer.patch_out.weight)
    assert len(student.tokenizer.encoder.blocks) == 2, "the encoder was not asked to shrink"


def test_a_narrow_student_begins_with_channels_of_the_teacher_heads_kept_apart(teacher):
    whole = teacher.config.dynamics.transformer
    small = Shape(dim=whole.dim // 2, heads=1, head_dim=whole.head_dim // 2, ffn=16)
    student = Genie(student_config(teacher.config, "dynamics", small, Shape(), Refinement()))
    inherit(student.dynamics, teacher.dynamics)
    ours, theirs = student.dynamics.transformer.state_dict(), teacher.dynamics.transformer.state_dict()
    h, k = whole.heads, whole.head_dim
    qkv = theirs["blocks.0.temporal.qkv.weight"].view(3, h, k, whole.dim)[:, 0, ::2, ::2]
    assert torch.equal(ours["blocks.0.temporal.qkv.weight"], qkv.flatten(0, 1))
    out = theirs["blocks.0.spatial.out.weight"].view(whole.dim, h, k)[::2, 0, ::2]
    assert torch.equal(ours["blocks.0.spatial.out.weight"], out)
    rows = torch.arange(16) * whole.ffn // 16
    assert torch.equal(ours["blocks.0.ffn.1.weight"], theirs["blocks.0.ffn.1.weight"][rows, ::2])
    assert torch.equal(student.dynamics.features, teacher.dynamics.features)


@pytest.mark.parametrize(
    ("what", "shape", "refinement", "why"),
    [
        ("dynamics", Shape(layers=3), Refinement(), "--layers 3 is more than the teacher's 2"),
        ("lam", Shape(head_dim=99), Refinement(), "--head-dim 99 is more than the teacher's 8"),
        ("steps", Shape(), Refinement(steps=99), "steps 99 exceeds the 16 tokens"),
    ],
)
def test_what_cannot_be_a_student_is_one_line(what, shape, refinement, why, teacher):
    with pytest.raises(UserError, match=why):
        student_config(teacher.config, what, shape, Shape(), refinement)


def test_a_student_of_a_student_knows_the_first_teacher(tiny_checkpoint, tmp_path):
    first, second, third = (tmp_path / name for name in ("first", "a/second", "third"))
    shutil.copytree(tiny_checkpoint, first)
    config = read_world(first).config
    prepare(first, second, config, "tokenizer", "tokenizer", "two of four")
    save_part(second, "tokenizer", load_genie(first).tokenizer)
    prepare(second, third, config, "dynamics", "steps", "one step")
    lineage = read_world(third).lineage
    assert lineage is not None and lineage.teacher == "../first"
    assert lineage.teacher_hash == checkpoint_hash(first)
    assert lineage.recipe == {"tokenizer": "two of four", "steps": "one step"}
    assert (third / "clips.npz").exists() and not (third / "dynamics.safetensors").exists()
    prepare(second, third, config, "dynamics", "steps", "one step, longer")  # the same student: gone on with
    lineage = read_world(third).lineage
    assert lineage is not None and lineage.recipe["steps"] == "one step, longer"
    other = student_config(config, "steps", Shape(), Shape(), Refinement(steps=1))
    with pytest.raises(UserError, match="holds another world"):
        prepare(second, third, other, "dynamics", "steps", "one step")
