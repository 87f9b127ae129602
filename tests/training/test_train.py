"""Each part learns; a run that was killed goes on as if it had not been; many processes are one."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from importlib import import_module

import numpy as np
import pytest
import torch
from safetensors import safe_open
from safetensors.torch import load_file
from torch import nn

from pocketgenie.errors import UserError
from pocketgenie.genie.checkpoint import Genie, Part, load_genie, save_config
from pocketgenie.training.data import crop_batch, load_clips
from pocketgenie.training.loop import (
    TrainOptions,
    fit,
    learning_rate_factor,
    make_accelerator,
    make_optimizers,
)
from pocketgenie.training.losses import LamLoss, TokenizerLoss
from pocketgenie.training.train import label_clips, train

PARTS: tuple[Part, ...] = ("tokenizer", "lam", "dynamics")
STEPS = {"tokenizer": 100, "lam": 60, "dynamics": 60}

# `accelerate launch --cpu` starts one process, whatever --num_processes says, but for MPI
LAUNCH = ["-m", "accelerate.commands.launch", "--multi_gpu", "--num_processes=2", "--main_process_port=0"]
ON_CPU = os.environ | {"ACCELERATE_USE_CPU": "true", "CUDA_VISIBLE_DEVICES": "", "OMP_NUM_THREADS": "1"}


def options(steps: int, **changes: object) -> TrainOptions:
    plain = {"batch": 8, "warmup": 5, "log_every": 10, "mixed_precision": "no"}
    return TrainOptions(**({"steps": steps} | plain | changes))  # type: ignore[arg-type]


def metrics(folder, part):
    return [
        json.loads(line) for line in (folder / "training" / part / "metrics.jsonl").read_text().splitlines()
    ]


def differences(a, b):
    """Names of the tensors of two safetensors files that are not equal to the bit."""
    first, second = load_file(a), load_file(b)
    assert first.keys() == second.keys()
    return [key for key in first if not torch.equal(first[key], second[key])]


def command(*arguments: object, launch: list[str] | None = None):
    """The command line, in a process of its own."""
    start = [sys.executable, *(launch or []), "-m", "pocketgenie", *map(str, arguments)]
    return subprocess.Popen(start, env=ON_CPU, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)


@pytest.fixture(scope="module")
def trained(config, clips, tmp_path_factory):
    """All three parts, one after the other."""
    folder = tmp_path_factory.mktemp("trained") / "world"
    for part in PARTS:
        train(part, config, clips, folder, options(STEPS[part]))
    return folder


@pytest.mark.parametrize("part", PARTS)
def test_the_loss_goes_down(part, trained):
    rows = metrics(trained, part)
    assert [row["step"] for row in rows] == list(range(10, STEPS[part] + 1, 10))
    assert rows[-1]["loss"] < 0.8 * rows[0]["loss"]
    assert all(np.isfinite(value) for row in rows for value in row.values())


def test_what_was_trained_loads_and_beats_what_was_not(config, clips, trained):
    frames = torch.from_numpy(load_clips(clips))
    torch.manual_seed(0)
    errors = []
    for genie in (load_genie(trained), Genie(config).eval()):
        drawn = genie.tokenizer.decode(genie.tokenizer.encode(frames))
        errors.append((drawn.float() - frames.float()).square().mean().item())
    assert errors[0] < 0.3 * errors[1]


@pytest.mark.parametrize("part", PARTS)
def test_tensorboard_has_the_figures(part, trained):
    events = import_module("tensorboard.backend.event_processing.event_accumulator")  # it ships no types
    log = events.EventAccumulator(str(trained / "training" / part / "tensorboard"))
    log.Reload()
    figures = metrics(trained, part)[-1].keys() - {"step"}
    assert figures <= set(log.Tags()["scalars"])
    assert [event.step for event in log.Scalars("loss")] == [row["step"] for row in metrics(trained, part)]


def test_a_finished_run_has_nothing_left_to_do(config, clips, trained):
    before = (trained / "tokenizer.safetensors").stat().st_mtime_ns
    train("tokenizer", config, clips, trained, options(STEPS["tokenizer"]))
    assert (trained / "tokenizer.safetensors").stat().st_mtime_ns == before


def beside(trained, folder, part):
    """A copy of the world in which `part` has not been trained yet."""
    save_config(folder, load_genie(trained).config)
    for other in PARTS[: PARTS.index(part)]:
        os.link(trained / f"{other}.safetensors", folder / f"{other}.safetensors")
    return folder


def test_kill_9_then_resume_equals_a_run_that_was_never_killed(config, clips, trained, tmp_path):
    """A real SIGKILL in the middle of the dynamics, which draws masks at random and has two optimizers."""
    folder, steps = beside(trained, tmp_path / "killed", "dynamics"), 120
    state = folder / "training" / "dynamics" / "state.safetensors"
    (tmp_path / "config.json").write_text(config.model_dump_json())
    # what `options` says, on the command line
    child = command(
        *("train", "dynamics", "--config", tmp_path / "config.json", "--clips", clips, "-o", folder),
        *("--steps", steps, "--batch", 8, "--mixed-precision", "no", "--save-every", 7),
    )
    deadline = time.monotonic() + 240
    while not state.exists() and child.poll() is None and time.monotonic() < deadline:
        time.sleep(0.002)
    child.send_signal(signal.SIGKILL)
    said, _ = child.communicate()
    assert child.returncode == -signal.SIGKILL, said
    with safe_open(state, "pt") as file:
        done = int(file.metadata()["step"])
    assert 0 < done < steps and done % 7 == 0

    plain = {"warmup": 50, "save_every": 7, "log_every": 20}
    train("dynamics", config, clips, folder, options(steps, **plain))
    whole = beside(trained, tmp_path / "whole", "dynamics")
    train("dynamics", config, clips, whole, options(steps, **plain))
    assert metrics(folder, "dynamics")[-1]["step"] == metrics(whole, "dynamics")[-1]["step"] == steps
    assert not differences(folder / "dynamics.safetensors", whole / "dynamics.safetensors")
    assert not differences(state, whole / "training" / "dynamics" / "state.safetensors")


class Stop(Exception):
    """Stands for whatever ends a run between two steps."""


@pytest.mark.parametrize("part", ["tokenizer", "lam"])
@pytest.mark.parametrize("optimizer", ["muon", "adamw"])
def test_a_run_that_stops_goes_on_to_the_same_weights(part, optimizer, config, clips, tmp_path):
    """Buffers too: the usage of the action codes, whose dead are revived at random."""
    frames = load_clips(clips)
    chosen = options(14, save_every=5, optimizer=optimizer)

    def run(folder, stop=None):
        torch.manual_seed(0)
        genie = Genie(config)
        loss = TokenizerLoss(genie.tokenizer) if part == "tokenizer" else LamLoss(genie.lam)

        def batch(rng):
            nonlocal stop
            if stop == 0:
                raise Stop
            stop = stop - 1 if stop else stop
            return (torch.from_numpy(crop_batch(frames, chosen.batch, 2, rng)),)

        fit(make_accelerator(chosen), loss, batch, chosen, folder, lambda _: None, part)
        return loss

    whole = run(tmp_path / "whole").state_dict()
    with pytest.raises(Stop):
        run(tmp_path / "stopped", stop=8)
    again = run(tmp_path / "stopped").state_dict()
    assert [key for key in whole if not torch.equal(whole[key], again[key])] == []


def small_run(config, clips, folder, **changes):
    train("tokenizer", config, clips, folder, options(4, **changes))
    return folder / "training" / "tokenizer" / "state.safetensors"


@pytest.mark.parametrize("damage", ["truncated", "garbage", "empty", "another model", "another optimizer"])
def test_a_state_that_cannot_be_resumed_is_one_line(damage, config, clips, tmp_path):
    state = small_run(config, clips, tmp_path / "world")
    weights = (tmp_path / "world" / "tokenizer.safetensors").read_bytes()
    changes: dict[str, object] = {}
    if damage == "truncated":
        state.write_bytes(state.read_bytes()[:-10])
    elif damage == "garbage":
        state.write_bytes(b"garbage" * 100)
    elif damage == "empty":
        state.write_bytes(b"")
    elif damage == "another model":
        state.write_bytes(weights)
    else:
        changes = {"optimizer": "adamw"}
    with pytest.raises(UserError, match=r"state\.safetensors cannot be resumed") as error:
        small_run(config, clips, tmp_path / "world", **changes)
    assert "\n" not in str(error.value)
    assert (tmp_path / "world" / "tokenizer.safetensors").read_bytes() == weights


def test_another_configuration_in_the_same_folder(config, clips, trained):
    other = config.model_copy(update={"name": "other"})
    with pytest.raises(UserError, match="begun with another configuration"):
        train("tokenizer", other, clips, trained, options(1))


def test_dynamics_before_the_tokenizer(config, clips, tmp_path):
    with pytest.raises(UserError, match="run `pocketgenie train tokenizer"):
        train("dynamics", config, clips, tmp_path, options(1))


def test_clips_too_short_for_the_action_model(config, tmp_path):
    longer = config.model_copy(update={"lam": config.lam.model_copy(update={"frames": 4})})
    np.savez(tmp_path / "clips.npz", frames=np.zeros((2, 3, 16, 16, 3), np.uint8))
    with pytest.raises(UserError, match="the clips have 3 frames, this world's action model needs 4"):
        train("lam", longer, tmp_path / "clips.npz", tmp_path / "world", options(1))


def test_a_loss_that_is_not_finite_ends_the_run(config, tmp_path):
    class Diverges(nn.Module):
        def __init__(self):
            super().__init__()
            self.model = nn.Linear(1, 1)

        def forward(self, x):
            return self.model(x).mean() * float("inf"), {}

    chosen = options(3)
    with pytest.raises(UserError, match="lower --learning-rate"):
        fit(
            make_accelerator(chosen),
            Diverges(),
            lambda rng: (torch.ones(1, 1),),
            chosen,
            tmp_path,
            print,
            "it",
        )


def test_labels_are_kept_and_know_what_they_were_made_from(clips, trained, tmp_path):
    genie, frames, cache = load_genie(trained), load_clips(clips), tmp_path / "labels.npz"
    tokens, actions = label_clips(genie, frames, cache)
    assert tokens.shape == (24, 8, 16) and actions.shape == (24, 8)
    assert (actions[:, 0] == genie.dynamics.no_action).all()
    pair = torch.from_numpy(frames[3, 4:6])[None]
    assert actions[3, 5] == genie.lam.infer(pair)[0] and actions[:, 1:].max() < genie.dynamics.no_action
    assert np.array_equal(tokens[:3], genie.tokenizer.encode(torch.from_numpy(frames[:3])))

    written = cache.stat().st_mtime_ns
    for kept, made in zip(label_clips(genie, frames, cache), (tokens, actions), strict=True):
        assert np.array_equal(kept, made)
    assert cache.stat().st_mtime_ns == written, "it was read"
    cache.write_bytes(cache.read_bytes()[:-40])
    assert np.array_equal(label_clips(genie, frames, cache)[0], tokens)
    written = cache.stat().st_mtime_ns
    genie.tokenizer.patch_out.bias.add_(1)
    genie.lam.decoder_position.add_(1)
    assert np.array_equal(label_clips(genie, frames, cache)[0], tokens)
    assert cache.stat().st_mtime_ns == written, "another decoder, the same labels"
    genie.tokenizer.latent_out.bias.add_(1)
    assert not np.array_equal(label_clips(genie, frames, cache)[0], tokens), "another tokenizer, other labels"
    assert not list(tmp_path.glob("*.part*"))


@pytest.mark.slow
def test_two_processes_train_one_checkpoint(config, clips, tmp_path):
    """Under `accelerate launch`, over gloo; held against the mean of both gradients, worked out here."""
    steps, batch = 6, 4
    (tmp_path / "config.json").write_text(config.model_dump_json())
    child = command(
        *(
            "train",
            "tokenizer",
            "--config",
            tmp_path / "config.json",
            "--clips",
            clips,
            "-o",
            tmp_path / "world",
        ),
        *("--steps", steps, "--batch", batch, "--mixed-precision", "no"),
        launch=LAUNCH,
    )
    said, _ = child.communicate(timeout=280)
    assert child.returncode == 0, said
    assert [row["step"] for row in metrics(tmp_path / "world", "tokenizer")] == [steps], "one process logs"
    assert sorted(path.name for path in (tmp_path / "world").iterdir()) == [
        "tokenizer.safetensors",
        "training",
        "world.json",
    ]

    chosen, frames = TrainOptions(steps=steps, batch=batch), load_clips(clips)
    torch.manual_seed(chosen.seed)
    loss = TokenizerLoss(Genie(config).tokenizer)
    for step in range(steps):
        if step == 0:
            optimizers = make_optimizers(loss, chosen)
        for process in range(2):
            rng = np.random.default_rng([chosen.seed, step, process])
            rng.integers(2**31)
            value, _ = loss(torch.from_numpy(crop_batch(frames, batch, 1, rng)))
            (value / 2).backward()
        nn.utils.clip_grad_norm_(loss.parameters(), 1.0)
        for optimizer in optimizers:
            for group in optimizer.param_groups:
                group["lr"] = chosen.learning_rate * learning_rate_factor(step, chosen)
            optimizer.step()
            optimizer.zero_grad()
    found = load_file(tmp_path / "world" / "tokenizer.safetensors")
    for key, value in loss.model.state_dict().items():
        assert (found[key] - value).abs().max() < 1e-5, key


TOGETHER = """
import os
import sys
from pathlib import Path
import torch
from accelerate import Accelerator
from pocketgenie.genie.config import load_config
from pocketgenie.genie.quantizer import VQ
from pocketgenie.training.loop import TrainOptions
from pocketgenie.training.train import train

