"""Students learn, are whole checkpoints, resume, and learn in two processes."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from pocketgenie.errors import UserError
from pocketgenie.genie.checkpoint import Part, load_genie, read_world
from pocketgenie.quantize.distill import DistillOptions, Histories, as_the_paper, distill
from pocketgenie.quantize.distill_losses import StepsDistillation, divergence
from pocketgenie.quantize.students import Refinement, Shape
from pocketgenie.training.loop import TrainOptions

LAUNCH = ["-m", "accelerate.commands.launch", "--multi_gpu", "--num_processes=2", "--main_process_port=0"]
ON_CPU = os.environ | {"ACCELERATE_USE_CPU": "true", "CUDA_VISIBLE_DEVICES": "", "OMP_NUM_THREADS": "1"}
PARTS: dict[str, Part] = {"tokenizer": "tokenizer", "lam": "lam", "dynamics": "dynamics", "steps": "dynamics"}


def training(steps: int, **changes: object) -> TrainOptions:
    plain = {"batch": 4, "warmup": 3, "log_every": 5, "mixed_precision": "no", "learning_rate": 3e-3}
    return TrainOptions(**({"steps": steps} | plain | changes))  # type: ignore[arg-type]


def metrics(folder: Path, what: str) -> list[dict[str, float]]:
    return [json.loads(line) for line in (folder / "training" / what / "metrics.jsonl").open()]


def students(what: str) -> DistillOptions:
    steps = Refinement(steps=1) if what == "steps" else Refinement()
    encoder = Shape(layers=1) if what == "tokenizer" else Shape()
    return DistillOptions(shape=Shape(layers=1), encoder=encoder, refinement=steps, wishes=("frames",))


@pytest.fixture
def clips(tiny_checkpoint):
    """The file, not its content."""
    return tiny_checkpoint / "clips.npz"


@pytest.mark.parametrize("what", PARTS)
def test_a_student_comes_closer_to_its_teacher_and_is_a_whole_checkpoint(
    what, tiny_checkpoint, clips, tmp_path
):
    out = tmp_path / "student"
    distill(what, tiny_checkpoint, clips, out, students(what), training(60))
    rows = metrics(out, what)
    early, late = (np.mean([row["loss"] for row in some]) for some in (rows[:3], rows[-3:]))
    assert late < early and np.isfinite(late)
    teacher, student = load_genie(tiny_checkpoint), load_genie(out)
    lineage = read_world(out).lineage
    assert lineage is not None and what in lineage.recipe
    for part in ("tokenizer", "lam", "dynamics"):
        if part != PARTS[what]:
            ours, theirs = (load_file(folder / f"{part}.safetensors") for folder in (out, tiny_checkpoint))
            assert all(torch.equal(ours[name], theirs[name]) for name in theirs)
    sizes = [sum(p.numel() for p in genie.part(PARTS[what]).parameters()) for genie in (student, teacher)]
    assert sizes[0] < sizes[1]
    assert student.config.spec().steps == (1 if what == "steps" else 2)


@pytest.mark.parametrize("wish", ["data", "frames", "remask"])
def test_a_run_that_stops_goes_on_to_the_same_weights(wish, tiny_checkpoint, clips, tmp_path):
    """The histories too, which are drawn with the weights of the moment."""
    options = DistillOptions(refinement=Refinement(steps=2), wishes=(wish,))
    whole, parts = tmp_path / "whole", tmp_path / "parts"
    distill("steps", tiny_checkpoint, clips, whole, options, training(6, save_every=3))

    class Stop(Exception):
        pass

    asked = 0

    def stop_at_five(*arguments):
        nonlocal asked
        asked += 1
        if asked == 5:
            raise Stop
        return batch(*arguments)

    batch = Histories.batch
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Histories, "batch", stop_at_five)
        with pytest.raises(Stop):
            distill("steps", tiny_checkpoint, clips, parts, options, training(6, save_every=3))
    distill("steps", tiny_checkpoint, clips, parts, options, training(6, save_every=3))
    one, other = (load_file(folder / "dynamics.safetensors") for folder in (whole, parts))
    assert [name for name in one if not torch.equal(one[name], other[name])] == []


def test_histories_are_real_then_the_students_and_wishes_are_what_they_say(tiny_checkpoint):
    genie, rng = load_genie(tiny_checkpoint), np.random.default_rng(0)
    tokens = torch.from_numpy(rng.integers(64, size=(4, 8, 16)))
    actions = torch.from_numpy(rng.integers(5, size=(4, 8)))

    def batch(wish):
        torch.manual_seed(1)
        made = Histories(
            *(genie.dynamics, genie.dynamics, genie.config, (wish,)), torch.no_grad, torch.device("cpu")
        )
        return made.batch(tokens, actions, np.random.default_rng(3))

    history, frames, _ = batch("frames")
    own = [t for t in range(8) if not torch.equal(history[:, t], tokens[:, t])]
    assert own and own == list(range(own[0], 8)) and own[0] >= 1
    asked = [t for t in own if (frames[:, t] >= 0).all()]
    assert len(asked) == 1 and (frames[:, [t for t in own if t not in asked]] == -1).all()
    again, remask, _ = batch("remask")
    assert torch.equal(history, again)
    assert (remask[:, own] == -1).all() and torch.equal(remask[:, : own[0]], tokens[:, : own[0]])
    real, wanted, _ = batch("data")
    assert torch.equal(real, tokens) and torch.equal(wanted, tokens)
    assert as_the_paper(genie.config.sampling, 1024).steps == 25


def test_only_the_tokens_of_one_step_are_judged(tiny_checkpoint):
    """With N = 1 everything is masked and judged; what is already shown never is."""
    genie = load_genie(tiny_checkpoint)
    loss = StepsDistillation(genie.dynamics, genie.dynamics, genie.config.grid, 3, "halton")
    seen: list[torch.Tensor] = []
    forward = genie.dynamics.forward_training

    def watched(history, masked, actions):
        seen.append(masked)
        return forward(history, masked, actions)

    tokens = torch.randint(64, (2, 4, 16))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(genie.dynamics, "forward_training", watched)
        loss(tokens, tokens, torch.zeros(2, 4, dtype=torch.long))
    hidden = (seen[0] == 64).sum(-1)
    assert set(hidden.flatten().tolist()) <= {16 - end for end in loss.ends[:-1].tolist()}
    shown = seen[0] != 64
    assert torch.equal(seen[0][shown], tokens[shown])


def test_divergence_is_zero_for_equal_logits_only():
    logits = torch.randn(5, 7)
    assert divergence(logits, logits + 3.0).abs() < 1e-6 < divergence(logits, logits.flip(-1))


def test_clips_too_short_for_the_action_model(tiny_checkpoint, tmp_path):
    np.savez(tmp_path / "clips.npz", frames=np.zeros((2, 2, 8, 8, 3), np.uint8))
    with pytest.raises(UserError, match="frames are 8x8, this world is 16x16"):
        distill("lam", tiny_checkpoint, tmp_path / "clips.npz", tmp_path / "x", DistillOptions(), training(1))
    assert not (tmp_path / "x").exists()


@pytest.mark.slow
def test_two_processes_distil_one_checkpoint(tiny_checkpoint, clips, tmp_path):
    """By the command line under `accelerate launch`, over gloo."""
    out = tmp_path / "student"
    command = [sys.executable, *LAUNCH, "-m", "pocketgenie", "distill", "steps", tiny_checkpoint]
    command += ["--steps", "1", "--layers", "1", "--clips", clips, "-o", out, "--updates", "20"]
    command += ["--batch", "4", "--mixed-precision", "no"]
    done = subprocess.run([*map(str, command)], env=ON_CPU, capture_output=True, text=True, timeout=280)
    assert done.returncode == 0, done.stderr[-3000:]
    assert [row["step"] for row in metrics(out, "steps")] == [20], "one process logs"
    assert load_genie(out).config.spec().steps == 1
    alone = tmp_path / "alone"
    distill(
        "steps",
        tiny_checkpoint,
        clips,
        alone,
        students("steps"),
        TrainOptions(steps=20, batch=4, learning_rate=5e-4, mixed_precision="no"),
    )
    one, two = (load_file(folder / "dynamics.safetensors") for folder in (alone, out))
    moved = [(one[name] - two[name]).abs().max().item() for name in one]
    assert max(moved) > 0, "the second process saw other clips"
