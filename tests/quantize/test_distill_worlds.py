"""Steps are distilled of a world of any kind by the contract alone: small random ones of other projects, and
the native one as if it were foreign."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from pocketgenie.errors import UserError
from pocketgenie.genie.checkpoint import read_header, save_header
from pocketgenie.genie.spec import WorldSpec
from pocketgenie.importers.kinds import Distillable, load_world, read_kind
from pocketgenie.quantize.distill import DistillOptions, distill
from pocketgenie.quantize.distill_worlds import (
    Histories,
    Play,
    WorldDistillation,
    digits_of,
    distill_steps,
    freeze_idle,
    possible_wishes,
)
from pocketgenie.quantize.histories import Clips, read_clips, windows
from pocketgenie.quantize.students import Refinement, Shape, teacher_folder
from pocketgenie.runtimes.quality import not_comparable
from pocketgenie.training.loop import TrainOptions

CPU = torch.device("cpu")


def training(steps: int, **changes: object) -> TrainOptions:
    plain = {"batch": 4, "warmup": 3, "log_every": 5, "mixed_precision": "no", "learning_rate": 2e-3}
    return TrainOptions(**({"steps": steps} | plain | changes))  # type: ignore[arg-type]


def opened(folder: Path, teacher: Path):
    """The loss of a student's checkpoint folder, and what draws its batches of four."""
    kind, config = read_kind(folder)
    assert isinstance(kind, Distillable)
    student, taught = kind.load(folder, config), load_world(teacher)
    _, module = kind.trained(student)
    loss = WorldDistillation(student, module, taught, CPU)
    given = read_clips(teacher, next(teacher.glob("clips.*")), folder / "read.npz", False)
    return loss, lambda *wishes: Histories(Play(student, CPU), Play(taught, CPU), given, wishes, 4)


@pytest.fixture
def untrained(request, tmp_path):
    """Name of a teacher -> its own weights in one step."""

    def copy(name: str, steps: int = 1) -> Path:
        folder = tmp_path / "untrained"
        shutil.copytree(request.getfixturevalue(name), folder)
        header = read_header(folder)
        save_header(folder, header.model_copy(update={"config": {**header.config, "steps": steps}}))
        return folder

    return copy


@pytest.mark.parametrize(("name", "clips"), [("tinyworlds", "clips.npz"), ("onexgpt", "clips.npy")])
def test_a_student_comes_closer_to_its_teacher_and_is_a_whole_checkpoint(
    name, clips, request, untrained, tmp_path
):
    teacher, out = request.getfixturevalue(name), tmp_path / "student"
    options = DistillOptions(refinement=Refinement(steps=1), wishes=("frames", "remask"))
    distill("steps", teacher, teacher / clips, out, options, training(50))
    rows = [json.loads(line) for line in (out / "training/steps/metrics.jsonl").open()]
    early, late = (np.mean([row["loss"] for row in some]) for some in (rows[:3], rows[-3:]))
    assert late < early
    header, before = read_header(out), read_header(teacher)
    assert header.config == {**before.config, "steps": 1} and load_world(out).spec.steps == 1
    assert header.lineage is not None and header.lineage.recipe.keys() == {"steps"}
    for path in teacher.glob("*.safetensors"):
        ours, theirs = load_file(out / path.name), load_file(path)
        same = all(torch.equal(ours[key], theirs[key]) for key in theirs)
        assert same == (path.stem != "dynamics"), path.name
    plain, batches = opened(untrained(name), teacher)
    batch = [batches("frames", "remask").batch(np.random.default_rng(n)) for n in range(12)]
    with torch.no_grad():
        found = [
            np.mean([loss(*given)[0].item() for given in batch]) for loss in (opened(out, teacher)[0], plain)
        ]
    assert found[0] < 0.9 * found[1]


@pytest.mark.parametrize("wish", ["data", "frames", "remask"])
def test_a_run_that_stops_goes_on_to_the_same_weights(wish, tinyworlds, tmp_path):
    """The histories too, which are drawn with the weights of the moment."""
    whole, parts = tmp_path / "whole", tmp_path / "parts"
    given = tinyworlds, tinyworlds / "clips.npz"
    distill_steps(*given, whole, 2, (wish,), training(4, save_every=2, batch=2))

    class Stop(Exception):
        pass

    asked, batch = 0, Histories.batch

    def stop_at_the_last(*arguments):
        nonlocal asked
        asked += 1
        if asked == 5:  # one looks for idle weights before the first update
            raise Stop
        return batch(*arguments)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Histories, "batch", stop_at_the_last)
        with pytest.raises(Stop):
            distill_steps(*given, parts, 2, (wish,), training(4, save_every=2, batch=2))
    distill_steps(*given, parts, 2, (wish,), training(4, save_every=2, batch=2))
    one, other, before = (load_file(folder / "dynamics.safetensors") for folder in (whole, parts, tinyworlds))
    assert [name for name in one if not torch.equal(one[name], other[name])] == []
    assert any(not torch.equal(one[name], before[name]) for name in one)


def test_a_student_of_a_student_learns_from_the_first_teacher(tinyworlds, tmp_path):
    first, second = tmp_path / "first", tmp_path / "second"
    clips = tinyworlds / "clips.npz"
    distill_steps(tinyworlds, clips, first, 3, ("frames",), training(1, batch=1))
    distill_steps(first, clips, second, 2, ("frames",), training(1, batch=1))
    lineage = read_header(second).lineage
    assert lineage is not None and teacher_folder(second).resolve() == tinyworlds.resolve()
    assert lineage.recipe["steps"].startswith("4 to 2 steps, from frames")
    with pytest.raises(UserError, match="first is of a world of 4 steps: 4 are no fewer"):
        distill_steps(first, clips, tmp_path / "x", 4, ("frames",), training(1))