config, clips, folder = sys.argv[1:]
options = TrainOptions(steps=3, batch=4, mixed_precision="no")
for part in ("lam", "dynamics"):  # both processes label the clips: one works, the other reads
    train(part, load_config(config), Path(clips), Path(folder), options)
accelerator = Accelerator()
torch.manual_seed(accelerator.process_index)
vq = VQ(8, 2).train()
vq.vectors.data.fill_(50)  # all codes but the first are dead
for _ in range(400):
    vq(torch.randn(16, 2) + accelerator.process_index)
everyone = accelerator.gather(vq.vectors.detach()[None])
assert accelerator.num_processes == 2 and everyone[:, 1:].abs().max() < 10
assert torch.equal(everyone[0], everyone[1]), "the processes revived different codes"
accelerator.end_training()
os._exit(0)  # all is asserted; gloo's threads have been seen to abort an ordinary exit
"""


@pytest.mark.slow
def test_two_processes_share_labels_and_codes(config, clips, trained, tmp_path):
    folder = beside(trained, tmp_path / "world", "lam")
    (tmp_path / "config.json").write_text(config.model_dump_json())
    (tmp_path / "together.py").write_text(TOGETHER)
    done = subprocess.run(
        [sys.executable, *LAUNCH, tmp_path / "together.py", tmp_path / "config.json", clips, folder],
        env=ON_CPU,
        capture_output=True,
        text=True,
        timeout=280,
    )
    assert done.returncode == 0, done.stderr[-3000:]
    load_genie(folder)