@pytest.mark.parametrize("name", ["tinyworlds", "onexgpt", "tiny_checkpoint"])
def test_what_is_masked_and_judged_is_what_the_student_does(name, request, untrained):
    """Native worlds too: the contract is the same."""
    folder = request.getfixturevalue(name) if name == "tiny_checkpoint" else untrained(name, 2)
    loss, batches = opened(folder, request.getfixturevalue(name))
    V = loss.spec.codebook
    judged = set()
    for wish in ("data", "frames", "remask"):
        for n in range(4):
            history, actions, last, wanted, hard, told, soft = batches(wish).batch(np.random.default_rng(n))
            for b in range(len(last)):
                masked = history[b, last[b]] == V
                where = (soft if wish == "remask" else hard)[b]
                assert where.any() and not (where & ~masked).any() and (wanted[b] < V).all()
                assert not (soft if wish != "remask" else hard)[b].any()
                assert torch.equal(history[b, last[b]][~masked], wanted[b][~masked])
                assert (history[b, : last[b]] < V).all() and (told[b][soft[b]] == V).all()
                assert actions[b, 0] == loss.spec.no_action
                judged.add(bool(masked.all()))
    assert judged == {True, False}, "the first step, in which all is masked, and the second"
    value, figures = loss(history, actions, last, wanted, hard, told, soft)
    assert torch.isfinite(value) and figures["kl_nats"] >= 0


def test_equal_worlds_of_several_digits_are_no_way_apart(onexgpt, untrained):
    loss, batches = opened(untrained("onexgpt"), onexgpt)
    history, actions, last, wanted, hard, told, soft = batches("remask").batch(np.random.default_rng(0))
    for b, frame in enumerate(last):
        told[b] = history[b, frame]
    value, figures = loss(history, actions, last, wanted, hard, told, soft)
    assert abs(value.item()) < 1e-5 and "same_choice" not in figures
    digits = digits_of(torch.arange(64), loss.spec)
    assert torch.equal(digits @ torch.tensor([1, 8]), torch.arange(64)) and digits.max() == 7


def test_weights_that_no_logit_depends_on_stay_as_they_are(tinyworlds, untrained):
    loss, batches = opened(untrained("tinyworlds"), tinyworlds)
    loss.model.register_parameter("idle", torch.nn.Parameter(torch.ones(2)))
    loss.model.requires_grad_(True)
    count = len(list(loss.parameters()))
    assert freeze_idle(loss, batches("frames").batch(np.random.default_rng(0)), CPU) == count - 1
    assert not loss.model.idle.requires_grad and all(weight.grad is None for weight in loss.parameters())
    assert not loss.train().model.training, "it is distilled as it is played"


def test_without_an_action_model_actions_are_drawn_and_real_frames_not_wished_for():
    sizes = {"name": "x", "height": 4, "width": 4, "grid": (2, 2), "codebook": 4, "steps": 2, "fps": 1}
    sizes |= {"temperature": 0, "action_frames": 0, "memories": {"dynamics": {"slots": 3, "entry": (1,)}}}
    several = WorldSpec.model_validate(sizes | {"actions": 3})
    assert possible_wishes(several, ("data", "frames")) == ["frames"]
    assert possible_wishes(several.model_copy(update={"actions": 1}), ("data",)) == ["data"]
    with pytest.raises(UserError, match="has no action model"):
        possible_wishes(several, ("data",))
    clips = Clips(several, np.zeros((1, 40, 4), np.int32), np.zeros((1, 40), np.int32))
    _, actions = clips.draw(np.random.default_rng(0))
    assert actions[0] == several.no_action and set(actions[1:]) == {0, 1, 2}
    assert not not_comparable(several)
    assert "one action" in not_comparable(several.model_copy(update={"actions": 1}))
    assert "no pixels" in not_comparable(several.model_copy(update={"frames": "tokens"}))


def test_windows_lie_side_by_side_and_reach_the_end():
    clips = np.arange(2 * 10).reshape(2, 10, 1)
    cut = windows(clips, 4)
    assert cut.shape == (6, 4, 1) and cut[:, 0, 0].tolist() == [0, 10, 4, 14, 6, 16]
    assert windows(clips, 99).shape == (2, 10, 1)
    with pytest.raises(UserError, match="single frames"):
        windows(clips[:, :1], 4)


def test_what_cannot_be_distilled_is_one_line(tinyworlds, untrained, tmp_path):
    clips = tinyworlds / "clips.npz"

    def refused(match: str, source: Path, what="steps", **options):
        with pytest.raises(UserError, match=match) as caught:
            distill(what, source, clips, tmp_path / "x", DistillOptions(**options), training(1))
        assert "\n" not in str(caught.value) and not (tmp_path / "x").exists()

    two = Refinement(steps=2)
    refused("kind tinyworlds, of which only the steps", tinyworlds, "tokenizer", shape=Shape(layers=1))
    refused("kind tinyworlds, of which only the steps", tinyworlds, shape=Shape(layers=1), refinement=two)
    refused("of which only the steps", tinyworlds, refinement=Refinement(steps=2, order="halton"))
    refused(
        "is of a world of 4 steps: 4 are no fewer; give --steps 3 or less",
        tinyworlds,
        refinement=Refinement(steps=4),
    )
    refused("draws a frame in one pass already", untrained("tinyworlds"), refinement=Refinement(steps=1))
